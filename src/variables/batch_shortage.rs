//! What is missing before a batch can begin: blocks, room in leaves, or room below the limit.
//!
//! The protocol is "Batches" in docs/protocol.md, step 2. What is missing is obtained in `batch.rs`.

use crate::error::Result;
use crate::fallible;
use crate::format::{CLASSES, RECORD_MAX, SET_SLOTS};
use crate::key::Name;
use crate::os::mem::Scratch;
use crate::variables::batch_apply::{NotedPlace, PREFETCHED, PROBES_AT_FIRST, PROBES_PER_ENTRY};
use crate::variables::batch_entries::BatchList;
use crate::variables::evict::Charges;
use crate::variables::leaf::{LastLeaf, Leaf, is_crowded, is_full};
use crate::variables::place::Spot;
use crate::variables::store_plan::{Placement, StorePlan};
use crate::variables::{AsVariables, VariablesWriter};
use std::sync::atomic::Ordering;

/// The name of a batch's lists in the error for a lack of memory.
pub(super) const BATCH: &str = "the list of a batch";

/// Private to the process: what is missing before a batch can begin.
pub(super) enum Shortage {
    /// Nothing: the batch can begin.
    None,
    /// These leaves are too small: for each of them a hash in it, and how many entries more it has to take.
    Leaves(Vec<(Leaf, u64, u64)>),
    /// Free blocks of this class are missing: the class, and how many.
    Blocks(usize, u64),
    /// The limit does not allow it: the bytes that are needed, and those that are there under the same indexes.
    Limit(Charges),
}

/// Private to the process: what a batch needs, whatever it will find in the table.
pub(super) struct BatchNeeds {
    /// Blocks, by class.
    pub blocks: [u64; CLASSES.len()],
    /// There is no memory for larger leaves, so crowded ones have to do.
    pub accept_crowded: bool,
    /// For each class, how often blocks were obtained.
    pub obtained: [u32; CLASSES.len()],
    /// What the records are charged.
    pub charge: u64,
    /// Bytes that the limit has to have room for besides.
    besides: u64,
}

impl BatchNeeds {
    /// Sums up what the plans need.
    pub(super) fn of(plans: &[StorePlan<'_>]) -> Self {
        let mut blocks = [0; CLASSES.len()];
        for plan in plans {
            if let Placement::Block(class) = plan.placement {
                blocks[class] += 1;
            }
        }
        let charge = plans.iter().map(StorePlan::charge).fold(0, u64::saturating_add);
        BatchNeeds { blocks, accept_crowded: false, obtained: [0; CLASSES.len()], charge, besides: 0 }
    }

    /// Tells what a list needs.
    pub(super) fn of_list(list: &BatchList) -> Self {
        let (blocks, charge, besides) = (list.blocks, list.charge, list.besides);
        BatchNeeds { blocks, accept_crowded: false, obtained: [0; CLASSES.len()], charge, besides }
    }
}

impl VariablesWriter<'_> {
    /// Returns what a small batch is missing that could not be made.
    #[cold]
    pub(super) fn shortage_of_set(&mut self, plans: &[StorePlan<'_>], needs: &BatchNeeds) -> Result<Shortage> {
        let mut scratch = Scratch::new();
        scratch.reserve(RECORD_MAX as usize)?;
        let wanted = plans.iter().map(|plan| Ok((plan.name, plan.hash, plan.charge(), None)));
        self.shortage(wanted, needs, &mut scratch, |_| {})
    }

    /// Returns what a list is missing, and notes where its entries go in `places`.
    pub(super) fn shortage_of_list(
        &mut self,
        list: &BatchList,
        needs: &BatchNeeds,
        scratch: &mut Scratch,
        places: &mut Vec<NotedPlace>,
    ) -> Result<Shortage> {
        places.clear();
        let wanted = (0..list.len()).map(|number| {
            let (entry, ahead) = (list.entry(number)?, list.hash(number + PREFETCHED));
            Ok((Name::from(&entry.index()?), list.hash(number).unwrap_or(0), entry.content.charge(), ahead))
        });
        // There is room for as many as the list has.
        self.shortage(wanted, needs, scratch, |spot| places.push(NotedPlace::of(spot)))
    }

    /// Returns what the batch is missing: names, hashes and charges of its variables, and the hash of one that comes a
    /// little later; in the order of the hashes, or at most [`SET_SLOTS`] in any order. Calls `found` with the place of
    /// each. Blocks that come free during the batch are not counted on.
    #[inline(always)]
    fn shortage<'a>(
        &mut self,
        wanted: impl Iterator<Item = Result<(Name<'a>, u64, u64, Option<u64>)>>,
        needs: &BatchNeeds,
        scratch: &mut Scratch,
        mut found: impl FnMut(&Spot),
    ) -> Result<Shortage> {
        for (class, needed) in needs.blocks.iter().enumerate().filter(|(_, needed)| **needed > 0) {
            let missing = self.arena().missing_blocks(class, *needed)?;
            if missing > 0 {
                return Ok(Shortage::Blocks(class, missing));
            }
        }
        let counters = self.change().counters;
        // Leaves, the first hash in each, and how many more entries each has to take.
        let (mut last_leaf, mut growing) = (LastLeaf::default(), Vec::<(Leaf, u64, u64)>::new());
        let (mut old_charge, mut new_charge, mut probes_left) = (0_u64, needs.besides, PROBES_AT_FIRST);
        for one in wanted {
            let (name, hash, charge, ahead) = one?;
            probes_left += PROBES_PER_ENTRY;
            let leaf = last_leaf.of(self.att.variables(), hash)?;
            if let Some(ahead) = ahead {
                last_leaf.prefetch(self.att.variables(), ahead);
            }
            let place = self.find_place_in(leaf, &name, hash, scratch, &mut probes_left)?;
            found(&place.spot);
            if matches!(place.spot, Spot::LeafFull) {
                // The leaf has no free slot at all, whatever its counts say.
                let mut full = Vec::new();
                fallible::push(&mut full, (place.leaf, hash, 1), BATCH)?;
                return Ok(Shortage::Leaves(full));
            }
            match place.occupant() {
                Some(old) => old_charge = old_charge.saturating_add(old.charge()),
                None => {
                    let same = |(growing, ..): &&mut (Leaf, u64, u64)| growing.word.0 == leaf.word.0;
                    match growing.iter_mut().rev().take(SET_SLOTS).find(same) {
                        Some((_, _, more)) => *more += 1,
                        None => fallible::push(&mut growing, (leaf, hash, 1), BATCH)?,
                    }
                }
            }
            new_charge = new_charge.saturating_add(charge);
        }
        let others = counters.used.saturating_sub(old_charge);
        let limit = self.att.state().limit.load(Ordering::Relaxed);
        if new_charge > limit.saturating_sub(others) {
            return Ok(Shortage::Limit(Charges { new: new_charge, old: old_charge }));
        }
        let mut full = Vec::new();
        for (leaf, hash, more) in growing {
            let fill = self.att.variables().counts_of(&leaf)?.fill.saturating_add(more);
            if is_crowded(fill, leaf.slots) || (!needs.accept_crowded && is_full(fill, leaf.slots)) {
                fallible::push(&mut full, (leaf, hash, more), BATCH)?;
            }
        }
        Ok(if full.is_empty() { Shortage::None } else { Shortage::Leaves(full) })
    }
}
