//! The bytes of a queue's record: reading them, with every number checked, and writing them.
//!
//! The bytes are "Queue" in docs/format.md; what they state is in `queue_state.rs`.

use crate::coordination::queue_state::{ATTEMPTS_MAX, ENTRIES, QueueEntry, QueueState};
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{ITEM_KEY, QUEUE_ENTRIES, QUEUE_ENTRY, QUEUE_HEAD, SLOT, VERSION_MAX};

/// Bytes of one of the two heads.
const HALF: usize = 32;
/// The least that an item is charged: its slot, and a record of the instant and the key alone.
const ITEM_CHARGE_MIN: u64 = SLOT + 8 + ITEM_KEY as u64;
/// How many entries have room in the first record of a queue: to take an item should seldom need a block, which a full
/// segment may not have.
const FIRST_ROOM: u64 = 32;
/// Where the attempts of an entry stand, above the ticket.
const ATTEMPTS_SHIFT: u32 = 52;
/// Set in the last word of a head where the second list of entries is the one in force.
const SECOND_LIST: u64 = 1 << 32;

/// Which parts of a record are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// The numbers alone.
    Numbers,
    /// The entries, too.
    All,
}

/// Private to the process: what is written into a queue's record, at places behind the name.
pub struct Edits {
    /// The head.
    pub head: (u64, [u8; HALF]),
    /// The list of entries.
    pub list: Option<(u64, Vec<u8>)>,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl QueueState {
    /// Reads a state from the bytes of a record behind the name. `second_head`: the second of the two heads is the one
    /// in force, as the slot says. `size` is the segment's: its items cannot have more bytes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if no process that keeps to the protocol could have written them.
    #[inline]
    pub fn parse(bytes: &[u8], second_head: bool, parts: Parts, size: u64) -> Result<Self> {
        Self::parse_sound(bytes, second_head, parts)?
            .filter(|state| state.bytes <= size)
            .ok_or_else(|| Error::corrupt(format_args!("the {} bytes of a queue", bytes.len())))
    }

    #[inline]
    fn parse_sound(bytes: &[u8], second_head: bool, parts: Parts) -> Result<Option<Self>> {
        let Some(lists) = bytes.len().checked_sub(QUEUE_HEAD as usize) else { return Ok(None) };
        let half = &bytes[8 + HALF * usize::from(second_head)..];
        let last = word(half, 24);
        let (count, returned) = (last & 0xffff, last >> 16 & 0xffff);
        let room = (lists / 2 / QUEUE_ENTRY as usize) as u64;
        let state = QueueState {
            queue: word(bytes, 0),
            head: word(half, 0),
            tail: word(half, 8),
            bytes: word(half, 16),
            stated: (count, returned),
            room,
            second_list: last & SECOND_LIST != 0,
            ..QueueState::new(0)
        };
        let sound = lists as u64 == room * 2 * QUEUE_ENTRY
            && room <= QUEUE_ENTRIES
            && count <= room
            && returned <= count
            && last >> 33 == 0
            && state.head <= state.tail
            && state.tail < VERSION_MAX
            && (1..VERSION_MAX).contains(&state.queue)
            && (count > 0 || state.head < state.tail)
            // Without this, a damaged number would state items by the billion, each of which would be looked for.
            && state.items() <= state.bytes / ITEM_CHARGE_MIN;
        if !sound || count == 0 || parts == Parts::Numbers {
            return Ok(sound.then_some(state));
        }
        state.with_entries(&bytes[QUEUE_HEAD as usize..])
    }

    /// Reads the entries. `None`: they are not sound.
    fn with_entries(mut self, lists: &[u8]) -> Result<Option<Self>> {
        let (count, returned) = self.stated;
        // One more, so that an item can be taken.
        fallible::reserve(&mut self.entries, count as usize + 1, ENTRIES)?;
        let list = &lists[lists.len() / 2 * usize::from(self.second_list)..];
        for entry in list.chunks_exact(QUEUE_ENTRY as usize).take(count as usize) {
            let (ticket, owner) = (word(entry, 0), word(entry, 8));
            let (ticket, attempts) = (ticket & (VERSION_MAX - 1), (ticket >> ATTEMPTS_SHIFT) as u32);
            if ticket >= self.head || self.entries.last().is_some_and(|last| last.ticket >= ticket) {
                return Ok(None);
            }
            self.entries.push(QueueEntry { ticket, owner, attempts });
        }
        Ok((self.returned() == returned).then_some(self))
    }

    /// Returns the head that states the numbers.
    #[inline]
    fn head_bytes(&self) -> [u8; HALF] {
        let (count, returned) = match self.changed {
            true => (self.entries.len() as u64, self.returned()),
            false => self.stated,
        };
        let last = count | returned << 16 | if self.second_list { SECOND_LIST } else { 0 };
        let mut bytes = [0; HALF];
        for (to, word) in bytes.chunks_exact_mut(8).zip([self.head, self.tail, self.bytes, last]) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Returns the bytes of the entries.
    fn entry_bytes(&self, len: u64) -> Result<Vec<u8>> {
        let mut bytes = fallible::with_room(len as usize, ENTRIES)?;
        for entry in &self.entries {
            let attempts = u64::from(entry.attempts).min(ATTEMPTS_MAX);
            bytes.extend_from_slice(&(entry.ticket | attempts << ATTEMPTS_SHIFT).to_ne_bytes());
            bytes.extend_from_slice(&entry.owner.to_ne_bytes());
        }
        Ok(bytes)
    }

    /// Returns what has to be written so that the record states this: into which places behind the name, and what. Only
    /// places are written that are not in force. `None`: the record has no room for so many entries.
    pub fn edits(&mut self, second_head: bool) -> Result<Option<Edits>> {
        if !self.changed {
            return Ok(Some(Edits {
                head: (8 + (HALF * usize::from(!second_head)) as u64, self.head_bytes()),
                list: None,
            }));
        }
        if self.entries.len() as u64 > self.room {
            return Ok(None);
        }
        self.second_list = !self.second_list;
        let at = QUEUE_HEAD + if self.second_list { self.room * QUEUE_ENTRY } else { 0 };
        let list = (at, self.entry_bytes(self.entries.len() as u64 * QUEUE_ENTRY)?);
        Ok(Some(Edits { head: (8 + (HALF * usize::from(!second_head)) as u64, self.head_bytes()), list: Some(list) }))
    }

    /// Returns the bytes of a new record behind the name, whose first head is the one in force.
    pub fn record(&mut self) -> Result<Vec<u8>> {
        let needed = if self.changed { self.entries.len() as u64 } else { self.stated.0 };
        if needed > self.room || self.room == 0 {
            self.room = (needed * 2).next_power_of_two().clamp(FIRST_ROOM, QUEUE_ENTRIES);
        }
        self.second_list = false;
        let len = QUEUE_HEAD + 2 * self.room * QUEUE_ENTRY;
        let mut bytes = fallible::with_room(len as usize, ENTRIES)?;
        bytes.extend_from_slice(&self.queue.to_ne_bytes());
        bytes.extend_from_slice(&self.head_bytes());
        bytes.resize(QUEUE_HEAD as usize, 0);
        bytes.extend_from_slice(&self.entry_bytes(needed * QUEUE_ENTRY)?);
        bytes.resize(len as usize, 0);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::queue_state::FirstItem;

    /// The size of the segment.
    const SIZE: u64 = 1 << 20;

    /// Reads what a record states after edits were made to it.
    fn edited(record: &mut [u8], state: &mut QueueState, second_head: bool) -> QueueState {
        let edits = state.edits(second_head).unwrap().expect("room");
        for (at, bytes) in
            edits.list.iter().map(|(at, bytes)| (*at, &bytes[..])).chain([(edits.head.0, &edits.head.1[..])])
        {
            record[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        }
        QueueState::parse(record, !second_head, Parts::All, SIZE).unwrap()
    }

    #[test]
    fn a_state_reads_back_from_its_record_and_what_is_edited_leaves_what_is_in_force() {
        let mut state = QueueState { tail: 9, bytes: 9 * ITEM_CHARGE_MIN, ..QueueState::new(7) };
        let record = state.record().unwrap();
        assert_eq!(record.len() as u64, QUEUE_HEAD + 2 * FIRST_ROOM * QUEUE_ENTRY);
        let mut read = QueueState::parse(&record, false, Parts::All, SIZE).unwrap();
        assert_eq!((read.waiting(), read.items(), read.first()), (9, 9, Some(FirstItem::New)));
        for owner in [5, 6] {
            assert_eq!(read.hold(FirstItem::New, owner).unwrap(), Some(1));
        }
        let mut many = QueueState { tail: 100, bytes: 100 * ITEM_CHARGE_MIN, ..read.clone() };
        for owner in 7..FIRST_ROOM + 6 {
            many.hold(FirstItem::New, owner).unwrap();
        }
        assert!(many.edits(false).unwrap().is_none(), "there is no room for one entry more");
        assert_eq!(many.record().unwrap().len() as u64, QUEUE_HEAD + 2 * 128 * QUEUE_ENTRY);
        let mut record = {
            let record_of_two = read.record().unwrap();
            assert_eq!(record_of_two.len() as u64, QUEUE_HEAD + 2 * FIRST_ROOM * QUEUE_ENTRY);
            record_of_two
        };
        let (first, before) = (QueueState::parse(&record, false, Parts::All, SIZE).unwrap(), record.clone());
        let mut next = first.clone();
        next.give_back_of(&[5]);
        let second = edited(&mut record, &mut next, false);
        assert_eq!((second.waiting(), second.items(), second.first()), (8, 9, Some(FirstItem::Returned(0))));
        assert_eq!(
            QueueState::parse(&record, false, Parts::All, SIZE).unwrap(),
            first,
            "what was in force is as it was"
        );
        let mut third = second.clone();
        assert_eq!(third.hold(FirstItem::Returned(0), 8).unwrap(), Some(2));
        let third = edited(&mut record, &mut third, true);
        assert_eq!(third.entries[0], QueueEntry { ticket: 0, owner: 8, attempts: 2 });
        // A put changes the numbers alone.
        let mut put = QueueState::parse(&record, false, Parts::Numbers, SIZE).unwrap();
        (put.tail, put.bytes) = (put.tail + 1, put.bytes + ITEM_CHARGE_MIN);
        let put = edited(&mut record, &mut put, false);
        assert_eq!((put.tail, &put.entries), (10, &third.entries));
        for at in [8, 16, 32, 34, 37, 0, 4 + 72] {
            let mut damaged = before.clone();
            damaged[at] = 0xee;
            damaged[at + 1] = 0xee;
            assert!(matches!(QueueState::parse(&damaged, false, Parts::All, SIZE), Err(Error::Corrupt(_)) | Ok(_)));
        }
        // A number far off states more items than have their charge in it, or more bytes than there are.
        for (at, number) in [(16, 1 << 44), (16, 10), (24, 9 * ITEM_CHARGE_MIN - 1), (24, SIZE + 1)] {
            let mut damaged = before.clone();
            damaged[at..at + 8].copy_from_slice(&u64::to_ne_bytes(number));
            for parts in [Parts::All, Parts::Numbers] {
                let read = QueueState::parse(&damaged, false, parts, SIZE);
                assert!(matches!(read, Err(Error::Corrupt(_))), "{number} at {at}");
            }
        }
        assert!(QueueState::parse(&before[..71], false, Parts::All, SIZE).is_err());
        assert!(QueueState::parse(&before[..104], false, Parts::All, SIZE).is_err());
        assert!(QueueState::parse(&before, true, Parts::All, SIZE).is_err(), "the other head is no state yet");
    }
}
