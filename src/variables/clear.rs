//! Removing every variable at one instant: the table is swapped for an empty one, and the old table is taken apart
//! afterwards in small steps.
//!
//! The protocol is "Clear" in docs/protocol.md.

use crate::error::{Error, Result};
use crate::format::{DEPTH_MAX, LeafWord, Root, Slot, SpanEntry, SpanState, granules_of};
use crate::heap::reserve::{OnFull, ReservedSpan};
use crate::process::access::MappedAccess;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::lock_slices::YieldTimer;
use crate::process::wait_policy::Uninterrupted;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::intent::{Change, DoomedTable};
use crate::sync::removals::Noted;
use crate::sync::slot::Seqlock;
use crate::sync::slot::{Content, Kind};
use crate::variables::AsVariables;
use crate::variables::change::Condition;
use crate::variables::leaf::Leaf;
use crate::variables::publish::next_version;
use crate::variables::record::record_at;
use crate::variables::{Variables, VariablesWriter};
use std::sync::atomic::{AtomicU64, Ordering};

/// Records that are freed within one hold of the writer lock.
const RECORDS_PER_HOLD: u64 = 512;

impl Variables {
    /// Removes every variable, at one instant.
    pub fn clear(&self, policy: &dyn WaitPolicy) -> Result<()> {
        let _call_guard = self.enter_call();
        let mut backoff = Backoff::default();
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            self.dismantle(policy)?;
            let spans = self.reserve_two_granules(policy);
            let done = match spans {
                Ok((directory, leaf)) => self.swap_table(directory, leaf, policy)?,
                // Not even two pages are free, so the variables are removed one after the other.
                Err(Error::Full { .. }) => self.remove_all(policy)?,
                Err(error) => return Err(error),
            };
            if done {
                break;
            }
        }
        self.notify_all();
        match self.dismantle(&Uninterrupted(policy)) {
            // Every variable is removed. What could not be taken apart now is taken apart by the next process that
            // needs memory.
            Err(Error::Busy(_)) => {}
            other => other?,
        }
        self.limit_warm_memory_now(policy);
        Ok(())
    }

    /// Reserves a granule for a directory and another one for a leaf.
    fn reserve_two_granules(&self, policy: &dyn WaitPolicy) -> Result<(ReservedSpan<'_>, ReservedSpan<'_>)> {
        Ok((
            self.reserve_zeroed_span(1..=1, OnFull::Reclaim, policy)?,
            self.reserve_zeroed_span(1..=1, OnFull::Reclaim, policy)?,
        ))
    }

    /// Swaps the table for an empty one. Returns `false` if another table is still being taken apart, or the spans are
    /// not this process's (it was forked).
    fn swap_table(&self, directory: ReservedSpan<'_>, leaf: ReservedSpan<'_>, policy: &dyn WaitPolicy) -> Result<bool> {
        let mut writer = self.write(policy)?;
        if self.state().doomed.load(Ordering::Relaxed) != 0
            || !writer.owns(directory.granule)?
            || !writer.owns(leaf.granule)?
        {
            return Ok(false);
        }
        let mut change = writer.change();
        let old = change.counters.root;
        let word = LeafWord::new(leaf.granule, 0, 1, 1);
        let at = self.identity.geometry.granule_at(directory.granule);
        self.mem.at::<AtomicU64>(at)?.store(word.0, Ordering::Relaxed);
        // CRASH: two spans that are filling in the name of this process.
        crash_point!("table-made");
        change.edit_span(
            directory.granule,
            self.arena().entry(directory.granule)?,
            SpanEntry::new(SpanState::Directory, 1),
        );
        change.edit_span(leaf.granule, self.arena().entry(leaf.granule)?, SpanEntry::new(SpanState::Leaf, 1));
        change.counters.root = Root::new(directory.granule, 0, old.generation().wrapping_add(1));
        // Queues and their items stay.
        let queued = self.state().queued.load(Ordering::Relaxed).min(change.counters.used);
        (change.counters.used, change.counters.count, change.counters.expiring) = (queued, 0, 0);
        change.doomed = Some(DoomedTable { root: old.0, position: 0 });
        let version = next_version(&mut change)?;
        writer.note_removal(Noted::of_all(version))?;
        writer.commit(&change)?;
        directory.published();
        leaf.published();
        // CRASH: every variable is removed. The next process that needs memory takes the old table apart.
        crash_point!("table-swapped");
        Ok(true)
    }

    /// Removes the variables one after the other. Always returns `true`.
    fn remove_all(&self, policy: &dyn WaitPolicy) -> Result<bool> {
        for index in self.indexes(policy)? {
            self.remove(&index.as_index(), Condition::Always, policy)?;
        }
        Ok(true)
    }

    /// Takes the doomed table apart, if there is one.
    pub fn dismantle(&self, policy: &dyn WaitPolicy) -> Result<()> {
        let mut yielding = YieldTimer::new();
        while self.state().doomed.load(Ordering::Relaxed) != 0 {
            let mut writer = self.write(policy)?;
            writer.dismantle_some()?;
            yielding.release(writer.into(), policy);
            policy.interrupted()?;
        }
        Ok(())
    }
}

impl VariablesWriter<'_> {
    /// Takes one step at the doomed table, if there is one.
    pub fn dismantle_some(&mut self) -> Result<()> {
        if self.att.state().doomed.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let outcome = self.dismantle_step();
        if matches!(outcome, Err(Error::Corrupt(_))) {
            // No process that keeps to the protocol leaves such a table. It is dropped, so that the next call can go
            // on, and what it named is lost.
            let mut change = self.change();
            change.doomed = Some(DoomedTable { root: 0, position: 0 });
            self.commit(&change)?;
        }
        outcome
    }

    /// Frees what some slots of the doomed table name, or a leaf that is done, or at the end the directory.
    fn dismantle_step(&mut self) -> Result<()> {
        let state = self.att.state();
        let (root, at) = (Root(state.doomed.load(Ordering::Relaxed)), state.doomed_at.load(Ordering::Relaxed));
        let fits = |root: Root| self.arena().fits(root.granule(), granules_of(8 << root.depth()), self.arena().zones());
        if root.depth() > DEPTH_MAX || !fits(root) {
            return Err(Error::corrupt(format_args!("the doomed table {:#x}", root.0)));
        }
        let (number, slot) = (at >> 32, at & u64::from(u32::MAX));
        let mut change = self.change();
        if number >= 1 << root.depth() {
            self.plan_free_directory(root, &mut change)?;
            change.doomed = Some(DoomedTable { root: 0, position: 0 });
            return self.commit(&change);
        }
        let leaf = self
            .att
            .variables()
            .leaf_of_word(root, number)?
            .filter(|leaf| self.att.variables().leaf_is_sound(leaf, MappedAccess).unwrap_or(false));
        let leaf = leaf.ok_or_else(|| Error::corrupt(format_args!("word {number} of a doomed directory")))?;
        let mut freed = 0;
        for slot in slot.max(1)..=leaf.slots {
            freed += u64::from(self.free_doomed(&leaf, number << 32 | (slot + 1), slot)?);
            if freed == RECORDS_PER_HOLD {
                return Ok(());
            }
        }
        let (first, count) = leaf.words(self.att.variables().directory_at(root));
        self.plan_free_leaf(&leaf, &mut change)?;
        change.doomed = Some(DoomedTable { root: root.0, position: (first + count) << 32 });
        self.commit(&change)?;
        crash_point!("leaf-dismantled");
        Ok(())
    }

    /// Frees what a slot of the doomed table names, and stores `next` as the place to go on. Returns `false` if the
    /// slot names nothing.
    fn free_doomed(&mut self, leaf: &Leaf, next: u64, number: u64) -> Result<bool> {
        let Some(content) = self.att.mem.at::<Slot>(leaf.slot_at(number))?.copy() else { return Ok(false) };
        let mut change = self.change();
        change.doomed = Some(DoomedTable { root: leaf.root.0, position: next });
        match content.kind() {
            Kind::Record => {
                if record_at(self.att, &content)?.is_none() {
                    return Err(Error::corrupt("the place of a record that was removed"));
                }
                change.edit_block(content.granule(), content.block(), false);
                self.commit(&change)?;
                let _ = self.free_slab_if_spare(content.granule());
            }
            Kind::Span => {
                self.plan_retire(&content, &mut change)?;
                self.commit(&change)?;
                let _ = self.free_retired(content.granule());
            }
            _ => return Ok(false),
        }
        crash_point!("doomed-freed");
        Ok(true)
    }

    /// Plans that the span of a variable is retired: no slot names it after the change.
    pub fn plan_retire(&self, content: &Content, change: &mut Change) -> Result<()> {
        let before = self.arena().entry(content.granule())?;
        if before.state() != SpanState::Live {
            return Err(Error::corrupt(format_args!("a variable's span: {before:?}")));
        }
        change.edit_span(content.granule(), before, SpanEntry::new(SpanState::Retired, before.len()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::wait_policy::Blocking;
    use crate::variables::AsVariables;

    /// Interrupts its caller while a doomed table is being taken apart.
    struct Afterwards<'a>(&'a Variables);

    impl WaitPolicy for Afterwards<'_> {
        fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
            slow();
        }
        fn interrupted(&self) -> Result<()> {
            if self.0.state().doomed.load(Ordering::Relaxed) == 0 { Ok(()) } else { Err(Error::Interrupted) }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn a_clear_that_is_interrupted_after_its_instant_has_not_failed() {
        let key = crate::key::Key::text(&format!("clear-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        for number in 0..3 * RECORDS_PER_HOLD as i64 {
            segment.put(number, &"longer than what fits a slot").unwrap();
        }
        let att = segment.attachment().unwrap();
        let policy = Afterwards(att.variables());
        att.variables().clear(&policy).unwrap();
        assert_eq!((segment.len().unwrap(), att.state().doomed.load(Ordering::Relaxed)), (0, 0));
        att.variables().clear(&Blocking).unwrap();
        segment.destroy().unwrap();
    }
}
