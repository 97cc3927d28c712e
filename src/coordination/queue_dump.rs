//! The items of all queues, for a dump: passes without a lock, the last one under the writer lock.
//!
//! An item never changes, and a ticket is given once. So what was written of a queue is compared by its tickets, and a
//! queue whose slot has the word that was noted is not looked at. The protocol is "Dumps" in docs/protocol.md.

use crate::codec::dump_line::ValueOf;
use crate::coordination::Coordination;
use crate::coordination::queue_keys::ItemKey;
use crate::coordination::queue_state::QueueState;
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::SLOT;
use crate::key::IndexBuf;
use crate::os::mem::Scratch;
use crate::process::access::{MappedAccess, PreadAccess, reading};
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::sync::slot::{BUSY, Content};
use crate::variables::dump_locked::{BYTES_MOST, CHANGES_MOST, Compared};
use crate::variables::dump_log::{DumpLog, forked};
use crate::variables::large::LargeValue;
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::read::FoundValue;
use crate::variables::scan::ScanPass;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// The name of the notes in the error for a lack of memory.
const ITEMS: &str = "the items that a dump has written";
/// So many items that follow each other may be missing of a queue that is not damaged altogether.
const MISSING_MOST: u32 = 64;

/// Looks at the slots of a leaf, copied, with their numbers. `None`: the leaf has to be looked at anew.
type SeeLeaf<'a> = &'a mut dyn FnMut(&Leaf, &mut dyn Iterator<Item = (u64, Content)>) -> Result<Option<()>>;

/// Private to the process: what a dump remembers of the queues, by their numbers.
#[derive(Default)]
pub struct QueueNotes(HashMap<u64, NotedQueue>);

/// Private to the process: what was written of one queue.
#[derive(Default)]
struct NotedQueue {
    /// The word of its slot.
    word: u64,
    /// Tickets and lines, in the order of both.
    items: Vec<(u64, u32)>,
}

/// Private to the process: a queue as it was found: its name, the word of its slot, and what its record says.
struct FoundQueue {
    name: IndexBuf,
    word: u64,
    state: QueueState,
}

/// Private to the process: how what was written of a queue differs from what it is.
#[derive(Default)]
struct Difference {
    /// Lines of items that are there no more, or have to be written again to stay in order.
    gone: Vec<u32>,
    /// Tickets of the items that are not written, in order.
    fresh: Vec<u64>,
}

/// Private to the process: what of the queues has changed between the last pass without the lock and the instant of the
/// dump.
#[derive(Default)]
pub struct QueueFinds<'a> {
    gone: Vec<u32>,
    names: Vec<IndexBuf>,
    fresh: Vec<FreshItem<'a>>,
    bytes: Vec<u8>,
}

/// Private to the process: an item that was not written yet.
struct FreshItem<'a> {
    /// The number of its queue's name.
    name: usize,
    /// Where its value is in the bytes, if it is copied there.
    at: (usize, usize),
    large: Option<LargeValue<'a>>,
}

impl QueueNotes {
    /// Returns whether no queue had an item.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the numbers of the queues that were written whole, by the words of their slots.
    pub fn by_word(&self) -> Result<HashMap<u64, u64>> {
        let mut numbers = HashMap::new();
        fallible::reserve_in_map(&mut numbers, self.0.len(), ITEMS)?;
        numbers.extend(self.0.iter().filter(|(_, queue)| queue.word != 0).map(|(number, queue)| (queue.word, *number)));
        Ok(numbers)
    }
}

fn set_of<T: Eq + Hash>(all: impl ExactSizeIterator<Item = T>) -> Result<HashSet<T>> {
    let mut set = HashSet::new();
    fallible::reserve_in_set(&mut set, all.len(), ITEMS)?;
    set.extend(all);
    Ok(set)
}

/// What a queue is, beside what was written of it.
fn difference(noted: &[(u64, u32)], state: &QueueState) -> Result<Difference> {
    let mut difference = Difference::default();
    let is_taken = |ticket: u64| state.entries.binary_search_by_key(&ticket, |entry| entry.ticket).is_ok();
    let (below, above) = noted.split_at(noted.partition_point(|(ticket, _)| *ticket < state.head));
    for (_, line) in below.iter().filter(|(ticket, _)| !is_taken(*ticket)) {
        fallible::push(&mut difference.gone, *line, ITEMS)?;
    }
    let is_noted = |ticket: u64| noted.binary_search_by_key(&ticket, |(ticket, _)| *ticket).is_ok();
    for entry in state.entries.iter().filter(|entry| !is_noted(entry.ticket)) {
        fallible::push(&mut difference.fresh, entry.ticket, ITEMS)?;
    }
    let behind = above.last().map_or(state.head, |(last, _)| last + 1);
    if (behind - state.head) as usize > above.len() {
        for ticket in (state.head..behind).filter(|ticket| !is_noted(*ticket)) {
            fallible::push(&mut difference.fresh, ticket, ITEMS)?;
        }
    }
    // What comes behind an item that is still to be written is written once more, behind it.
    if let Some(first) = difference.fresh.first().copied() {
        for (ticket, line) in &noted[noted.partition_point(|(ticket, _)| *ticket < first)..] {
            if *ticket >= state.head || is_taken(*ticket) {
                fallible::push(&mut difference.gone, *line, ITEMS)?;
                fallible::push(&mut difference.fresh, *ticket, ITEMS)?;
            }
        }
        difference.fresh.sort_unstable();
    }
    fallible::reserve(&mut difference.fresh, state.tail.saturating_sub(behind) as usize, ITEMS)?;
    difference.fresh.extend(behind..state.tail);
    Ok(difference)
}

impl Coordination {
    /// Writes every item that was not written, and which of those that were written are there no more. Returns how many
    /// there were of both, and whether every item was found.
    pub fn dump_queues(
        &self,
        notes: &mut QueueNotes,
        log: &mut DumpLog<'_>,
        policy: &dyn WaitPolicy,
    ) -> Result<(u64, bool)> {
        let words = notes.by_word()?;
        let (found, same) = self.found_queues(&words, policy)?;
        let (mut changed, mut whole, mut scratch) = (0, true, Scratch::new());
        let mut numbers = set_of(found.iter().map(|queue| queue.state.queue))?;
        fallible::reserve_in_set(&mut numbers, same.len(), ITEMS)?;
        numbers.extend(same);
        let ended = notes.0.keys().filter(|number| !numbers.contains(*number)).copied();
        for number in fallible::collect(ended.map(Ok), ITEMS)? {
            for (_, line) in notes.0.remove(&number).unwrap_or_default().items {
                log.item_gone(line);
                changed += 1;
            }
            log.hand_over_much()?;
        }
        for FoundQueue { name, word, state } in found {
            fallible::reserve_in_map(&mut notes.0, 1, ITEMS)?;
            let noted = notes.0.entry(state.queue).or_default();
            let Difference { gone, fresh } = difference(&noted.items, &state)?;
            changed += (gone.len() + fresh.len()) as u64;
            let lines = set_of(gone.into_iter())?;
            noted.items.retain(|(_, line)| !lines.contains(line));
            for line in lines {
                log.item_gone(line);
            }
            let (mut complete, mut in_a_row) = (true, 0);
            for ticket in fresh {
                match self.dump_item((name.as_index(), state.queue, ticket), &mut scratch, log, policy)? {
                    Some(line) => {
                        in_a_row = 0;
                        fallible::push(&mut noted.items, (ticket, line), ITEMS)?;
                    }
                    None => (complete, in_a_row) = (false, in_a_row + 1),
                }
                if in_a_row > MISSING_MOST {
                    // They were taken meanwhile. Or the queue is damaged, which the last pass finds out.
                    break;
                }
                log.hand_over_much()?;
                policy.interrupted()?;
            }
            noted.word = if complete { word } else { 0 };
            whole &= complete;
        }
        Ok((changed, whole))
    }

    /// Writes an item. `None`: it is not there any more.
    fn dump_item(
        &self,
        (name, queue, ticket): (crate::key::Index<'_>, u64, u64),
        scratch: &mut Scratch,
        log: &mut DumpLog<'_>,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<u32>> {
        let key = ItemKey::new(queue, ticket);
        let Some(found) = self.find_entry(&key.name(), scratch, policy)? else { return Ok(None) };
        match self.value_of(found, policy)? {
            FoundValue::Record { prefix, .. } => {
                log.write_value(ValueOf::Item(name), &scratch.bytes()[prefix..]).map(Some)
            }
            FoundValue::Large(large) => log.write_large(ValueOf::Item(name), &large, policy),
            FoundValue::Inline { .. } => Err(Error::corrupt("an item in its slot")),
        }
    }

    /// Compares the queues with what was noted of them. The caller holds the writer lock. `besides`: so many changes,
    /// and bytes that were copied, were found already.
    pub fn dump_queues_locked<'a>(
        &'a self,
        (notes, words): (&QueueNotes, &HashMap<u64, u64>),
        besides: (usize, usize),
        finds: &mut QueueFinds<'a>,
    ) -> Result<Compared> {
        let (found, same) = self.found_queues(words, &Blocking)?;
        let (mut seen, mut scratch) = (set_of(same.into_iter())?, Scratch::new());
        fallible::reserve_in_set(&mut seen, found.len(), ITEMS)?;
        let nothing = NotedQueue::default();
        for FoundQueue { name, state, .. } in found {
            seen.insert(state.queue);
            let noted = notes.0.get(&state.queue).unwrap_or(&nothing);
            let Difference { gone, fresh } = difference(&noted.items, &state)?;
            fallible::reserve(&mut finds.gone, gone.len(), ITEMS)?;
            finds.gone.extend(gone);
            let name = {
                fallible::push(&mut finds.names, name, ITEMS)?;
                finds.names.len() - 1
            };
            let mut in_a_row = 0;
            for ticket in fresh {
                if besides.0 + finds.fresh.len() > CHANGES_MOST || besides.1 + finds.bytes.len() > BYTES_MOST {
                    return Ok(Compared::TooMuch);
                }
                let key = ItemKey::new(state.queue, ticket);
                // What is missing is damaged: the other items are dumped, if there are any.
                let Some(found) = self.find_entry(&key.name(), &mut scratch, &Blocking)? else {
                    in_a_row += 1;
                    if in_a_row > MISSING_MOST {
                        let name = finds.names[name].as_index();
                        return Err(Error::corrupt(format_args!(
                            "queue {name}: its items; clear it to dump the others"
                        )));
                    }
                    continue;
                };
                in_a_row = 0;
                let start = finds.bytes.len();
                let large = match self.value_of(found, &Blocking)? {
                    FoundValue::Record { prefix, .. } => {
                        let value = &scratch.bytes()[prefix..];
                        fallible::reserve(&mut finds.bytes, value.len(), ITEMS)?;
                        finds.bytes.extend_from_slice(value);
                        None
                    }
                    FoundValue::Large(large) if large.pinned() => Some(large),
                    FoundValue::Large(_) => return Ok(Compared::Unpinned),
                    FoundValue::Inline { .. } => return Err(Error::corrupt("an item in its slot")),
                };
                let at = (start, finds.bytes.len());
                fallible::push(&mut finds.fresh, FreshItem { name, at, large }, ITEMS)?;
            }
        }
        for (_, queue) in notes.0.iter().filter(|(number, _)| !seen.contains(number)) {
            fallible::reserve(&mut finds.gone, queue.items.len(), ITEMS)?;
            finds.gone.extend(queue.items.iter().map(|(_, line)| *line));
        }
        Ok(Compared::Whole)
    }

    /// Writes what was found under the lock, which is released by now.
    pub fn dump_queue_finds(
        &self,
        finds: QueueFinds<'_>,
        log: &mut DumpLog<'_>,
        policy: &dyn WaitPolicy,
    ) -> Result<()> {
        for line in finds.gone {
            log.item_gone(line);
            log.hand_over_much()?;
        }
        for FreshItem { name, at, large } in finds.fresh {
            let of = ValueOf::Item(finds.names[name].as_index());
            match large {
                Some(large) => {
                    log.write_large(of, &large, policy)?.ok_or_else(|| forked(&self.identity.key))?;
                }
                None => drop(log.write_value(of, &finds.bytes[at.0..at.1])?),
            }
            log.hand_over_much()?;
        }
        Ok(())
    }

    /// Finds all queues that have items: a pass over the table of the names, in which other slots are passed over at
    /// once. `words`: the numbers of queues by the words of their slots. Of those that have such a word the number alone
    /// is returned, and nothing else of them is looked at.
    fn found_queues(&self, words: &HashMap<u64, u64>, policy: &dyn WaitPolicy) -> Result<(Vec<FoundQueue>, Vec<u64>)> {
        let (mut all, mut same) = (Vec::new(), fallible::with_room(words.len(), ITEMS)?);
        self.pass_names(policy, &mut |leaf, slots| {
            let pass = ScanPass::new(self, *leaf, TableOf::Names);
            for (number, content) in slots {
                if content.word == 0 || !(content.word & BUSY == 1 || (content.is_entry() && content.is_queue())) {
                    continue;
                }
                if let Some(number) = words.get(&content.word) {
                    fallible::push(&mut same, *number, ITEMS)?;
                    continue;
                }
                let look = || reading!(self, |access| pass.slot(leaf.slot_at(number), access));
                let Some(found) = look()? else { return Ok(None) };
                let Some((name, found, state)) = self.read_queue_found(&pass, &found)? else { continue };
                fallible::push(&mut all, FoundQueue { name, word: found.content.word, state }, ITEMS)?;
            }
            Ok((!pass.is_given_up()).then_some(()))
        })?;
        // A leaf that was looked at anew gives its queues once more: the last look counts.
        let mut last = HashMap::new();
        fallible::reserve_in_map(&mut last, all.len(), ITEMS)?;
        last.extend(all.into_iter().map(|queue: FoundQueue| (queue.state.queue, queue)));
        let mut all = fallible::collect(last.into_values().map(Ok), ITEMS)?;
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok((all, same))
    }

    /// Returns a sum over the words of all slots of the table of the names. While it is the same, no item has come or
    /// gone.
    pub fn names_sum(&self, policy: &dyn WaitPolicy) -> Result<u64> {
        let mut sum = 0_u64;
        let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        self.pass_names(policy, &mut |leaf, slots| {
            sum = slots.fold(mix(sum, leaf.word.0), |sum, (_, content)| mix(sum, content.word));
            Ok(Some(()))
        })?;
        Ok(sum)
    }

    /// Gives `see` the slots of each leaf of the table of the names, copied, with their numbers. `see` returns `None`
    /// where the leaf has to be looked at anew.
    fn pass_names(&self, policy: &dyn WaitPolicy, see: SeeLeaf<'_>) -> Result<()> {
        let (mut scratch, mut backoff, mut hash) = (Scratch::new(), Backoff::default(), Some(0));
        while let Some(from) = hash {
            let copied = reading!(self, policy, |access| self.copy_leaf(from, TableOf::Names, &mut scratch, access))?;
            let seen = match &copied {
                Some(leaf) => {
                    let slots = scratch.bytes().chunks_exact(SLOT as usize);
                    let mut slots = slots.enumerate().skip(1).map(|(number, slot)| {
                        let word = |at: usize| u64::from_ne_bytes(slot[at..at + 8].try_into().expect("eight bytes"));
                        (number as u64, Content { word: word(0), rest: [word(8), word(16), word(24)] })
                    });
                    see(leaf, &mut slots)?
                }
                None => None,
            };
            match (copied, seen) {
                (Some(leaf), Some(())) => hash = leaf.end(from),
                _ => backoff.again(Obstacle::Changed, self, policy)?,
            }
            policy.interrupted()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::AsCoordination;
    use crate::coordination::queue_state::QueueEntry;

    fn state(taken: &[u64], head: u64, tail: u64) -> QueueState {
        let entries = taken.iter().map(|ticket| QueueEntry { ticket: *ticket, owner: 1, attempts: 1 }).collect();
        QueueState { head, tail, entries, ..QueueState::new(1) }
    }

    #[test]
    fn what_differs_is_found_and_written_in_the_order_of_the_tickets() {
        let noted = [(2, 20), (4, 21), (5, 22), (6, 23)];
        for (taken, head, tail, gone, fresh) in [
            (&[2, 4][..], 5, 7, vec![], vec![]),
            (&[4], 6, 9, vec![20, 22], vec![7, 8]),
            (&[], 7, 8, vec![20, 21, 22, 23], vec![7]),
            (&[], 20, 22, vec![20, 21, 22, 23], vec![20, 21]),
            // Ticket 3 was missed before: what comes behind it is written anew.
            (&[2, 3, 4], 5, 7, vec![21, 22, 23], vec![3, 4, 5, 6]),
            (&[2], 3, 8, vec![21, 22, 23], vec![3, 4, 5, 6, 7]),
        ] {
            let mut found = difference(&noted, &state(taken, head, tail)).unwrap();
            found.gone.sort_unstable();
            assert_eq!((found.gone, found.fresh), (gone, fresh), "{taken:?} {head} {tail}");
        }
        assert_eq!(difference(&[], &state(&[1], 3, 5)).unwrap().fresh, [1, 3, 4]);
    }

    #[test]
    fn a_queue_with_the_word_that_was_noted_is_not_read() {
        let key = crate::key::Key::text(&format!("queue-dump-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        for name in 0..40_i64 {
            assert!(segment.queue_put(name, b"item", None).unwrap());
        }
        let attachment = segment.attachment().unwrap();
        let (all, mut notes) = (attachment.coordination(), QueueNotes::default());
        let mut written = 0;
        let mut write = |bytes: &[u8]| -> Result<()> {
            written += bytes.len();
            Ok(())
        };
        let mut log = DumpLog::new(&mut write, &all.identity.key).unwrap();
        assert_eq!(all.dump_queues(&mut notes, &mut log, &Blocking).unwrap(), (40, true));
        let (found, same) = all.found_queues(&notes.by_word().unwrap(), &Blocking).unwrap();
        assert_eq!((found.len(), same.len()), (0, 40));
        assert!(segment.queue_put(7_i64, b"item", None).unwrap());
        let (found, same) = all.found_queues(&notes.by_word().unwrap(), &Blocking).unwrap();
        assert_eq!((found.len(), same.len()), (1, 39));
        segment.destroy().unwrap();
    }
}
