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
use crate::process::wait_policy::WaitPolicy;
use crate::variables::batch_apply::{LIST, OwnEntries};
use crate::variables::batch_entries::{BatchEntries, BatchList};
use crate::variables::batch_set::suits_a_set;
use crate::variables::batch_shortage::{BATCH, BatchNeeds, Shortage};
use crate::variables::dump_log::forked;
use crate::variables::evict::{Charges, Evictions};
use crate::variables::leaf::{Leaf, TableOf, is_full};
use crate::variables::publish::limit_reached;
use crate::variables::store_plan::StorePlan;
use crate::variables::stored::Stored;
use crate::variables::{Variables, VariablesWriter};
use std::sync::atomic::Ordering;

/// How often blocks of one class are obtained for a batch where memory is short.
const OBTAINED_MOST: u32 = 2;

/// A list of at most so many bytes is written while the writer lock is held, into granules that are present: that takes less
/// time than to reserve a span for it first.
const LOCKED_LIST_MAX: usize = 32 << 10;

/// Returns whether the index of one of a few plans has a hash.
fn has_hash(plans: &[StorePlan<'_>], hash: u64) -> bool {
    plans.iter().any(|plan| plan.hash == hash)
}

/// Private to the process: the values of a batch that have spans of their own.
enum Apart<'v, 'a> {
    /// They are still to be stored in spans.
    Values(&'v [Stored<'v>]),
    /// They are in these spans.
    Filled(Vec<Option<FilledSpan<'a>>>),
}

impl<'a> Apart<'_, 'a> {
    /// The batch has begun and owns the spans that its list names. Returns the others, which are to be freed.
    fn published(&mut self, list: &BatchList) -> Vec<Option<FilledSpan<'a>>> {
        let Apart::Filled(filled) = self else { return Vec::new() };
        let mut filled = std::mem::take(filled);
        for value in list.span_values() {
            if let Some(filled) = filled.get_mut(value).and_then(Option::take) {
                filled.span.published();
            }
        }
        filled
    }
}

impl Variables {
    /// Stores several values at one instant, or none of them. Of two values for one index the last counts.
    pub fn put_many(&self, items: &[(Index<'_>, Stored<'_>)], policy: &dyn WaitPolicy) -> Result<()> {
        if items.len() <= SET_SLOTS {
            let plans = self.few_plans(items)?;
            if plans.is_empty() || (suits_a_set(&plans) && self.put_plans(&plans, policy)?) {
                return Ok(());
            }
        }
        let mut entries = BatchEntries::new(self.identity.hash_key, items.len())?;
        let mut apart = Vec::new();
        for (index, stored) in items {
            if !entries.push(index, *stored)? {
                fallible::push(&mut apart, *stored, BATCH)?;
            }
        }
        self.put_entries(entries, &apart, policy)
    }

    /// The same for entries that were made already. `apart` are the values of those that have spans of their own.
    pub fn put_entries(&self, entries: BatchEntries, apart: &[Stored<'_>], policy: &dyn WaitPolicy) -> Result<()> {
        self.put_entries_apart(entries, &mut Apart::Values(apart), policy)
    }

    /// The same where these spans are filled already. The caller is inside `enter_call` since the first was reserved.
    pub fn put_entries_filled(
        &self,
        entries: BatchEntries,
        filled: Vec<Option<FilledSpan<'_>>>,
        policy: &dyn WaitPolicy,
    ) -> Result<()> {
        self.put_entries_apart(entries, &mut Apart::Filled(filled), policy)
    }

    fn put_entries_apart(
        &self,
        entries: BatchEntries,
        apart: &mut Apart<'_, '_>,
        policy: &dyn WaitPolicy,
    ) -> Result<()> {
        let mut list = entries.sorted()?;
        // Those that wait for what was evicted are woken when this is dropped, after the writer lock.
        let mut evictions = None;
        loop {
            match self.put_list(&mut list, apart, &mut evictions, policy) {
                Err(full @ Error::Full { .. }) if self.eviction.is_some() => {
                    let evictions = evictions.get_or_insert_with(|| Evictions::new(self));
                    self.evict_for_memory(full, evictions, &|hash| list.has_hash(hash), policy)?;
                }
                outcome => return outcome,
            }
        }
    }

    /// Stores a few planned values by one commit. Where there is no memory, others are evicted if the segment evicts
    /// anything. Returns `false` if it cannot be done as things are.
    fn put_plans(&self, plans: &[StorePlan<'_>], policy: &dyn WaitPolicy) -> Result<bool> {
        // As in `put_entries`.
        let mut evictions = None;
        loop {
            match self.put_small_batch(plans, &mut evictions, policy) {
                Err(full @ Error::Full { .. }) if self.eviction.is_some() => {
                    let evictions = evictions.get_or_insert_with(|| Evictions::new(self));
                    self.evict_for_memory(full, evictions, &|hash| has_hash(plans, hash), policy)?;
                }
                outcome => return outcome,
            }
        }
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
        let mut held = None;
        let (mut needs, mut backoff, mut collected, mut call_guard) = (None, Backoff::default(), false, None);
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let mut writer = match held.take() {
                Some(writer) => writer,
                None => self.write(policy)?,
            };
            let count = self.state().count.load(Ordering::Relaxed);
            if writer.put_set(plans)? {
                self.batch_is_made(writer, count, plans.iter().map(|plan| plan.hash), policy);
                return Ok(true);
            }
            let needs = needs.get_or_insert_with(|| BatchNeeds::of(plans));
            let shortage = writer.shortage_of_set(plans, needs)?;
            if let (Shortage::Limit(charges), Some(_)) = (&shortage, self.eviction) {
                held = self.evict_for_batch(writer, *charges, &|hash| has_hash(plans, hash), evictions, policy)?;
                continue;
            }
            self.release_within_call(writer, &mut call_guard);
            if let Shortage::None = shortage {
                return Ok(false);
            }
            self.make_room_for(shortage, needs, &mut collected, policy)?;
        }
    }

    /// Stores values by a list, which any process can bring to its end. `apart` are the values that have spans of their own.
    #[inline(never)]
    fn put_list<'a>(
        &'a self,
        list: &mut BatchList,
        apart: &mut Apart<'_, '_>,
        evictions: &mut Option<Evictions<'a>>,
        policy: &dyn WaitPolicy,
    ) -> Result<()> {
        // From reserving the spans to publishing them the process has to keep its participant number.
        let (mut call_guard, mut collected) = (Some(self.enter_call()), false);
        let mut spans = self.fill_spans(list, apart, policy)?;
        let mut in_span = false;
        if list.bytes().len() > LOCKED_LIST_MAX {
            self.fill_list(list, &mut spans, policy)?;
            in_span = true;
        }
        let (mut needs, mut backoff) = (BatchNeeds::of_list(list), Backoff::default());
        // The memory is allocated now: once the batch has begun it has to be made, and nothing of it may fail for lack
        // of memory.
        let mut scratch = Scratch::new();
        scratch.reserve(RECORD_MAX as usize)?;
        let mut places = fallible::with_room(list.len(), BATCH)?;
        let mut held = None;
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let mut writer = match held.take() {
                Some(writer) => writer,
                None => self.write(policy)?,
            };
            let mut still_owned = true;
            for filled in &spans {
                still_owned &= writer.owns(filled.span.granule)?;
            }
            if let Apart::Filled(own) = &*apart {
                for filled in own.iter().flatten() {
                    if !writer.owns(filled.span.granule)? {
                        drop(writer);
                        return Err(forked(&self.identity.key));
                    }
                }
            }
            if !still_owned {
                // The spans are the parent's: a signal handler forked, and this is the child. It begins anew.
                self.release_within_call(writer, &mut call_guard);
                spans = self.fill_spans(list, apart, policy)?;
                self.fill_list(list, &mut spans, policy)?;
                in_span = true;
                continue;
            }
            let shortage = writer.shortage_of_list(list, &needs, &mut scratch, &mut places)?;
            if let Shortage::None = shortage {
                let mut change = writer.change();
                let granule = match spans.last() {
                    Some(filled) if in_span => Some(filled.span.granule),
                    _ => writer.put_list_in_warm_span(list.bytes(), &mut change)?,
                };
                let Some(granule) = granule else {
                    self.release_within_call(writer, &mut call_guard);
                    self.fill_list(list, &mut spans, policy)?;
                    in_span = true;
                    continue;
                };
                writer.begin_batch(granule << 8 | LIST, change)?;
                // The batch has begun and owns the spans: it will be made, whichever process dies.
                spans.into_iter().for_each(|filled| filled.span.published());
                // Those of values that were replaced by later ones for the same index are freed after the batch.
                let unneeded = apart.published(list);
                let count = self.state().count.load(Ordering::Relaxed);
                let outcome = writer.apply_entries(&mut scratch, &mut OwnEntries { list, places: &places, next: 0 });
                writer.drop_if_corrupt(outcome)?;
                self.batch_is_made(writer, count, list.hashes(), policy);
                drop(unneeded);
                return Ok(());
            }
            if let (Shortage::Limit(charges), Some(_)) = (&shortage, self.eviction) {
                held = self.evict_for_batch(writer, *charges, &|hash| list.has_hash(hash), evictions, policy)?;
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
        spares: &dyn Fn(u64) -> bool,
        evictions: &mut Option<Evictions<'a>>,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<VariablesWriter<'a>>> {
        let evictions = evictions.get_or_insert_with(|| Evictions::new(self));
        let (writer, fits) = self.evict_for_limit(writer, charges, spares, evictions, policy)?;
        if fits {
            return Ok(Some(writer));
        }
        drop(writer);
        // What has expired, and is not to be evicted, may be in the way.
        if self.collect_expired(policy)? { Ok(None) } else { Err(self.batch_beyond_limit(charges)) }
    }

    /// Releases the writer lock after a batch, and wakes those that wait for its variables, whose indexes have these hashes.
    /// Where the segment evicts, they are noted as used, and what was evicted for them counts as freed. `count`: how many
    /// variables there were before.
    #[inline]
    fn batch_is_made(
        &self,
        mut writer: VariablesWriter<'_>,
        count: u64,
        hashes: impl Iterator<Item = u64> + Clone,
        policy: &dyn WaitPolicy,
    ) {
        if self.eviction == Some(Eviction::Lru) {
            let new = self.state().count.load(Ordering::Relaxed).saturating_sub(count);
            writer.count_inserted(new);
            drop(writer);
            self.note_batch(hashes.clone());
            self.grow_stamps_if_due();
        } else {
            drop(writer);
        }
        if self.eviction.is_some() {
            self.limit_warm_memory(policy);
        }
        hashes.for_each(|hash| self.notify_changed(hash));
    }

    fn batch_beyond_limit(&self, charges: Charges) -> Error {
        let size = self.state().limit.load(Ordering::Relaxed);
        limit_reached(charges.new, size.saturating_sub(self.state().used.load(Ordering::Relaxed)), size)
    }

    /// Fills a span for each large value, and enters it into the list.
    fn fill_spans<'a>(
        &'a self,
        list: &mut BatchList,
        apart: &Apart<'_, '_>,
        policy: &dyn WaitPolicy,
    ) -> Result<Vec<FilledSpan<'a>>> {
        let mut spans = Vec::new();
        let apart = match apart {
            Apart::Values(values) => *values,
            Apart::Filled(filled) => {
                for number in 0..list.spans() {
                    let filled = filled.get(list.span(number)?.1).and_then(Option::as_ref);
                    list.set_span(number, filled.ok_or_else(|| forked(&self.identity.key))?.span.granule);
                }
                return Ok(spans);
            }
        };
        for number in 0..list.spans() {
            let (entry, value) = list.span(number)?;
            let content = entry.content;
            let filled =
                self.store_in_span(content.lead(), entry.bytes, apart[value].parts, content.record_len(), policy)?;
            list.set_span(number, filled.span.granule);
            fallible::push(&mut spans, filled, BATCH)?;
        }
        Ok(spans)
    }

    /// Fills a span for the list itself, which becomes the last of `spans`.
    fn fill_list<'a>(
        &'a self,
        list: &BatchList,
        spans: &mut Vec<FilledSpan<'a>>,
        policy: &dyn WaitPolicy,
    ) -> Result<()> {
        let filled = self.store_in_span(0, &[], &[list.bytes()], list.bytes().len() as u64, policy)?;
        fallible::push(spans, filled, BATCH)?;
        // CRASH: spans that are filling in the name of this process. No batch names the list, so reaping frees them.
        crash_point!("list-filled");
        Ok(())
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
                    return Err(self.file_system_full(needs.charge));
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
