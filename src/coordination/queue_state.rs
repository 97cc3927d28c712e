//! What a queue's record says, as a process works on its copy: which item waits first, who holds which.
//!
//! The bytes are in `queue_record.rs`. When they change is decided in `queue_put.rs`, `queue_take.rs` and
//! `queue_finish.rs`.

use crate::coordination::queue_keys::{HolderId, NOBODY};
use crate::error::Result;
use crate::fallible;
use crate::format::QUEUE_ENTRIES;

/// The name of the entries in the error for a lack of memory.
pub(super) const ENTRIES: &str = "the entries of a queue";
/// The most attempts that an entry states.
pub(super) const ATTEMPTS_MAX: u64 = 0xfff;

/// Private to the process: an item that was taken, as the record of its queue states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// The item's ticket.
    pub ticket: u64,
    /// The participant that holds the item. [`NOBODY`]: the item waits.
    pub owner: HolderId,
    /// How often the item was taken.
    pub attempts: u32,
}

/// Private to the process: a copy of what the record of a queue says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// The number of the queue, which no other queue of the segment ever has.
    pub queue: u64,
    /// No item with this ticket or a later one was ever taken.
    pub head: u64,
    /// The ticket of the next item that is put.
    pub tail: u64,
    /// The sum of the charges of the items.
    pub bytes: u64,
    /// The items that were taken and are still there, in the order of their tickets. Empty in a copy without entries.
    pub entries: Vec<QueueEntry>,
    /// The number of entries, and of those that nobody holds, as the record says; the entries themselves may have
    /// changed since.
    pub(super) stated: (u64, u64),
    /// How many entries have room in each of the record's two lists.
    pub(super) room: u64,
    /// Whether the second list is the one in force.
    pub(super) second_list: bool,
    /// Whether the entries have changed since they were read.
    pub(super) changed: bool,
}

/// Private to the process: which item waits first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstItem {
    /// That of this entry, which nobody holds.
    Returned(usize),
    /// That of the ticket `head`, which was never taken.
    New,
}

impl QueueState {
    /// Makes the state of a queue without items.
    pub fn new(queue: u64) -> Self {
        QueueState {
            queue,
            head: 0,
            tail: 0,
            bytes: 0,
            entries: Vec::new(),
            stated: (0, 0),
            room: 0,
            second_list: false,
            changed: false,
        }
    }

    /// Returns how many entries nobody holds.
    pub(super) fn returned(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.owner == NOBODY).count() as u64
    }

    /// Returns the number of items that wait, as the record says.
    pub fn waiting(&self) -> u64 {
        self.tail - self.head + self.stated.1
    }

    /// Returns the number of items, as the record says.
    pub fn items(&self) -> u64 {
        self.tail - self.head + self.stated.0
    }

    /// Returns `true` if there is no item, waiting or held.
    pub fn is_over(&self) -> bool {
        self.head == self.tail && if self.changed { self.entries.is_empty() } else { self.stated.0 == 0 }
    }

    /// Returns `true` if the record has as many entries as it may.
    pub fn has_all_entries(&self) -> bool {
        self.entries.len() as u64 >= QUEUE_ENTRIES
    }

    /// Returns which item waits first. `None`: none waits.
    pub fn first(&self) -> Option<FirstItem> {
        let returned = self.entries.iter().position(|entry| entry.owner == NOBODY);
        returned.map(FirstItem::Returned).or((self.head < self.tail).then_some(FirstItem::New))
    }

    /// Returns the ticket of an item that waits.
    pub fn ticket_of(&self, item: FirstItem) -> u64 {
        match item {
            FirstItem::Returned(place) => self.entries[place].ticket,
            FirstItem::New => self.head,
        }
    }

    /// Removes an item that waits.
    pub fn remove_waiting(&mut self, item: FirstItem) {
        match item {
            FirstItem::Returned(place) => self.remove_entry(place),
            FirstItem::New => self.head += 1,
        }
    }

    /// Removes an entry.
    pub fn remove_entry(&mut self, place: usize) {
        self.entries.remove(place);
        self.changed = true;
    }

    /// Gives an item that waits to a participant. Returns how often it was taken by then. `None`: there are as many
    /// entries as a record can have.
    pub fn hold(&mut self, item: FirstItem, owner: HolderId) -> Result<Option<u32>> {
        match item {
            FirstItem::Returned(place) => {
                let entry = &mut self.entries[place];
                (entry.owner, entry.attempts) = (owner, entry.attempts.saturating_add(1).min(ATTEMPTS_MAX as u32));
                self.changed = true;
                Ok(Some(entry.attempts))
            }
            FirstItem::New if self.has_all_entries() => Ok(None),
            FirstItem::New => {
                fallible::reserve(&mut self.entries, 1, ENTRIES)?;
                self.entries.push(QueueEntry { ticket: self.head, owner, attempts: 1 });
                self.head += 1;
                self.changed = true;
                Ok(Some(1))
            }
        }
    }

    /// Returns the place of the entry of an item that a participant holds.
    pub fn held_by(&self, ticket: u64, owner: HolderId) -> Option<usize> {
        self.entries.iter().position(|entry| entry.ticket == ticket && entry.owner == owner)
    }

    /// Lets an item wait again.
    pub fn give_back(&mut self, place: usize) {
        self.entries[place].owner = NOBODY;
        self.changed = true;
    }

    /// Gives back what dead participants hold. `dead` is sorted.
    pub fn give_back_of(&mut self, dead: &[HolderId]) {
        for entry in self.entries.iter_mut().filter(|entry| dead.binary_search(&entry.owner).is_ok()) {
            entry.owner = NOBODY;
            self.changed = true;
        }
    }
}
