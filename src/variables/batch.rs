//! Storing several values at one instant, or none of them: what has to be obtained before a batch can begin.
//!
//! The protocol is "Batches" in docs/protocol.md, steps 1 and 2. A small batch is made by one commit (`batch_set.rs`).
//! From the moment another one begins it is made by `batch_apply.rs`, whichever process does that.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{Eviction, RECORD_MAX, SET_SLOTS, blocks_of};
use crate::heap::span_writer::FilledSpan;
use crate::key::{Index, Name};
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::pages::file_system_full;
use crate::process::wait_policy::WaitPolicy;
use crate::variables::batch_apply::LIST;
use crate::variables::batch_list::{BatchReader, list_of};
use crate::variables::batch_set::suits_a_set;
use crate::variables::batch_shortage::{BATCH, BatchNeeds, Shortage};
use crate::variables::evict::{Charges, Evictions};
use crate::variables::leaf::{Leaf, TableOf, is_full};
use crate::variables::publish::limit_reached;
use crate::variables::store_plan::{Placement, StorePlan};
use crate::variables::stored::Stored;
use crate::variables::{Variables, VariablesWriter};
use std::sync::atomic::Ordering;

/// How often blocks of one class are obtained for a batch where memory is short.
const OBTAINED_MOST: u32 = 2;

/// Private to the process: hashes and numbers of the items of a batch, in the order in which they are stored.
pub struct BatchOrder(pub Vec<(u64, usize)>);

/// Returns whether a hash is one of a batch's own. A batch of more than [`SET_SLOTS`] plans is in the order of the hashes.
fn is_own(plans: &[StorePlan<'_>], hash: u64) -> bool {
    match plans.len() {
        ..=SET_SLOTS => plans.iter().any(|plan| plan.hash == hash),
        _ => plans.binary_search_by_key(&hash, |plan| plan.hash).is_ok(),
    }
}

impl Variables {
    /// Stores several values at one instant, or none of them. Of two values for one index the last counts.
    pub fn put_many(&self, items: &[(Index<'_>, Stored<'_>)], policy: &dyn WaitPolicy) -> Result<()> {
        if items.len() <= SET_SLOTS {
            return self.put_plans(&self.few_plans(items)?, policy);
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
        self.put_plans(&fallible::collect(items.map(plan), BATCH)?, policy)
    }

    /// Stores planned values at one instant. Where there is no memory, others are evicted if the segment evicts anything.
    fn put_plans(&self, plans: &[StorePlan<'_>], policy: &dyn WaitPolicy) -> Result<()> {
        // Those that wait for what was evicted are woken when this is dropped, after the writer lock.
        let mut evictions = None;
        loop {
            match self.put_plans_once(plans, &mut evictions, policy) {
                Err(full @ Error::Full { .. }) if self.eviction.is_some() => {
                    let evictions = evictions.get_or_insert_with(|| Evictions::new(self));
                    self.evict_for_memory(full, evictions, &|hash| is_own(plans, hash), policy)?;
                }
                outcome => return outcome,
            }
        }
    }

    #[inline]
    fn put_plans_once<'a>(
        &'a self,
        plans: &[StorePlan<'_>],
        evictions: &mut Option<Evictions<'a>>,
        policy: &dyn WaitPolicy,
    ) -> Result<()> {
        if plans.is_empty() || (suits_a_set(plans) && self.put_small_batch(plans, evictions, policy)?) {
            return Ok(());
        }
        self.put_list(plans, evictions, policy)
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
    fn put_small_batch<'a>(
        &'a self,
        plans: &[StorePlan<'_>],
        evictions: &mut Option<Evictions<'a>>,
        policy: &dyn WaitPolicy,
    ) -> Result<bool> {
        let (mut needs, mut backoff, mut collected, mut call_guard) = (None, Backoff::default(), false, None);
        let mut held = None;
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let mut writer = match held.take() {
                Some(writer) => writer,
                None => self.write(policy)?,
            };
            let count = self.state().count.load(Ordering::Relaxed);
            if writer.put_set(plans)? {
                self.batch_is_made(writer, count, plans, policy);
                plans.iter().for_each(|plan| self.notify_changed(plan.hash));
                return Ok(true);
            }
            let needs = needs.get_or_insert_with(|| BatchNeeds::of(plans));
            let shortage = writer.shortage_of_set(plans, needs)?;
            if let (Shortage::Limit(charges), Some(_)) = (&shortage, self.eviction) {
                held = self.evict_for_batch(writer, *charges, plans, evictions, policy)?;
                continue;
            }
            self.release_within_call(writer, &mut call_guard);
            if let Shortage::None = shortage {
                return Ok(false);
            }
            self.make_room_for(shortage, needs, &mut collected, policy)?;
        }
    }

    /// Stores values by a list, which any process can bring to its end.
    #[inline(never)]
    fn put_list<'a>(
        &'a self,
        plans: &[StorePlan<'_>],
        evictions: &mut Option<Evictions<'a>>,
        policy: &dyn WaitPolicy,
    ) -> Result<()> {
        // From reserving the spans to publishing them the process has to keep its participant number.
        let (mut call_guard, mut collected) = (Some(self.enter_call()), false);
        let (mut spans, mut list) = self.fill_spans(plans, policy)?;
        let (mut needs, mut backoff) = (BatchNeeds::of(plans), Backoff::default());
        // The memory is allocated now: once the batch has begun it has to be made, and nothing of it may fail for lack
        // of memory.
        let mut scratch = Scratch::new();
        scratch.reserve(RECORD_MAX as usize)?;
        let mut held = None;
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let copy = |at: u64, to: &mut [u8]| {
                to.copy_from_slice(&list[at as usize..at as usize + to.len()]);
                Ok(())
            };
            let entries = BatchReader::new(list.len() as u64, copy)?;
            let mut entries = entries.ok_or_else(|| Error::corrupt("a list that this process has made"))?;
            let mut writer = match held.take() {
                Some(writer) => writer,
                None => self.write(policy)?,
            };
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
                let count = self.state().count.load(Ordering::Relaxed);
                let outcome = writer.apply_entries(&mut scratch, &mut entries);
                writer.drop_if_corrupt(outcome)?;
                self.batch_is_made(writer, count, plans, policy);
                plans.iter().for_each(|plan| self.notify_changed(plan.hash));
                return Ok(());
            }
            drop(entries);
            if let (Shortage::Limit(charges), Some(_)) = (&shortage, self.eviction) {
                held = self.evict_for_batch(writer, *charges, plans, evictions, policy)?;
                continue;
            }
            self.release_within_call(writer, &mut call_guard);
            self.make_room_for(shortage, &mut needs, &mut collected, policy)?;
        }
    }

    /// Evicts until the limit allows a batch, of which nothing is evicted. Returns the writer lock. `None`: the batch
    /// is looked at again.
    ///
    /// # Errors
    /// [`Error::Full`] if nothing else can be evicted.
    #[cold]
    fn evict_for_batch<'a>(
        &'a self,
        writer: VariablesWriter<'a>,
        charges: Charges,
        plans: &[StorePlan<'_>],
        evictions: &mut Option<Evictions<'a>>,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<VariablesWriter<'a>>> {
        let spares = |hash: u64| is_own(plans, hash);
        let evictions = evictions.get_or_insert_with(|| Evictions::new(self));
        let (writer, fits) = self.evict_for_limit(writer, charges, &spares, evictions, policy)?;
        if fits {
            return Ok(Some(writer));
        }
        drop(writer);
        // What has expired, and is not to be evicted, may be in the way.
        if self.collect_expired(policy)? { Ok(None) } else { Err(self.batch_beyond_limit(charges)) }
    }

    /// Releases the writer lock after a batch. Where the segment evicts, the batch's variables are noted as used, and
    /// what was evicted for it counts as freed. `count`: how many variables there were before.
    #[inline]
    fn batch_is_made(
        &self,
        mut writer: VariablesWriter<'_>,
        count: u64,
        plans: &[StorePlan<'_>],
        policy: &dyn WaitPolicy,
    ) {
        if self.eviction == Some(Eviction::Lru) {
            let new = self.state().count.load(Ordering::Relaxed).saturating_sub(count);
            writer.count_inserted(new);
            drop(writer);
            self.note_batch(plans);
            self.grow_stamps_if_due();
        } else {
            drop(writer);
        }
        if self.eviction.is_some() {
            self.limit_warm_memory(policy);
        }
    }

    fn batch_beyond_limit(&self, charges: Charges) -> Error {
        let size = self.state().limit.load(Ordering::Relaxed);
        limit_reached(charges.new, size.saturating_sub(self.state().used.load(Ordering::Relaxed)), size)
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
                // Where memory is short, obtaining blocks of one class gives those of another one back that are not
                // used yet.
                needs.obtained[class] += 1;
                if needs.obtained[class] > OBTAINED_MOST && self.memory_is_short(needs.charge)? {
                    return Err(file_system_full(needs.charge));
                }
                for _ in 0..missing.div_ceil(blocks_of(class)) {
                    policy.interrupted()?;
                    let made = self.write(policy)?.slab_from_warm(class)?;
                    if !made {
                        self.add_blocks(class, true, policy)?;
                    }
                }
                Ok(())
            }
            Shortage::Limit(charges) => Err(self.batch_beyond_limit(charges)),
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
