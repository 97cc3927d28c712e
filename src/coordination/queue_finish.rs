//! What ends a hold: an item is done, or given back. And the removal of all items that wait.
//!
//! The protocol is "Queues" in docs/protocol.md (*done*, *give back*, *clear*, **Who holds**).

use crate::coordination::queue_edit::{CLEARED_AT_ONCE, Lacking, QueueEdit, WorkArounds};
use crate::coordination::queue_holders::Holders;
use crate::coordination::queue_record::Parts;
use crate::coordination::queue_state::{FirstItem, QueueState};
use crate::coordination::{AsCoordination, Coordination, CoordinationWriter};
use crate::error::{Error, Result};
use crate::key::Index;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::deadline::WithDeadline;
use crate::process::queue_holds::{HoldEnd, QueueHold};
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::variables::leaf::Leaf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long whoever gives an item back waits for a writer that is stopped.
const RELEASE_LIMIT: Duration = Duration::from_millis(500);

/// So many items in a row that are missing are the work of damage: the queue is removed as a whole.
const MISSING_MAX: u64 = 64;

/// What ending a hold changes.
enum Ended {
    /// It is made: how many bytes were freed; the leaf that is nearly empty; whether as many items were held as may be.
    Made { freed: u64, sparse: Option<(Leaf, u64)>, was_crowded: bool },
    /// This process does not hold the item.
    NotHeld,
    /// Something has to be obtained first.
    Lacks(Lacking),
}

impl Coordination {
    /// Ends a hold. Returns `false` if this process does not hold the item (any more). After an error it still does.
    pub fn end_hold(&self, hold: &QueueHold, end: HoldEnd, policy: &dyn WaitPolicy) -> Result<bool> {
        let name = hold.name.as_index();
        let (mut around, mut backoff) = (WorkArounds::default(), Backoff::default());
        // A forked child asks for no participant number only to find that it holds nothing.
        if !self.queues.holds.lock().has(hold.queue, hold.ticket) {
            return Ok(false);
        }
        let (freed, sparse, was_crowded) = loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let mut writer = self.write(policy)?;
            if !self.queues.holds.lock().has(hold.queue, hold.ticket) {
                return Ok(false);
            }
            let ended = writer.end_hold_now(hold, end, around)?;
            if !matches!(ended, Ended::Lacks(_)) {
                let mut holds = self.queues.holds.lock();
                holds.remove(hold.queue, hold.ticket);
                self.queues.any.store(!holds.is_empty(), Ordering::Relaxed);
            }
            drop(writer);
            match ended {
                Ended::Made { freed, sparse, was_crowded } => break (freed, sparse, was_crowded),
                Ended::NotHeld => return Ok(false),
                Ended::Lacks(lacking) => self.obtain_for_queue(lacking, &mut around, policy)?,
            }
        };
        // An item waits again, or can be taken again.
        if end == HoldEnd::GivenBack || was_crowded {
            self.notify_released(self.queue_hash(&name), false);
        }
        if end == HoldEnd::Done {
            self.after_removal(sparse, freed, policy);
        }
        Ok(true)
    }

    /// Gives an item back that cannot stay with its holder. If that cannot be done now, it is put off. Waits no longer
    /// than half a second for a writer that is stopped. Returns whether it is done.
    pub fn give_back_or_put_off(&self, hold: &QueueHold, policy: &dyn WaitPolicy) -> bool {
        let until = WithDeadline::new(Instant::now().checked_add(RELEASE_LIMIT), policy);
        let given_back = self.end_hold(hold, HoldEnd::GivenBack, &until).is_ok();
        if !given_back {
            self.put_off_end(hold, HoldEnd::GivenBack);
        }
        given_back
    }

    /// Leaves the end of a hold to this process's next acquisition of the writer lock. Until then the item is held.
    pub fn put_off_end(&self, hold: &QueueHold, end: HoldEnd) {
        self.queues.holds.lock().put_off(hold.queue, hold.ticket, end);
        self.deferred.any.store(true, Ordering::Release);
    }

    /// Tries again to end the holds whose ends were put off. Returns whether nothing is left of that.
    pub fn end_holds_again(&self, policy: &dyn WaitPolicy) -> Result<bool> {
        if self.queues.holds.lock().any_put_off() {
            let until = WithDeadline::new(Instant::now().checked_add(RELEASE_LIMIT), policy);
            // Whoever acquires the writer lock does it.
            until.outcome(self.write(&until).map(drop))?;
        }
        Ok(!self.queues.holds.lock().any_put_off())
    }

    /// Gives back what was taken through a handle, which is detached.
    pub fn give_back_of_handle(&self, handle: u64) {
        if !self.queues.any.load(Ordering::Relaxed) {
            return;
        }
        let until = WithDeadline::new(Instant::now().checked_add(RELEASE_LIMIT), &Blocking);
        loop {
            let Some(hold) = self.queues.holds.lock().find_by_handle(handle) else { break };
            self.give_back_or_put_off(&hold, &until);
        }
        // This may be the last chance.
        let _ = self.end_holds_again(&until);
    }

    /// Removes the items that wait in a queue, up to the last one that is there when the call begins. What a dead process
    /// holds is among them; what a living one holds stays. Returns how many were removed.
    pub fn clear_queue(&self, name: &Index<'_>, policy: &dyn WaitPolicy) -> Result<u64> {
        name.check_length()?;
        let (mut around, mut backoff, mut scratch) = (WorkArounds::default(), Backoff::default(), Scratch::new());
        let (mut until, mut removed, mut missing, mut holders) = (None, 0_u64, 0_u64, Holders::default());
        loop {
            let mut writer = self.write(policy)?;
            let step = writer.clear_some(name, (&mut until, &mut missing, &mut holders), around, &mut scratch)?;
            let (cleared, freed, sparse) = match step {
                Cleared::Nothing => break,
                Cleared::Ask => {
                    drop(writer);
                    self.ask_holders(&mut holders)?;
                    continue;
                }
                Cleared::Some(count, freed, sparse) => (count, freed, sparse),
                Cleared::Lacks(lacking) => {
                    drop(writer);
                    backoff.again(Obstacle::MemoryTaken, self, policy)?;
                    self.obtain_for_queue(lacking, &mut around, policy)?;
                    continue;
                }
            };
            drop(writer);
            removed += cleared;
            self.after_removal(sparse, freed, policy);
            policy.interrupted()?;
        }
        if removed > 0 {
            self.notify_released(!self.queue_hash(name), true);
        }
        Ok(removed)
    }
}

/// How one step of a clear ended.
enum Cleared {
    /// Nothing is left to remove.
    Nothing,
    /// Others hold items, and are to be asked whether they live.
    Ask,
    /// So many items are gone. What was freed, and the leaf that is nearly empty.
    Some(u64, u64, Option<(Leaf, u64)>),
    /// Something has to be obtained first.
    Lacks(Lacking),
}

impl CoordinationWriter<'_> {
    /// Ends a hold, if this participant has it.
    fn end_hold_now(&mut self, hold: &QueueHold, end: HoldEnd, around: WorkArounds) -> Result<Ended> {
        let (name, mut scratch) = (hold.name.as_index(), Scratch::new());
        let own = self.att.coordination().holder_of(self.number);
        let mut found = self.find_queue(&name, Parts::All, &mut scratch)?;
        let Some(mut state) = found.state.take().filter(|state| state.queue == hold.queue) else {
            return Ok(Ended::NotHeld);
        };
        let Some(entry) = state.held_by(hold.ticket, own) else { return Ok(Ended::NotHeld) };
        let mut edit = self.queue_edit();
        let (mut leaf, mut was_crowded) = (None, false);
        match end {
            HoldEnd::GivenBack => state.give_back(entry),
            HoldEnd::Done => {
                was_crowded = state.has_all_entries();
                state.remove_entry(entry);
                leaf = self.remove_item(&mut edit, &mut state, hold.ticket, &mut scratch)?;
            }
        }
        if let Some(lacking) = self.edit_queue(&mut edit, &name, &found, &mut state, around)? {
            return Ok(Ended::Lacks(lacking));
        }
        self.commit_queue(&edit)?;
        // CRASH: the item is gone, or waits, and nobody was woken: the sleepers look again after their slice.
        crash_point!("queue-hold-ended");
        let mut sparse = None;
        if let Some((leaf, hash)) = leaf {
            sparse = self.att.coordination().is_sparse(&leaf)?.then_some((leaf, hash));
        }
        Ok(Ended::Made { freed: edit.freed, sparse, was_crowded })
    }

    /// Removes a few items that wait, or that the dead hold, and whose tickets are below `until`, which the first step
    /// sets. A queue whose record is damaged is removed as a whole, and so is one of which `missing` items in a row, which
    /// are those of the steps before, are too many.
    fn clear_some(
        &mut self,
        name: &Index<'_>,
        (until, missing, holders): (&mut Option<(u64, u64)>, &mut u64, &mut Holders),
        around: WorkArounds,
        scratch: &mut Scratch,
    ) -> Result<Cleared> {
        let mut edit = self.queue_edit();
        let mut found = match self.find_queue(name, Parts::All, scratch) {
            Err(Error::Corrupt(_)) => {
                self.remove_damaged_queue(name, scratch)?;
                return Ok(Cleared::Nothing);
            }
            other => other?,
        };
        let Some(mut state) = found.state.take() else { return Ok(Cleared::Nothing) };
        let (queue, tail) = *until.get_or_insert((state.queue, state.tail));
        let own = self.att.coordination().holder_of(self.number);
        if holders.give_back(&mut state, own, |_| true)? {
            return Ok(Cleared::Ask);
        }
        let next = |state: &QueueState| -> Option<FirstItem> {
            state.first().filter(|first| state.queue == queue && state.ticket_of(*first) < tail)
        };
        if *missing >= MISSING_MAX && next(&state).is_some() {
            self.remove_damaged_queue(name, scratch)?;
            return Ok(Cleared::Nothing);
        }
        let (mut count, mut leaf, mut missing_then) = (0, None, *missing);
        while let Some(first) = next(&state).filter(|_| count < CLEARED_AT_ONCE as u64) {
            let ticket = state.ticket_of(first);
            state.remove_waiting(first);
            let found = self.remove_item(&mut edit, &mut state, ticket, scratch)?;
            missing_then = if found.is_some() { 0 } else { missing_then + 1 };
            leaf = found.or(leaf);
            count += 1;
        }
        if count == 0 {
            return Ok(Cleared::Nothing);
        }
        if let Some(lacking) = self.edit_queue(&mut edit, name, &found, &mut state, around)? {
            return Ok(Cleared::Lacks(lacking));
        }
        self.commit_queue(&edit)?;
        // A step that is repeated, because something was lacking, counts its items once.
        *missing = missing_then;
        // CRASH: some items are gone, from the first one on.
        crash_point!("queue-cleared");
        let mut sparse = None;
        if let Some((leaf, hash)) = leaf {
            sparse = self.att.coordination().is_sparse(&leaf)?.then_some((leaf, hash));
        }
        Ok(Cleared::Some(count, edit.freed, sparse))
    }

    /// Removes a queue whose record cannot be believed. Its items stay.
    #[cold]
    fn remove_damaged_queue(&mut self, name: &Index<'_>, scratch: &mut Scratch) -> Result<()> {
        let mut edit = self.queue_edit();
        let (place, _) = self.find_queue_slot(name, scratch)?;
        self.edit_remove(&mut edit, &place)?;
        self.commit_queue(&edit)
    }

    /// Plans that an item goes. One that is missing or damaged is gone already: its queue must not wait for it.
    fn remove_item(
        &self,
        edit: &mut QueueEdit,
        state: &mut QueueState,
        ticket: u64,
        scratch: &mut Scratch,
    ) -> Result<Option<(Leaf, u64)>> {
        let (place, hash, content) = match self.find_item(state.queue, ticket, scratch) {
            Err(Error::Corrupt(_)) => return Ok(None),
            other => other?,
        };
        state.bytes = state.bytes.saturating_sub(content.charge());
        self.edit_remove(edit, &place)?;
        Ok(Some((place.leaf, hash)))
    }

    /// Ends the holds that could not be ended when they should have been.
    pub fn end_holds_put_off(&mut self) -> Result<()> {
        loop {
            let Some((hold, end)) = self.att.queues.holds.lock().next_put_off() else { return Ok(()) };
            let ended = self.end_hold_now(&hold, end, WorkArounds::default());
            if !matches!(ended, Ok(Ended::Made { .. } | Ended::NotHeld) | Err(Error::Corrupt(_))) {
                // It stays this process's until the next acquisition, and is no concern of the call that wants the
                // lock.
                self.att.deferred.any.store(true, Ordering::Relaxed);
                return Ok(());
            }
            // A damaged queue must not keep this process from everything else.
            self.att.queues.holds.lock().remove(hold.queue, hold.ticket);
            self.att.after_release.due.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Options, Segment};

    /// Puts an item between two steps of a clear, when so many items are left.
    struct PutsWhenLeft<'a>(&'a Segment, u64);

    impl WaitPolicy for PutsWhenLeft<'_> {
        fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
            slow();
        }
        fn interrupted(&self) -> Result<()> {
            let left = self.0.queues()?.first().map_or(0, |queue| queue.waiting);
            if left == self.1 {
                self.0.queue_put("jobs", b"late", None)?;
            }
            Ok(())
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn what_is_put_while_a_clear_misses_many_items_stays() {
        // After the last step the queue is gone, and another one of its name begins.
        for left in [CLEARED_AT_ONCE as u64, 0] {
            let key = Key::text(&format!("queue-clear-{left}-{}", crate::os::pid())).unwrap();
            let segment = Segment::attach(key, &Options::default()).unwrap();
            for _ in 0..MISSING_MAX {
                segment.queue_put("jobs", b"lost", None).unwrap();
            }
            let (attachment, mut scratch) = (segment.attachment().unwrap(), Scratch::new());
            let (att, name) = (attachment.coordination(), Index::from("jobs"));
            let mut writer = att.write(&Blocking).unwrap();
            let queue = writer.find_queue(&name, Parts::All, &mut scratch).unwrap().state.unwrap().queue;
            for ticket in 0..MISSING_MAX {
                let mut edit = writer.queue_edit();
                let (place, ..) = writer.find_item(queue, ticket, &mut scratch).unwrap();
                writer.edit_remove(&mut edit, &place).unwrap();
                writer.commit_queue(&edit).unwrap();
            }
            drop(writer);
            assert_eq!(att.clear_queue(&name, &PutsWhenLeft(&segment, left)).unwrap(), MISSING_MAX);
            assert_eq!(segment.queue_get("jobs", Some(Duration::ZERO)).unwrap().as_deref(), Some(&b"late"[..]));
            segment.destroy().unwrap();
        }
    }
}
