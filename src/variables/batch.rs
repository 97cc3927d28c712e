//! Storing several values at one instant, or none of them: what has to be obtained before a batch can begin.
//!
//! The protocol is "Batches" in docs/protocol.md, steps 1 and 2. A small batch is made by one commit (`batch_set.rs`).
//! From the moment another one begins it is made by `batch_apply.rs`, whichever process does that.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{CLASSES, RECORD_MAX, SET_SLOTS, blocks_of};
use crate::heap::span_writer::FilledSpan;
use crate::key::{Index, Name};
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;
use crate::variables::batch_apply::{LIST, PROBES_AT_FIRST, PROBES_PER_ENTRY};
use crate::variables::batch_list::{BatchReader, list_of};
use crate::variables::batch_set::suits_a_set;
use crate::variables::leaf::{Leaf, TableOf, is_crowded, is_full};
use crate::variables::place::Spot;
use crate::variables::publish::limit_reached;
use crate::variables::store_plan::{Placement, StorePlan};
use crate::variables::stored::Stored;
use crate::variables::{AsVariables, Variables, VariablesWriter};
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// The name of a batch's lists in the error for a lack of memory.
const BATCH: &str = "the list of a batch";

/// Private to the process: hashes and numbers of the items of a batch, in the order in which they are stored.
pub struct BatchOrder(pub Vec<(u64, usize)>);

/// Private to the process: what is missing before a batch can begin.
enum Shortage {
    /// Nothing: the batch can begin.
    None,
    /// These leaves are too small: for each of them a hash in it, and how many entries more it has to take.
    Leaves(Vec<(Leaf, u64, u64)>),
    /// Free blocks of this class are missing: the class, and how many.
    Blocks(usize, u64),
    /// The limit does not allow it: bytes that are needed, and bytes that are free.
    Limit(u64, u64),
}

/// Private to the process: what a batch needs, whatever it will find in the table.
struct BatchNeeds {
    /// Blocks, by class.
    blocks: [u64; CLASSES.len()],
    /// There is no memory for larger leaves, so crowded ones have to do.
    accept_crowded: bool,
}

impl BatchNeeds {
    /// Sums up what the plans need.
    fn of(plans: &[StorePlan<'_>]) -> Self {
        let mut blocks = [0; CLASSES.len()];
        for plan in plans {
            if let Placement::Block(class) = plan.placement {
                blocks[class] += 1;
            }
        }
        BatchNeeds { blocks, accept_crowded: false }
    }
}

impl Variables {
    /// Stores several values at one instant, or none of them. Of two values for one index the last counts.
    ///
    pub fn put_many(&self, items: &[(Index<'_>, Stored<'_>)], policy: &dyn WaitPolicy) -> Result<()> {
        if items.len() <= SET_SLOTS {
            return self.put_plans(self.few_plans(items)?, policy);
        }
        let order = self.batch_order(items.len(), |number| items[number].0)?;
        self.put_ordered(order.0.iter().map(|(hash, number)| (*hash, items[*number])), policy)
    }

    /// The same for items that are in the order of [`Variables::batch_order`], each behind its hash.
    pub fn put_ordered<'a>(
        &self,
        items: impl Iterator<Item = (u64, (Index<'a>, Stored<'a>))>,
        policy: &dyn WaitPolicy,
    ) -> Result<()> {
        let plan = |(hash, (index, stored))| StorePlan::with_hash(Name::from(&index), hash, stored);
        self.put_plans(fallible::collect(items.map(plan), BATCH)?, policy)
    }

    fn put_plans(&self, plans: Vec<StorePlan<'_>>, policy: &dyn WaitPolicy) -> Result<()> {
        if plans.is_empty() || (suits_a_set(&plans) && self.put_small_batch(&plans, policy)?) {
            return Ok(());
        }
        self.put_list(&plans, policy)
    }

    /// Returns in which order a batch stores its items; of several with the same index only the last is in it.
    ///
    /// The order is that of the hashes: so a batch comes to each leaf of the table once, and the leaf stays in the
    /// processor's cache meanwhile.
    pub fn batch_order<'a>(&self, len: usize, index: impl Fn(usize) -> Index<'a>) -> Result<BatchOrder> {
        let numbered = (0..len).map(|number| {
            let index = index(number);
            index.check_length()?;
            Ok((Name::from(&index).hash(self.identity.hash_key), number))
        });
        let mut order = fallible::collect(numbered, BATCH)?;
        order.sort_unstable();
        // From the end on: what stands from `kept` on counts.
        let mut kept = order.len();
        for at in (0..order.len()).rev() {
            let (hash, number) = order[at];
            let mut same_hash = order[kept..].iter().take_while(|later| later.0 == hash);
            if !same_hash.any(|later| index(later.1) == index(number)) {
                kept -= 1;
                order[kept] = (hash, number);
            }
        }
        order.drain(..kept);
        Ok(BatchOrder(order))
    }

    /// Plans the last value of each index of a few.
    fn few_plans<'a>(&self, items: &'a [(Index<'a>, Stored<'a>)]) -> Result<Vec<StorePlan<'a>>> {
        let plan = |(index, stored): &(Index<'a>, Stored<'a>)| {
            index.check_length()?;
            StorePlan::new(Name::from(index), *stored, self.identity.hash_key)
        };
        let mut plans = fallible::collect(items.iter().map(plan), BATCH)?;
        // So few are compared with each other, which takes less time than to sort them: each with those behind it, if one
        // of them has the same six bits of its hash.
        let mut bits_behind = 0_u64;
        for number in (0..plans.len()).rev() {
            let (hash, index) = (plans[number].hash, plans[number].name.index);
            let bit = 1 << (hash & 63);
            let is_same = |later: &StorePlan<'_>| later.hash == hash && later.name.index == index;
            if bits_behind & bit != 0 && plans[number + 1..].iter().any(is_same) {
                plans.remove(number);
            }
            bits_behind |= bit;
        }
        Ok(plans)
    }

    /// Stores a few small values by one commit. Returns `false` if that cannot be done as things are.
    fn put_small_batch(&self, plans: &[StorePlan<'_>], policy: &dyn WaitPolicy) -> Result<bool> {
        let (mut needs, mut backoff, mut collected, mut call_guard) = (None, Backoff::default(), false, None);
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let mut writer = self.write(policy)?;
            if writer.put_set(plans)? {
                drop(writer);
                plans.iter().for_each(|plan| self.notify_changed(plan.hash));
                return Ok(true);
            }
            let needs = needs.get_or_insert_with(|| BatchNeeds::of(plans));
            let shortage = writer.shortage_of_set(plans, needs)?;
            self.release_within_call(writer, &mut call_guard);
            if let Shortage::None = shortage {
                return Ok(false);
            }
            self.make_room_for(shortage, needs, &mut collected, policy)?;
        }
    }

    /// Stores values by a list, which any process can bring to its end.
    #[inline(never)]
    fn put_list(&self, plans: &[StorePlan<'_>], policy: &dyn WaitPolicy) -> Result<()> {
        // From reserving the spans to publishing them the process has to keep its participant number.
        let (mut call_guard, mut collected) = (Some(self.enter_call()), false);
        let (mut spans, mut list) = self.fill_spans(plans, policy)?;
        let (mut needs, mut backoff) = (BatchNeeds::of(plans), Backoff::default());
        // The memory is allocated now: once the batch has begun it has to be made, and nothing of it may fail for lack
        // of memory.
        let mut scratch = Scratch::new();
        scratch.reserve(RECORD_MAX as usize)?;
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let copy = |at: u64, to: &mut [u8]| {
                to.copy_from_slice(&list[at as usize..at as usize + to.len()]);
                Ok(())
            };
            let entries = BatchReader::new(list.len() as u64, copy)?;
            let mut entries = entries.ok_or_else(|| Error::corrupt("a list that this process has made"))?;
            let mut writer = self.write(policy)?;
            let mut still_owned = true;
            for filled in &spans {
                still_owned &= writer.owns(filled.span.granule)?;
            }
            if !still_owned {
                // The spans are the parent's: a signal handler forked, and this is the child. It begins anew.
                self.release_within_call(writer, &mut call_guard);
                drop(entries);
                (spans, list) = self.fill_spans(plans, policy)?;
                continue;
            }
            let shortage = writer.shortage(plans, &needs, &mut scratch)?;
            if let Shortage::None = shortage {
                let granule = spans.last().map_or(0, |filled| filled.span.granule);
                writer.begin_batch(granule << 8 | LIST)?;
                // The batch has begun and owns the spans: it will be made, whichever process dies.
                spans.into_iter().for_each(|filled| filled.span.published());
                let outcome = writer.apply_entries(&mut scratch, &mut entries);
                writer.drop_if_corrupt(outcome)?;
                drop(writer);
                plans.iter().for_each(|plan| self.notify_changed(plan.hash));
                return Ok(());
            }
            drop(entries);
            self.release_within_call(writer, &mut call_guard);
            self.make_room_for(shortage, &mut needs, &mut collected, policy)?;
        }
    }

    /// Fills a span for each large value, and then one for the list, which is the last.
    fn fill_spans(&self, plans: &[StorePlan<'_>], policy: &dyn WaitPolicy) -> Result<(Vec<FilledSpan<'_>>, Vec<u8>)> {
        let mut spans = Vec::new();
        for plan in plans.iter().filter(|plan| plan.placement == Placement::Span) {
            let filled = self.store_in_span(plan.lead(), &plan.prefix, plan.stored.parts, plan.record_len, policy)?;
            fallible::push(&mut spans, filled, BATCH)?;
        }
        let list = list_of(plans, &spans)?;
        let filled = self.store_in_span(0, &[], &[&list], list.len() as u64, policy)?;
        fallible::push(&mut spans, filled, BATCH)?;
        // CRASH: spans that are filling in the name of this process. No batch names the list, so reaping frees them.
        crash_point!("list-filled");
        Ok((spans, list))
    }

    /// Obtains what a batch is missing. The writer lock is not held.
    #[cold]
    fn make_room_for(
        &self,
        shortage: Shortage,
        needs: &mut BatchNeeds,
        collected: &mut bool,
        policy: &dyn WaitPolicy,
    ) -> Result<()> {
        policy.interrupted()?;
        if !std::mem::replace(collected, true) && self.collect_expired(policy)? {
            return Ok(());
        }
        match shortage {
            Shortage::None => Ok(()),
            Shortage::Leaves(leaves) => {
                for (leaf, hash, more) in leaves {
                    match self.grow_for_batch(&leaf, hash, more, policy) {
                        // There is no memory for a larger leaf. Leaves that are crowded may still do.
                        Err(Error::Full { .. }) if !std::mem::replace(&mut needs.accept_crowded, true) => return Ok(()),
                        other => other?,
                    }
                }
                Ok(())
            }
            Shortage::Blocks(class, missing) => {
                for _ in 0..missing.div_ceil(blocks_of(class)) {
                    policy.interrupted()?;
                    let made = self.write(policy)?.slab_from_warm(class)?;
                    if !made {
                        self.add_blocks(class, true, policy)?;
                    }
                }
                Ok(())
            }
            Shortage::Limit(needed, free) => {
                Err(limit_reached(needed, free, self.state().limit.load(Ordering::Relaxed)))
            }
        }
    }

    /// Replaces a leaf so that `more` hashes fit, which are spread like any others: the leaf is split until each part
    /// has room.
    fn grow_for_batch(&self, leaf: &Leaf, hash: u64, more: u64, policy: &dyn WaitPolicy) -> Result<()> {
        self.grow(leaf, hash, TableOf::Variables, more, policy)?;
        let (depth, half) = (leaf.word.depth(), more / 2);
        for bit in [0, 1] {
            let hash = if depth == 0 { bit << 63 } else { hash >> (64 - depth) << (64 - depth) | bit << (63 - depth) };
            let (part, fill) = {
                let _writer = self.write(policy)?;
                let part = self.leaf_of(hash, TableOf::Variables)?;
                (part, self.counts_of(&part)?.fill)
            };
            if part.word.depth() > depth && is_full(fill.saturating_add(half), part.slots) {
                self.grow_for_batch(&part, hash, half, policy)?;
            }
        }
        Ok(())
    }
}

impl VariablesWriter<'_> {
    /// Returns what a small batch is missing that could not be made.
    #[cold]
    fn shortage_of_set(&mut self, plans: &[StorePlan<'_>], needs: &BatchNeeds) -> Result<Shortage> {
        let mut scratch = Scratch::new();
        scratch.reserve(RECORD_MAX as usize)?;
        self.shortage(plans, needs, &mut scratch)
    }

    /// Returns what the batch is missing. Blocks that come free during the batch are not counted on.
    fn shortage(&mut self, plans: &[StorePlan<'_>], needs: &BatchNeeds, scratch: &mut Scratch) -> Result<Shortage> {
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
            return Ok(Shortage::Limit(new_charge, limit.saturating_sub(counters.used)));
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
