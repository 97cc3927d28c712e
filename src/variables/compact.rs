//! Moving records into fewer slabs, so that slabs become empty and are freed.
//!
//! The protocol is "Moving records" in docs/protocol.md. A block does not say which variable its record belongs to, so
//! the tables are followed. Large values are moved in `defrag.rs`.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{CLASSES, Slot, SpanState, ZONE, blocks_of};
use crate::process::lock_slices::YieldTimer;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::slot::Seqlock;
use crate::sync::slot::{Content, Kind};
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::publish::count_round;
use crate::variables::record::record_at;
use crate::variables::{Variables, VariablesWriter};
use std::sync::atomic::{Ordering, fence};

/// Records that are moved within one hold of the writer lock.
const RECORDS_PER_HOLD: usize = 256;
/// The name of a list of slabs in the error for a lack of memory.
const SLABS: &str = "a list of slabs";

/// Private to the process: which slabs are to be emptied.
struct CompactPlan {
    /// For each class: the slabs whose first granule is this one or a later one.
    from: [u64; CLASSES.len()],
    /// Whether there are any such slabs.
    any: bool,
}

impl Variables {
    /// Empties the slabs that the stored records do not need, and frees them.
    pub fn compact(&self, policy: &dyn WaitPolicy) -> Result<()> {
        let plan = self.plan_compaction(policy)?;
        if !plan.any {
            return Ok(());
        }
        self.empty_slabs(&plan, policy)
    }

    /// Moves everything out of the last zones where all of it fits fewer zones. Returns `false` if it does not.
    pub fn move_into_fewer_zones(&self, policy: &dyn WaitPolicy) -> Result<bool> {
        let (zones, used, last) = {
            let (mut used, mut last) = (0, 0);
            self.walk_spans(policy, |_, granule, entry| {
                (used, last) = (used + entry.len(), granule + entry.len());
                Ok(())
            })?;
            (self.arena().zones(), used, last)
        };
        // An eighth is left to spare, because free granules in pieces may not fit to the last one.
        let bound = (used + used / 8).div_ceil(ZONE).max(1) * ZONE;
        if zones * ZONE <= bound || last <= bound {
            return Ok(false);
        }
        self.defragment(bound, policy)?;
        for table in [TableOf::Variables, TableOf::Names] {
            self.move_table_down(table, bound, policy)?;
        }
        let mut plan = CompactPlan { from: [u64::MAX; CLASSES.len()], any: false };
        for (granule, class) in self.slabs(policy)?.into_iter().filter(|(granule, _)| *granule >= bound) {
            (plan.from[class], plan.any) = (bound, true);
            let mut writer = self.write(policy)?;
            let entry = writer.arena().entry(granule)?;
            let used = match entry.state() == SpanState::Slab && entry.class() == class {
                true => writer.arena().used_blocks(granule)?,
                false => 0,
            };
            // A new slab is made at the lowest place. One new slab for each that is emptied is enough.
            if used > 0 && !writer.slab_from_warm(class)? {
                drop(writer);
                self.add_slab_or_fail(class, policy)?;
            }
        }
        self.empty_slabs(&plan, policy)?;
        Ok(true)
    }

    /// Moves the records in a plan's slabs into free blocks below, and frees the slabs that are empty then.
    fn empty_slabs(&self, plan: &CompactPlan, policy: &dyn WaitPolicy) -> Result<()> {
        let mut yielding = YieldTimer::new();
        for table in [TableOf::Variables, TableOf::Names] {
            let (mut hash, mut slot, mut seen) = (Some(0), 1, None);
            while let Some(from) = hash {
                let mut writer = self.write(policy)?;
                let leaf = self.leaf_of(from, table)?;
                if seen.replace(leaf.word) != Some(leaf.word) {
                    // This is another leaf, or the leaf was replaced since its last slots: its slots are looked at from
                    // the first.
                    slot = 1;
                }
                slot = writer.move_some(&leaf, slot, plan)?;
                yielding.release(writer.into(), policy);
                if slot > leaf.slots {
                    (hash, slot) = (leaf.end(from), 1);
                }
                policy.interrupted()?;
            }
        }
        self.free_empty_slabs(policy)
    }

    /// Plans which slabs are emptied: of each class the lowest slabs that hold all its records stay.
    fn plan_compaction(&self, policy: &dyn WaitPolicy) -> Result<CompactPlan> {
        let mut slabs: [Vec<(u64, u64)>; CLASSES.len()] = [const { Vec::new() }; CLASSES.len()];
        let mut yielding = YieldTimer::new();
        for (granule, class) in self.slabs(policy)? {
            let writer = self.write(policy)?;
            let entry = writer.arena().entry(granule)?;
            if entry.state() == SpanState::Slab && entry.class() == class {
                let used = writer.arena().used_blocks(granule)?;
                fallible::push(&mut slabs[class], (granule, used), SLABS)?;
            }
            yielding.release(writer.into(), policy);
        }
        let mut plan = CompactPlan { from: [u64::MAX; CLASSES.len()], any: false };
        for (class, slabs) in slabs.iter().enumerate() {
            let used: u64 = slabs.iter().map(|(_, used)| used).sum();
            if let Some((granule, _)) = slabs.get(used.div_ceil(blocks_of(class)) as usize) {
                (plan.from[class], plan.any) = (*granule, true);
            }
        }
        Ok(plan)
    }

    /// Returns the slabs and their classes, in the order of their granules.
    fn slabs(&self, policy: &dyn WaitPolicy) -> Result<Vec<(u64, usize)>> {
        let mut slabs = Vec::new();
        self.walk_spans(policy, |_, granule, entry| {
            if entry.state() == SpanState::Slab && entry.class() < CLASSES.len() {
                fallible::push(&mut slabs, (granule, entry.class()), SLABS)?;
            }
            Ok(())
        })?;
        Ok(slabs)
    }

    /// Frees every slab that has no used block.
    fn free_empty_slabs(&self, policy: &dyn WaitPolicy) -> Result<()> {
        for (granule, class) in self.slabs(policy)? {
            let mut writer = self.write(policy)?;
            let entry = writer.arena().entry(granule)?;
            if entry.state() == SpanState::Slab && entry.class() == class && writer.arena().slab_is_empty(granule)? {
                writer.free_slab(granule, entry)?;
            }
        }
        Ok(())
    }
}

impl VariablesWriter<'_> {
    /// Moves records of a leaf, from slot `from` on. Returns the slot to go on with.
    fn move_some(&mut self, leaf: &Leaf, from: u64, plan: &CompactPlan) -> Result<u64> {
        let mut moved = 0;
        for number in from..=leaf.slots {
            let offset = leaf.slot_at(number);
            let Some(content) = self.att.mem.at::<Slot>(offset)?.copy() else { continue };
            if content.kind() != Kind::Record {
                continue;
            }
            let class = self.arena().entry(content.granule())?.class();
            if class < CLASSES.len() && content.granule() >= plan.from[class] {
                self.move_record(leaf, offset, &content, class, plan.from[class])?;
                moved += 1;
                if moved == RECORDS_PER_HOLD {
                    return Ok(number + 1);
                }
            }
        }
        Ok(leaf.slots + 1)
    }

    /// Moves a record to a free block below a granule, if there is one.
    fn move_record(&mut self, leaf: &Leaf, offset: u64, content: &Content, class: usize, below: u64) -> Result<()> {
        let Some((granule, block)) = self.arena().find_slab(class)?.filter(|(granule, _)| *granule < below) else {
            return Ok(());
        };
        let moved = content.moved_to(granule, block);
        let place = |content| {
            record_at(self.att, content)?.ok_or_else(|| Error::corrupt("the place of a record that is moved"))
        };
        let (from, to) = (place(content)?, place(&moved)?);
        let mut bytes = Vec::new();
        self.att.mem.read_into(from, content.record_len() as usize, &mut bytes)?;
        // SYNC: pairs with the acquire fences of readers: the block may have been freed under this very acquisition of
        // the lock.
        fence(Ordering::Release);
        self.att.mem.copy_in(to, &[&bytes])?;
        // CRASH: bytes in a free block that no slot names.
        crash_point!("record-copied");
        let mut change = self.change();
        change.leaf = Some((leaf.base, None));
        change.slot = Some((offset, moved));
        count_round(&moved, &mut change);
        change.edit_block(granule, block, true);
        change.edit_block(content.granule(), content.block(), false);
        self.commit(&change)?;
        // CRASH: this record is at its new place, the others that were to be moved are at their old ones.
        crash_point!("record-moved");
        Ok(())
    }
}
