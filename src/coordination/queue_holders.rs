//! Who holds the items of a queue, and which of the holders are dead.
//!
//! The protocol is "Queues" in docs/protocol.md (**Is it dead?**).

use crate::coordination::Coordination;
use crate::coordination::queue_keys::{HolderId, NOBODY, holder_id, holder_number};
use crate::coordination::queue_state::QueueState;
use crate::error::Result;
use crate::fallible;
use std::sync::atomic::Ordering;

/// Private to the process: the holders of items of one queue, as one call knows them.
#[derive(Default)]
pub(super) struct Holders {
    /// Those that were seen, without this process.
    seen: Vec<HolderId>,
    /// Those of them that were found dead, sorted.
    dead: Vec<HolderId>,
    /// Whether they were asked since the call last slept.
    pub(super) asked: bool,
}

/// The name of the holders in the error for a lack of memory.
const HOLDERS: &str = "a list of processes that hold items";

impl Holders {
    /// Lets wait what the dead hold, in a state that was read under the writer lock. Returns whether others hold items
    /// who are still to be asked whether they live: if it is time to ask, and the call has not asked yet.
    pub(super) fn give_back(
        &mut self,
        state: &mut QueueState,
        own: HolderId,
        is_time: impl FnOnce(&QueueState) -> bool,
    ) -> Result<bool> {
        if state.entries.is_empty() {
            return Ok(false);
        }
        state.give_back_of(&self.dead);
        Ok(!self.asked && is_time(state) && self.see(state, own)?)
    }

    /// Notes who holds items, but for this process. Returns whether anybody does.
    fn see(&mut self, state: &QueueState, own: HolderId) -> Result<bool> {
        self.seen.clear();
        for entry in &state.entries {
            if entry.owner != NOBODY && entry.owner != own && self.seen.last() != Some(&entry.owner) {
                fallible::push(&mut self.seen, entry.owner, HOLDERS)?;
            }
        }
        Ok(!self.seen.is_empty())
    }
}

impl Coordination {
    /// Asks who of the holders that were seen is dead. No lock is held here, because that takes system calls.
    #[cold]
    pub(super) fn ask_holders(&self, holders: &mut Holders) -> Result<()> {
        holders.asked = true;
        holders.dead.clear();
        holders.seen.sort_unstable();
        holders.seen.dedup();
        for owner in &holders.seen {
            if !self.holder_lives(*owner)? {
                fallible::push(&mut holders.dead, *owner, HOLDERS)?;
            }
        }
        Ok(())
    }

    /// Returns the id of a participant as a holder of items, with its present generation.
    pub fn holder_of(&self, number: u32) -> HolderId {
        holder_id(number, self.participant(number).map_or(0, |record| record.generation.load(Ordering::Relaxed)))
    }

    /// Returns whether a holder is alive and still the same one. An answer that is late cannot become wrong, because no
    /// other participant ever gets the same id.
    pub fn holder_lives(&self, holder: HolderId) -> Result<bool> {
        let number = holder_number(holder);
        let Some(record) = self.participant(number) else { return Ok(false) };
        let lives = record.state.load(Ordering::Acquire) == 1 && self.alive(number)?;
        // The generation is compared last: a number that was claimed anew meanwhile is another participant's.
        Ok(lives && self.holder_of(number) == holder)
    }
}
