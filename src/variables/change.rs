//! Changing one variable: `put` and `remove`, with what they may have to obtain first.
//!
//! A change is whole or not made at all: "A change" in docs/protocol.md. When the writer lock had to be released to
//! obtain memory, the whole plan begins anew. What is stored is in `publish.rs`; several changes at once are in
//! `batch.rs`.

use crate::error::{Error, Result};
use crate::format::{Eviction, granules_of};
use crate::heap::span_writer::FilledSpan;
use crate::key::{Index, Name};
use crate::os::fork;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::call_guard::CallGuard;
use crate::process::wait_policy::Uninterrupted;
use crate::process::wait_policy::WaitPolicy;
use crate::variables::evict::{Charges, Evictions};
use crate::variables::leaf::{Leaf, TableOf, is_crowded, is_full};
use crate::variables::place::{SlotPlace, Spot};
use crate::variables::store_plan::{Placement, StorePlan};
use crate::variables::stored::{Stored, ValueSource};
use crate::variables::{Variables, VariablesWriter};
use std::sync::atomic::Ordering;

/// The condition under which a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The change is made in any case.
    Always,
    /// The change is made only while the variable has this version. 0: only while the variable is missing.
    Version(u64),
    /// The same, and the variable keeps the expiry that it has by then, or has none: `expire` does not change the
    /// version.
    Keeping(u64),
    /// The change is made only while the slot of the variable has this `word`. It stores the value that is there at
    /// another place, with another expiry in place of this `expiry`; the version stays.
    Unmoved {
        /// The word of the slot.
        word: u64,
        /// The expiry that the record has.
        expiry: Option<u64>,
    },
}

/// A record of more bytes is copied while the writer lock is not held. One of so many is copied in less than a
/// microsecond, and saves two acquisitions of the lock and a commit. With 64 KiB, a process that does nothing but put
/// would hold the lock for most of the time, and mostly be preempted while it does.
pub const LOCKED_COPY_MAX: u64 = 33 << 10;

/// Bytes of free memory that stay present in any case. (The guide says 64 MiB, because some more may be freed before a
/// process looks.)
const WARM_MIN: u64 = 60 << 20;
/// Bytes that a process has to free before it looks at all.
const WARM_FROM: u64 = 1 << 20;

impl Variables {
    /// Stores a value, given as the parts of a pickle. Returns the new version. `None`: the condition does not hold.
    #[inline]
    pub fn put(
        &self,
        index: &Index<'_>,
        stored: Stored<'_>,
        condition: Condition,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<u64>> {
        self.put_from(index, stored, ValueSource::Anywhere, condition, policy)
    }

    /// Stores a value as [`Variables::put`] does, whose bytes lie where the caller says. 0 is returned only with
    /// [`Condition::Unmoved`]: the variable has expired by its earlier expiry meanwhile, and was removed.
    pub fn put_from(
        &self,
        index: &Index<'_>,
        stored: Stored<'_>,
        source: ValueSource,
        condition: Condition,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<u64>> {
        // Those that wait for what was evicted are woken when this is dropped, after the writer lock.
        let mut evictions = None;
        loop {
            match self.put_once(index, stored, source, condition, &mut evictions, policy) {
                Err(full @ Error::Full { .. }) if self.eviction.is_some() => {
                    let own = Name::from(index).hash(self.identity.hash_key);
                    let evictions = evictions.get_or_insert_with(|| Evictions::new(self));
                    self.evict_for_memory(full, evictions, &|hash| hash == own, policy)?;
                }
                outcome => return outcome,
            }
        }
    }

    /// Stores a value. Where the limit does not allow it, others are evicted if the segment evicts anything.
    #[inline(always)]
    fn put_once<'a>(
        &'a self,
        index: &Index<'_>,
        stored: Stored<'_>,
        source: ValueSource,
        condition: Condition,
        evictions: &mut Option<Evictions<'a>>,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<u64>> {
        index.check_length()?;
        let mut plan = StorePlan::new(index.into(), stored, self.identity.hash_key)?;
        // Dropped in the reverse order: a span that is not published is freed in the name of this process's number, so
        // the call that keeps the number ends last.
        let (mut call_guard, mut filled, mut collected, mut no_larger_leaf) =
            (None, None::<FilledSpan<'_>>, false, false);
        let (mut backoff, mut held) = (Backoff::default(), None);
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let mut writer = match held.take() {
                Some(writer) => writer,
                None => self.write(policy)?,
            };
            if stored.expiry.is_some() {
                writer.collect_a_few();
            }
            // The place is looked for after each wait: the record may have been given the block of another variable
            // meanwhile.
            let place = writer.find_place_of_hash(&plan.name, plan.hash, &mut Scratch::new())?;
            let old = place.occupant().copied();
            let holds = match condition {
                Condition::Always => true,
                Condition::Version(version) | Condition::Keeping(version) => {
                    writer.visible_version(old.as_ref())? == version
                }
                Condition::Unmoved { word, .. } => {
                    old.is_some_and(|old| old.word == word) && writer.visible_version(old.as_ref())? != 0
                }
            };
            if !holds {
                return Ok(None);
            }
            if let (Condition::Keeping(_), Some(old)) = (condition, &old) {
                let expiry = self.expiry_of(old)?;
                if expiry != plan.stored.expiry {
                    plan = StorePlan::new(index.into(), Stored { expiry, ..stored }, self.identity.hash_key)?;
                }
            }
            let mut change = writer.change();
            if let Err(full) = writer.check_limit(old.as_ref(), plan.charge(), &change) {
                if self.eviction.is_some() {
                    let charges = Charges { new: plan.charge(), old: old.map_or(0, |old| old.charge()) };
                    let evictions = evictions.get_or_insert_with(|| Evictions::new(self));
                    let (evicting, fits) =
                        self.evict_for_limit(writer, charges, &|hash| hash == plan.hash, evictions, policy)?;
                    if fits {
                        held = Some(evicting);
                        continue;
                    }
                    writer = evicting;
                }
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
                        if !writer.slab_from_warm(class)? {
                            self.release_within_call(writer, &mut call_guard);
                            self.add_blocks(class, false, policy)?;
                        }
                        continue;
                    }
                },
                Placement::Span => {
                    let at_once = source == ValueSource::OwnMemory && plan.record_len <= LOCKED_COPY_MAX;
                    let warm = match at_once && filled.is_none() {
                        true => writer.put_in_warm_span(&plan, &mut change)?,
                        false => None,
                    };
                    match (warm, &filled) {
                        (Some(content), _) => content,
                        // A span that is not this process's is the parent's: a signal handler forked during a wait, and
                        // this is the child.
                        (None, Some(filled)) if writer.owns(filled.span.granule)? => {
                            if matches!(condition, Condition::Keeping(_)) {
                                writer.fill_expiry(&plan, filled)?;
                            }
                            writer.put_in_span(&plan, filled, &mut change)?
                        }
                        _ => {
                            let (lead, parts) = (plan.lead(), plan.stored.parts);
                            let len = granules_of(lead + plan.record_len);
                            let reserved = writer.reserve_present(len)?;
                            self.release_within_call(writer, &mut call_guard);
                            if let Some(evictions) = evictions {
                                evictions.notify();
                            }
                            let span = match reserved {
                                Some(span) => span,
                                None => self.reserve_span(len, policy)?,
                            };
                            filled = Some(self.fill_span(span, lead, &plan.prefix, parts, policy)?);
                            continue;
                        }
                    }
                }
            };
            let mut version = match condition {
                Condition::Unmoved { .. } => writer.replace_by_moved(&place, content, &mut change)?,
                _ => writer.replace(&place, content, &mut change)?,
            };
            // What only gets another expiry is not used.
            if self.eviction == Some(Eviction::Lru) && !matches!(condition, Condition::Unmoved { .. }) {
                writer.note_stored(plan.hash, old.is_none());
            }
            // A span that was filled is left over where the expiry that is kept made the record shorter than thought.
            if plan.placement == Placement::Span {
                if let Some(filled) = filled {
                    filled.span.published();
                }
            }
            if let Condition::Unmoved { expiry: Some(expiry), .. } = condition {
                if writer.discard_if_over(&place.leaf, place.spot, expiry)? {
                    version = 0;
                }
            }
            drop(writer);
            self.notify_changed(plan.hash);
            if let Some(old) = old.filter(|old| old.charge() > plan.charge()) {
                self.note_freed(old.charge() - plan.charge());
            }
            self.limit_warm_memory(policy);
            if self.eviction == Some(Eviction::Lru) {
                self.grow_stamps_if_due();
            }
            return Ok(Some(version));
        }
    }

    /// Returns whether a larger leaf has to be made before a slot that was never used is taken. `None`: no.
    /// `Some(true)`: in any case. `Some(false)`: if there is memory for one; not asked for again once the caller found
    /// that there is none (`no_larger_leaf`).
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
        // If there was no memory for a leaf larger than this one, it is asked for again only with every 64th slot that
        // is taken.
        let crowded =
            self.table_hints.crowded_leaf.load(Ordering::Relaxed) == place.leaf.word.0 && !fill.is_multiple_of(64);
        Ok((!no_larger_leaf && !crowded).then_some(false))
    }

    /// Makes a larger leaf. Returns `false` if there is no memory for one and it is not `required`.
    pub fn make_larger_leaf(
        &self,
        leaf: &Leaf,
        name: &Name<'_>,
        hash: u64,
        required: bool,
        policy: &dyn WaitPolicy,
    ) -> Result<bool> {
        match self.grow(leaf, hash, TableOf::of(name.is_name()), 1, policy) {
            // A crowded leaf serves until all its slots but one are used.
            Err(Error::Full { .. }) if !required => {
                self.table_hints.crowded_leaf.store(leaf.word.0, Ordering::Relaxed);
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }

    /// Releases the writer lock but keeps the call counted in, so that the process keeps its participant number: that
    /// has to stay the same from reserving a span until the span is published.
    pub fn release_within_call<'a>(&'a self, writer: VariablesWriter<'a>, call_guard: &mut Option<CallGuard<'a>>) {
        if call_guard.as_ref().is_none_or(|call_guard| call_guard.epoch != fork::epoch()) {
            *call_guard = Some(self.enter_call());
        }
        drop(writer);
    }

    /// Removes a variable. Returns `false` if it was missing, or if the condition does not hold.
    pub fn remove(&self, index: &Index<'_>, condition: Condition, policy: &dyn WaitPolicy) -> Result<bool> {
        let name = Name::from(index);
        let mut writer = self.write(policy)?;
        let place = writer.find_place(&name, &mut Scratch::new())?;
        let Spot::Occupied(offset, old) = place.spot else { return Ok(false) };
        let version = writer.visible_version(Some(&old))?;
        let was_there = version != 0;
        if condition != Condition::Always && condition != Condition::Version(version) {
            return Ok(false);
        }
        // An expired variable is removed as well; the caller is told that it was missing.
        writer.discard(&place.leaf, offset, &old)?;
        let sparse = self.is_sparse(&place.leaf)?;
        drop(writer);
        let hash = name.hash(self.identity.hash_key);
        self.notify_changed(hash);
        if sparse {
            let _call_guard = self.enter_call();
            // A smaller leaf costs less than passing over the tombstones. Without memory for one, the leaf stays.
            match self.grow(&place.leaf, hash, TableOf::Variables, 0, policy) {
                Err(Error::Full { .. } | Error::Busy(_)) => {}
                other => other?,
            }
        }
        self.note_freed(old.charge());
        self.limit_warm_memory(policy);
        Ok(was_there)
    }

    /// Counts bytes that were freed. The load and the store are no single step, since the count is only a hint when to
    /// look.
    #[inline]
    pub fn note_freed(&self, bytes: u64) {
        self.heap_hints
            .freed
            .store(self.heap_hints.freed.load(Ordering::Relaxed).saturating_add(bytes), Ordering::Relaxed);
    }

    /// Returns whether less than 1/8 of a leaf of several granules is left.
    pub fn is_sparse(&self, leaf: &Leaf) -> Result<bool> {
        Ok(leaf.word.size() > 1 && self.counts_of(leaf)?.entries < leaf.slots / 8)
    }

    /// Gives free memory back to the system where more of it is present than what is in use plus 64 MiB. It does not
    /// wait: what is locked now is left to a later call.
    #[inline]
    pub fn limit_warm_memory(&self, policy: &dyn WaitPolicy) {
        if self.heap_hints.freed.load(Ordering::Relaxed)
            >= self.heap_hints.look_after_freed.load(Ordering::Relaxed).max(WARM_FROM)
        {
            self.limit_warm_memory_now(policy);
        }
    }

    /// Looks how much free memory is present and gives some of it back, however little was freed since the last look.
    #[cold]
    pub fn limit_warm_memory_now(&self, policy: &dyn WaitPolicy) {
        self.heap_hints.freed.store(0, Ordering::Relaxed);
        // The change is made, and that is what the caller is told. So Ctrl-C is not looked at until the caller looks.
        let policy = &Uninterrupted(policy);
        let used = self.state().used.load(Ordering::Relaxed);
        let bound = used.saturating_add(WARM_MIN);
        if self.warm_bytes() > bound {
            // More is given back than the bound asks for, so that this is seldom done.
            let _ = self.cool(bound - WARM_MIN / 2, policy);
        } else if self.present_bytes().saturating_sub(self.retired_bytes()) > bound.saturating_add(used + used / 4) {
            // The free memory lies between what is stored.
            let _ = self.trim_known(policy);
        }
        // A look costs in proportion to what is stored, so the next one comes after 1/64 of that was freed. What could
        // not be given back now (a reader stands still, or the system has no barrier) cannot be given back soon, so as
        // much has to be freed again before the next look.
        let left = self
            .present_bytes()
            .saturating_sub(self.retired_bytes())
            .saturating_sub(bound.saturating_add(used + used / 4));
        self.heap_hints.look_after_freed.store((used / 64).max(left), Ordering::Relaxed);
    }
}
