//! What this process knows of the items of queues that it has taken: which handle took each of them. The segment knows
//! only that the process holds the item. Taking and giving back stand on the floor `coordination`. The protocol is
//! "Queues" in `docs/protocol.md`, **Who holds**.

use crate::error::Result;
use crate::fallible;
use crate::key::{Index, IndexBuf};
use crate::os::fork::{self, ForkMutex};
use std::sync::atomic::AtomicBool;

/// What a memory error calls the lists below.
const HOLDS: &str = "a list of items that were taken";

/// Private to the process: an item that it has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueHold {
    /// The name of the queue.
    pub name: IndexBuf,
    /// The number of the queue.
    pub queue: u64,
    /// The item's ticket.
    pub ticket: u64,
    /// The handle through which it was taken.
    pub handle: u64,
}

/// How a hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldEnd {
    /// The work is done: the item goes.
    Done,
    /// The item waits again.
    GivenBack,
}

/// Private to the process: what it remembers of the segment's queues.
#[derive(Default)]
pub struct ProcessQueues {
    /// The items that this process holds.
    pub holds: ForkMutex<QueueHolds>,
    /// `false`: no item is held, so `holds` need not be looked at when a handle is detached.
    pub any: AtomicBool,
}

/// Private to the process: the list of the items that it holds.
#[derive(Default)]
pub struct QueueHolds {
    /// The epoch of the process that the list belongs to.
    epoch: u32,
    held: Vec<QueueHold>,
    /// Items that are still this process's, because their holds could not be ended yet; and how they are to end.
    put_off: Vec<(QueueHold, HoldEnd)>,
}

impl QueueHolds {
    /// Returns the list, which is empty in a forked child: a child holds no item of its parent.
    fn current(&mut self) -> &mut Vec<QueueHold> {
        if self.epoch != fork::epoch() {
            *self = QueueHolds { epoch: fork::epoch(), ..QueueHolds::default() };
        }
        &mut self.held
    }

    /// Makes what is to be remembered of an item, and reserves memory for it. Called before the item is taken, so that
    /// nothing can fail afterwards.
    pub fn prepare(&mut self, name: &Index<'_>, (queue, ticket): (u64, u64), handle: u64) -> Result<QueueHold> {
        let held = self.current();
        fallible::reserve(held, 1, HOLDS)?;
        // The end of each of them may have to be put off.
        let more = held.len() + 1;
        fallible::reserve(&mut self.put_off, more, HOLDS)?;
        let name = match name {
            Index::Int(number) => IndexBuf::Int(*number),
            Index::Text(text) => IndexBuf::Text(fallible::text(text, HOLDS)?),
        };
        Ok(QueueHold { name, queue, ticket, handle })
    }

    /// Adds an item that was taken. [`QueueHolds::prepare`] has reserved the memory.
    pub fn add(&mut self, hold: QueueHold) {
        self.current().push(hold);
    }

    /// Tells whether this process still holds an item.
    pub fn has(&mut self, queue: u64, ticket: u64) -> bool {
        self.current().iter().any(|hold| (hold.queue, hold.ticket) == (queue, ticket))
    }

    /// Removes an item that is not held any more.
    pub fn remove(&mut self, queue: u64, ticket: u64) {
        let is_other = |hold: &QueueHold| (hold.queue, hold.ticket) != (queue, ticket);
        self.current().retain(is_other);
        self.put_off.retain(|(hold, _)| is_other(hold));
    }

    /// Returns one item that was taken through a handle.
    pub fn find_by_handle(&mut self, handle: u64) -> Option<QueueHold> {
        self.current().iter().find(|hold| hold.handle == handle).cloned()
    }

    /// Puts off the end of a hold, which could not be made.
    pub fn put_off(&mut self, queue: u64, ticket: u64, end: HoldEnd) {
        let place = self.current().iter().position(|hold| (hold.queue, hold.ticket) == (queue, ticket));
        if let Some(place) = place {
            // The list has had space for this one since it was taken.
            let hold = self.current().swap_remove(place);
            self.put_off.push((hold, end));
        }
    }

    /// Returns one hold that is still to be ended, and how. `None`: there is none.
    pub fn next_put_off(&mut self) -> Option<(QueueHold, HoldEnd)> {
        self.current();
        self.put_off.last().cloned()
    }

    /// Tells whether a hold is still to be ended.
    pub fn any_put_off(&mut self) -> bool {
        self.current();
        !self.put_off.is_empty()
    }

    /// Tells whether this process holds no item.
    pub fn is_empty(&mut self) -> bool {
        self.current().is_empty() && self.put_off.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_held_until_it_is_removed_and_belongs_to_its_handle() {
        let (mut holds, name) = (QueueHolds::default(), Index::Text("jobs"));
        for (ticket, handle) in [(1, 7), (2, 8)] {
            let hold = holds.prepare(&name, (5, ticket), handle).unwrap();
            holds.add(hold);
        }
        assert!(holds.has(5, 1) && holds.has(5, 2) && !holds.has(6, 1));
        assert_eq!(holds.find_by_handle(8).map(|hold| hold.ticket), Some(2));
        holds.put_off(5, 2, HoldEnd::Done);
        assert!(!holds.has(5, 2) && holds.find_by_handle(8).is_none());
        assert_eq!(holds.next_put_off().map(|(hold, end)| (hold.ticket, end)), Some((2, HoldEnd::Done)));
        holds.remove(5, 2);
        assert!(holds.next_put_off().is_none() && !holds.is_empty());
        holds.remove(5, 1);
        assert!(holds.is_empty());
    }
}
