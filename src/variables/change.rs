//! Changing variables: put and remove. Whole or not at all.

use crate::error::{Error, Result};
use crate::heap::span_writer::FilledSpan;
use crate::key::{Index, Name};
use crate::os::fork;
use crate::os::mem::Scratch;
use crate::process::attachment::CallGuard;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::Uninterrupted;
use crate::process::wait_policy::WaitPolicy;
use crate::variables::leaf::{Leaf, TableOf, is_crowded, is_full};
use crate::variables::place::{SlotPlace, Spot};
use crate::variables::publish::{Placement, StorePlan};
use crate::variables::stored::Stored;
use crate::variables::{Variables, VariablesWriter};
use std::sync::atomic::Ordering;

/// When a change is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// Only while the variable has this version; 0: only while it is missing.
    Version(u64),
}

/// Free memory that stays present at least. (The guide says 64 MiB: so much may be freed before somebody looks.)
const WARM_MIN: u64 = 60 << 20;
/// Before so much was freed it is too little to look.
const WARM_FROM: u64 = 1 << 20;

impl Variables {
    /// Stores a value, given as parts of a pickle. `None`: the condition does not hold. Else the new version.
    pub fn put(
        &self,
        index: &Index<'_>,
        stored: Stored<'_>,
        condition: Condition,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<u64>> {
        index.check()?;
        let plan = StorePlan::new(index.into(), stored, self.identity.hash_key)?;
        let (mut filled, mut call_guard, mut collected, mut no_larger_leaf) =
            (None::<FilledSpan<'_>>, None, false, false);
        let mut backoff = Backoff::default();
        loop {
            backoff.again(Obstacle::RoomTaken, self, policy)?;
            let mut writer = self.write(policy)?;
            if stored.expiry.is_some() {
                writer.collect_a_few();
            }
            // The record may just have been given another one's block: the place is looked for anew after each wait.
            let place = writer.find_place_of_hash(&plan.name, plan.hash, &mut Scratch::new())?;
            let old = place.occupant().copied();
            if let Condition::Version(version) = condition {
                if writer.visible_version(old.as_ref())? != version {
                    return Ok(None);
                }
            }
            let mut change = writer.change();
            if let Err(full) = writer.charge(old.as_ref(), plan.charge(), &change) {
                self.release_within_call(writer, &mut call_guard);
                if std::mem::replace(&mut collected, true) || !self.collect_expired(policy)? {
                    return Err(full);
                }
                continue;
            }
            if let Some(required) = self.needs_larger_leaf(&place, no_larger_leaf)? {
                self.release_within_call(writer, &mut call_guard);
                no_larger_leaf = !self.make_larger_leaf(&place.leaf, &plan.name, plan.hash, required, policy)?;
                continue;
            }
            let content = match plan.placement {
                Placement::Inline => plan.inline(),
                Placement::Block(class) => match writer.put_in_block(&plan, class, &mut change)? {
                    Some(content) => content,
                    None => {
                        if !writer.slab_from_free(class)? {
                            self.release_within_call(writer, &mut call_guard);
                            self.refill(class, false, policy)?;
                        }
                        continue;
                    }
                },
                Placement::Span => match &filled {
                    // Not ours: a signal handler forked while we waited, and this is the child.
                    Some(filled) if writer.owns(filled.span.granule)? => {
                        writer.put_in_span(&plan, filled, &mut change)?
                    }
                    _ => {
                        self.release_within_call(writer, &mut call_guard);
                        let (lead, parts) = (plan.lead(), plan.stored.parts);
                        filled = Some(self.fill(lead, &plan.prefix, parts, plan.record_len, policy)?);
                        continue;
                    }
                },
            };
            let version = writer.replace(&place, content, &mut change)?;
            if let Some(filled) = filled {
                filled.span.published();
            }
            drop(writer);
            self.notify_changed(plan.hash);
            if let Some(old) = old.filter(|old| old.charge() > plan.charge()) {
                self.note_freed(old.charge() - plan.charge());
            }
            self.limit_warm_memory(policy);
            return Ok(Some(version));
        }
    }

    /// Before a slot never used is taken: must there be a larger leaf first? True: at any cost.
    #[inline]
    pub fn needs_larger_leaf(&self, place: &SlotPlace, no_larger_leaf: bool) -> Result<Option<bool>> {
        if matches!(place.spot, Spot::Occupied(..) | Spot::Tombstone(_)) {
            return Ok(None);
        }
        let (fill, slots) = (self.counts_of(&place.leaf)?.fill, place.leaf.slots);
        if matches!(place.spot, Spot::LeafFull) || is_crowded(fill, slots) {
            return Ok(Some(true));
        }
        if !is_full(fill, slots) {
            return Ok(None);
        }
        // There was no memory for a larger one: not tried at every turn.
        let crowded =
            self.table_hints.crowded_leaf.load(Ordering::Relaxed) == place.leaf.word.0 && !fill.is_multiple_of(64);
        Ok((!no_larger_leaf && !crowded).then_some(false))
    }

    /// Builds a larger leaf. False: there is no memory for one, and it need not be.
    pub fn make_larger_leaf(
        &self,
        leaf: &Leaf,
        name: &Name<'_>,
        hash: u64,
        required: bool,
        policy: &dyn WaitPolicy,
    ) -> Result<bool> {
        match self.grow(leaf, hash, TableOf::of(name.lock), 1, policy) {
            // No room for a larger one: a crowded leaf serves to its last free slot.
            Err(Error::Full { .. }) if !required => {
                self.table_hints.crowded_leaf.store(leaf.word.0, Ordering::Relaxed);
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }

    /// Lets the lock go, but not this process's number: between taking a span and publishing it we stay inside.
    pub fn release_within_call<'a>(&'a self, writer: VariablesWriter<'a>, call_guard: &mut Option<CallGuard<'a>>) {
        if call_guard.as_ref().is_none_or(|call_guard| call_guard.epoch != fork::epoch()) {
            *call_guard = Some(self.enter_call());
        }
        drop(writer);
    }

    /// Removes a variable. False: it was not there, or the condition does not hold.
    pub fn remove(&self, index: &Index<'_>, condition: Condition, policy: &dyn WaitPolicy) -> Result<bool> {
        let name = Name::from(index);
        let mut writer = self.write(policy)?;
        let place = writer.find_place(&name, &mut Scratch::new())?;
        let Spot::Occupied(offset, old) = place.spot else { return Ok(false) };
        let version = writer.visible_version(Some(&old))?;
        let there = version != 0;
        if matches!(condition, Condition::Version(wanted) if wanted != version) {
            return Ok(false);
        }
        // One that expired is gone either way.
        writer.discard(&place.leaf, offset, &old)?;
        let sparse = self.is_sparse(&place.leaf)?;
        drop(writer);
        let hash = name.hash(self.identity.hash_key);
        self.notify_changed(hash);
        if sparse {
            let _call_guard = self.enter_call();
            // A smaller leaf costs less than passing over what was. Without memory for one, it stays.
            match self.grow(&place.leaf, hash, TableOf::Variables, 0, policy) {
                Err(Error::Full { .. } | Error::Busy(_)) => {}
                other => other?,
            }
        }
        self.note_freed(old.charge());
        self.limit_warm_memory(policy);
        Ok(there)
    }

    /// So much less is stored. Other threads may count at the same time: it is a hint when to look.
    #[inline]
    fn note_freed(&self, bytes: u64) {
        self.heap_hints
            .freed
            .store(self.heap_hints.freed.load(Ordering::Relaxed).saturating_add(bytes), Ordering::Relaxed);
    }

    /// Is hardly anything left in a leaf that was large?
    fn is_sparse(&self, leaf: &Leaf) -> Result<bool> {
        Ok(leaf.word.size() > 1 && self.counts_of(leaf)?.entries < leaf.slots / 8)
    }

    /// What was freed is kept for what comes next, within bounds: as much as is in use, and 64 MiB. Without a
    /// wait: what cannot be had now is left to the next.
    #[inline]
    pub fn limit_warm_memory(&self, policy: &dyn WaitPolicy) {
        if self.heap_hints.freed.load(Ordering::Relaxed)
            >= self.heap_hints.look_after_freed.load(Ordering::Relaxed).max(WARM_FROM)
        {
            self.bound_warm_now(policy);
        }
    }

    #[cold]
    pub fn bound_warm_now(&self, policy: &dyn WaitPolicy) {
        self.heap_hints.freed.store(0, Ordering::Relaxed);
        // The change is made: what the caller is told is that, and a Ctrl-C waits until then.
        let policy = &Uninterrupted(policy);
        let used = self.state().used.load(Ordering::Relaxed);
        let bound = used.saturating_add(WARM_MIN);
        if self.warm() > bound {
            // Further than it must be, so that it is seldom done.
            let _ = self.cool(bound - WARM_MIN / 2, policy);
        } else if self.present().saturating_sub(self.held()) > bound.saturating_add(used + used / 4) {
            // Much of it lies between what is stored.
            let _ = self.trim_known(policy);
        }
        // A look costs in proportion to what there is; and what could not be given back now (a reader stands still, the system
        // has no barrier) cannot be soon.
        let left = self.present().saturating_sub(self.held()).saturating_sub(bound.saturating_add(used + used / 4));
        self.heap_hints.look_after_freed.store((used / 64).max(left), Ordering::Relaxed);
    }
}
