//! Making a small batch by one commit: its slots are a set, described in one intent.
//!
//! The protocol is "Batches" in docs/protocol.md (**A small batch**). What does not suit a set is left to `batch.rs`,
//! as is everything that has to be obtained first.

use crate::error::{Error, Result};
use crate::format::slot_flags::RELEASED_LOCK;
use crate::format::{SET_SLOTS, Slot, VERSION_MAX, blocks_of, slab_has_all_pages};
use crate::os::mem::Scratch;
use crate::sync::intent::LeafCounts;
use crate::sync::slot::{Content, Kind};
use crate::sync::slot_set::{SetSlot, SlotSet};
use crate::variables::leaf::{TableOf, is_full};
use crate::variables::place::{SlotPlace, Spot};
use crate::variables::record::record_at;
use crate::variables::store_plan::{Placement, StorePlan};
use crate::variables::{AsVariables, VariablesWriter};
use std::sync::atomic::Ordering;

/// From this depth of the directory on, the slots of a set are fetched before the first of them is looked at. A table
/// that is less deep is in the caches.
const PREFETCHED_DEPTH: u32 = 5;

/// Returns whether values can be stored as a set: they are few, and each goes into its slot or into a block of a slab
/// that is wholly present.
pub(super) fn suits_a_set(plans: &[StorePlan<'_>]) -> bool {
    let is_small = |plan: &StorePlan<'_>| match plan.placement {
        Placement::Inline => true,
        Placement::Block(class) => slab_has_all_pages(class),
        Placement::Span => false,
    };
    plans.len() <= SET_SLOTS && plans.iter().all(is_small)
}

/// Private to the process: free blocks of one slab, for several records of one class.
struct FreeBlocks {
    class: usize,
    granule: u64,
    /// The slab's bitmap, with the blocks that were given out already.
    used: [u64; 8],
}

impl FreeBlocks {
    /// Returns the lowest free block, which is then given out.
    #[inline]
    fn take(&mut self) -> Option<u64> {
        let (number, word) = self.used.iter_mut().enumerate().find(|(_, word)| **word != u64::MAX)?;
        let bit = word.trailing_ones();
        let block = number as u64 * 64 + u64::from(bit);
        *word |= 1 << bit;
        (block < blocks_of(self.class)).then_some(block)
    }
}

impl VariablesWriter<'_> {
    /// Stores values by one commit, for which [`suits_a_set`] returned `true`. Returns `false` if that cannot be done
    /// as things are; then nothing has changed.
    pub(super) fn put_set(&mut self, plans: &[StorePlan<'_>]) -> Result<bool> {
        let att = self.att.variables();
        if att.root(TableOf::Variables)?.depth() >= PREFETCHED_DEPTH {
            for plan in plans {
                let leaf = att.leaf_of(plan.hash, TableOf::Variables)?;
                att.mem.prefetch(leaf.slot_at(leaf.home(plan.hash)));
            }
        }
        let mut change = self.change();
        let counters = &mut change.counters;
        let mut set = SlotSet::new(att.state().many.load(Ordering::Relaxed) | 1);
        let (mut scratch, mut free_blocks, mut old_charge, mut new_charge) = (Scratch::new(), None, 0_u64, 0_u64);
        for plan in plans {
            let place = self.find_place_of_hash(&plan.name, plan.hash, &mut scratch)?;
            let old = place.occupant();
            let Some((offset, counts)) = self.place_in_set(&place, plan.hash, &set)? else { return Ok(false) };
            let content = match plan.placement {
                Placement::Inline => plan.inline(),
                Placement::Block(class) => {
                    let Some((granule, block)) = self.block_beside(class, &set, &mut free_blocks)? else {
                        return Ok(false);
                    };
                    let content = plan.content(granule, Some(block));
                    let at = record_at(att, &content)?.ok_or_else(|| Error::corrupt("the place of a free block"))?;
                    self.write_record(at, &plan.prefix, plan.stored.parts)?;
                    set.edit_block(granule, block, true);
                    content
                }
                Placement::Span => return Ok(false),
            };
            match old.map(Content::kind) {
                Some(Kind::Record) => {
                    let old = old.expect("just matched");
                    if record_at(att, old)?.is_none() {
                        return Err(Error::corrupt("the place of the record that is replaced"));
                    }
                    set.edit_block(old.granule(), old.block(), false);
                }
                // A span has to be retired, which an edit of the span map does.
                Some(Kind::Span) => return Ok(false),
                _ => {}
            }
            counters.version = counters.version.saturating_add(1);
            old_charge = old_charge.saturating_add(old.map_or(0, Content::charge));
            new_charge = new_charge.saturating_add(plan.charge());
            let expires = |content: &Content| u64::from(content.expires());
            counters.count = counters.count.saturating_add(u64::from(old.is_none()));
            counters.expiring =
                counters.expiring.saturating_add(expires(&content)).saturating_sub(old.map_or(0, expires));
            set.push(SetSlot::new(offset, content.with_version(counters.version), place.leaf.base, counts));
        }
        if counters.version >= VERSION_MAX {
            return Err(Error::corrupt("the version counter"));
        }
        let others = counters.used.saturating_sub(old_charge);
        if new_charge > att.state().limit.load(Ordering::Relaxed).saturating_sub(others) {
            return Ok(false);
        }
        counters.used = others.saturating_add(new_charge);
        self.commit_set(&change, &set)?;
        self.free_emptied_slabs(&set);
        Ok(true)
    }

    /// Returns the slot in which a name of a set goes, beside those that come before it in the set, and what its leaf
    /// counts then (`None`: as before). Returns `None` if a larger leaf is needed first.
    #[inline]
    fn place_in_set(&self, place: &SlotPlace, hash: u64, set: &SlotSet) -> Result<Option<(u64, Option<LeafCounts>)>> {
        let mut spot = place.spot;
        if let Spot::Occupied(offset, _) = spot {
            return Ok(Some((offset, None)));
        }
        let is_taken = |offset| set.slots().iter().any(|slot| slot.offset == offset);
        if matches!(spot, Spot::Tombstone(offset) | Spot::Unused(offset) if is_taken(offset)) {
            spot = self.find_free_beside(&place.leaf, hash, is_taken)?;
        }
        let (Spot::Tombstone(offset) | Spot::Unused(offset)) = spot else { return Ok(None) };
        let of_leaf = |slot: &&SetSlot| slot.leaf == place.leaf.base && slot.counts().is_some();
        let LeafCounts { fill, entries } = match set.slots().iter().rev().find(of_leaf).and_then(SetSlot::counts) {
            Some(counts) => counts,
            None => self.att.variables().counts_of(&place.leaf)?,
        };
        let fresh = matches!(spot, Spot::Unused(_));
        // What a lock left behind is counted otherwise, and never stands in the table of the variables.
        let of_a_lock = self.att.mem.at::<Slot>(offset)?.rest[1].load(Ordering::Relaxed) == RELEASED_LOCK;
        if of_a_lock || (fresh && is_full(fill, place.leaf.slots)) {
            return Ok(None);
        }
        Ok(Some((offset, Some(LeafCounts { fill: fill + u64::from(fresh), entries: entries.saturating_add(1) }))))
    }

    /// Returns a free block of this class, beside those that the set takes already: the first granule of its slab, and
    /// its number. `None`: there is none.
    #[inline]
    fn block_beside(
        &self,
        class: usize,
        set: &SlotSet,
        free_blocks: &mut Option<FreeBlocks>,
    ) -> Result<Option<(u64, u64)>> {
        if let Some(free_blocks) = free_blocks.as_mut().filter(|free_blocks| free_blocks.class == class) {
            if let Some(block) = free_blocks.take() {
                return Ok(Some((free_blocks.granule, block)));
            }
        }
        let mut found = None;
        let mut look_at = |granule: u64| -> Result<bool> {
            let mut slab = FreeBlocks { class, granule, used: self.arena().used_words(granule)? };
            for edit in set.blocks().filter(|edit| edit.used && edit.granule == granule) {
                slab.used[(edit.block / 64) as usize] |= 1 << (edit.block % 64);
            }
            found = slab.take().map(|block| (granule, block));
            *free_blocks = Some(slab);
            Ok(found.is_some())
        };
        let Some((granule, _)) = self.find_block(class)? else { return Ok(None) };
        if !look_at(granule)? {
            self.arena().each_nonfull_slab(class, look_at)?;
        }
        Ok(found)
    }

    /// Returns a free block of a class whose slabs are wholly present, beside those that a set takes already.
    pub fn block_beside_set(&self, class: usize, set: &SlotSet) -> Result<Option<(u64, u64)>> {
        self.block_beside(class, set, &mut None)
    }

    /// Frees the slabs in which a set has left no block, if their classes have others with room.
    pub fn free_emptied_slabs(&mut self, set: &SlotSet) {
        let mut last = None;
        for edit in set.blocks().filter(|edit| !edit.used) {
            if last.replace(edit.granule) != Some(edit.granule) {
                // The change is made. An error from here on would be about damage elsewhere, which the next call meets.
                let _ = self.free_slab_if_spare(edit.granule);
            }
        }
    }
}
