//! What is missing before a batch can begin: blocks, room in leaves, or room below the limit.
//!
//! The protocol is "Batches" in docs/protocol.md, step 2. What is missing is obtained in `batch.rs`.

use crate::error::Result;
use crate::fallible;
use crate::format::{CLASSES, RECORD_MAX};
use crate::os::mem::Scratch;
use crate::variables::batch_apply::{PROBES_AT_FIRST, PROBES_PER_ENTRY};
use crate::variables::evict::Charges;
use crate::variables::leaf::{Leaf, is_crowded, is_full};
use crate::variables::place::Spot;
use crate::variables::store_plan::{Placement, StorePlan};
use crate::variables::{AsVariables, VariablesWriter};
use std::collections::HashMap;
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
        BatchNeeds { blocks, accept_crowded: false, obtained: [0; CLASSES.len()], charge }
    }
}

impl VariablesWriter<'_> {
    /// Returns what a small batch is missing that could not be made.
    #[cold]
    pub(super) fn shortage_of_set(&mut self, plans: &[StorePlan<'_>], needs: &BatchNeeds) -> Result<Shortage> {
        let mut scratch = Scratch::new();
        scratch.reserve(RECORD_MAX as usize)?;
        self.shortage(plans, needs, &mut scratch)
    }

    /// Returns what the batch is missing. Blocks that come free during the batch are not counted on.
    pub(super) fn shortage(
        &mut self,
        plans: &[StorePlan<'_>],
        needs: &BatchNeeds,
        scratch: &mut Scratch,
    ) -> Result<Shortage> {
        for (class, needed) in needs.blocks.iter().enumerate().filter(|(_, needed)| **needed > 0) {
            let missing = self.arena().missing_blocks(class, *needed)?;
            if missing > 0 {
                return Ok(Shortage::Blocks(class, missing));
            }
        }
        let counters = self.change().counters;
        let mut leaves: HashMap<u64, (Leaf, u64, u64)> = HashMap::new();
        let (mut old_charge, mut new_charge, mut probes_left) = (0_u64, 0_u64, PROBES_AT_FIRST);
        for plan in plans {
            probes_left += PROBES_PER_ENTRY;
            let place = self.find_place_within(&plan.name, plan.hash, scratch, &mut probes_left)?;
            if matches!(place.spot, Spot::LeafFull) {
                // The leaf has no free slot at all, whatever its counts say.
                let mut full = Vec::new();
                fallible::push(&mut full, (place.leaf, plan.hash, 1), BATCH)?;
                return Ok(Shortage::Leaves(full));
            }
            if place.occupant().is_none() {
                fallible::reserve_in_map(&mut leaves, 1, BATCH)?;
                leaves.entry(place.leaf.word.0).or_insert((place.leaf, plan.hash, 0)).2 += 1;
            }
            old_charge = old_charge.saturating_add(place.occupant().map_or(0, |old| old.charge()));
            new_charge = new_charge.saturating_add(plan.charge());
        }
        let others = counters.used.saturating_sub(old_charge);
        let limit = self.att.state().limit.load(Ordering::Relaxed);
        if new_charge > limit.saturating_sub(others) {
            return Ok(Shortage::Limit(Charges { new: new_charge, old: old_charge }));
        }
        let mut full = Vec::new();
        for (leaf, hash, more) in leaves.into_values() {
            let fill = self.att.variables().counts_of(&leaf)?.fill.saturating_add(more);
            if is_crowded(fill, leaf.slots) || (!needs.accept_crowded && is_full(fill, leaf.slots)) {
                fallible::push(&mut full, (leaf, hash, more), BATCH)?;
            }
        }
        Ok(if full.is_empty() { Shortage::None } else { Shortage::Leaves(full) })
    }
}
