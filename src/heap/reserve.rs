//! Reserving spans. A reserved span is filling in the name of this process until it is published, or freed again.
//!
//! Whatever can wait or fail here is done while the writer lock is not held; afterwards the caller looks again. The
//! protocol is "Large records: spans and pins" in `docs/protocol.md`.

use crate::error::{Error, Lack, Result};
use crate::format::{GRANULE, SpanEntry, SpanState};
use crate::heap::{AsHeap, Heap, HeapWriter};
use crate::os::fork;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::deferred_free::DeferredFree;
use crate::process::wait_policy::WaitPolicy;
use crate::process::writer::{Effort, above};
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

/// What a call does if there is too little memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// It reclaims memory first (removes what has expired, gives free memory back, brings it together), and tries
    /// again.
    Reclaim,
    /// It fails. For a caller that is itself giving memory back.
    Fail,
}

/// Private to the process: a span that it has reserved. Dropping it frees the span; [`ReservedSpan::published`] keeps
/// it.
pub struct ReservedSpan<'a> {
    heap: &'a Heap,
    /// The first granule.
    pub granule: u64,
    /// The length in granules.
    pub len: u64,
    /// The epoch of the process that reserved the span. To a child that was forked meanwhile the span does not belong.
    epoch: u32,
}

impl<'a> ReservedSpan<'a> {
    /// Makes the guard of a span that a commit of this process has reserved.
    pub fn new(heap: &'a Heap, granule: u64, len: u64) -> Self {
        ReservedSpan { heap, granule, len, epoch: fork::epoch() }
    }

    /// Keeps the span: a commit has brought it into use.
    pub fn published(self) {
        std::mem::forget(self);
    }
}

impl Drop for ReservedSpan<'_> {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            let first = self.heap.deferred.push(DeferredFree::Unpublished(self.granule));
            // If the writer lock is not free for so long, the span is freed at this process's next acquisition.
            self.heap.free_deferred_soon(first);
        }
    }
}

impl Heap {
    /// Makes the pages of a range present. If the memory file system is full, memory is reclaimed and the pages are
    /// asked for once more.
    pub fn obtain_or_reclaim(&self, offset: u64, len: u64, policy: &dyn WaitPolicy) -> Result<()> {
        match self.obtain_pages(offset, len) {
            Err(Error::Full { .. }) => {
                self.reclaim_memory(policy)?;
                self.obtain_pages(offset, len)
            }
            other => other,
        }
    }

    /// Removes what has expired and gives free memory back to the system. Only [`Error::Interrupted`] is returned:
    /// where nothing could be reclaimed, the caller's own error says more.
    pub fn reclaim_memory(&self, policy: &dyn WaitPolicy) -> Result<()> {
        above().reclaim_memory(self, policy)
    }

    /// Reserves a span of `len` granules for this process to fill. The caller is inside `enter_call` until the span is
    /// published or freed.
    pub fn reserve_span(&self, len: u64, policy: &dyn WaitPolicy) -> Result<ReservedSpan<'_>> {
        self.reserve_span_between(len..=len, OnFull::Reclaim, policy)
    }

    /// Reserves a span of the longest of these lengths, in granules, or a shorter one of them if a run of free granules
    /// of that length is present already. The caller is inside `enter_call` until the span is published or freed.
    pub fn reserve_span_between(
        &self,
        lens: RangeInclusive<u64>,
        on_full: OnFull,
        policy: &dyn WaitPolicy,
    ) -> Result<ReservedSpan<'_>> {
        let len = *lens.end();
        let (mut reclaimed, mut compacted, mut backoff) = (on_full == OnFull::Fail, 0, Backoff::default());
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let mut writer = self.write(policy)?;
            self.deferred.reserve()?;
            // Variables that a `clear` removed at one instant give their memory back bit by bit, to each call that
            // needs some.
            if self.state().doomed.load(Ordering::Relaxed) != 0 {
                above().dismantle_some(&mut writer)?;
            }
            let arena = writer.arena();
            let mut change = writer.change();
            let filling = SpanEntry::new(SpanState::Filling, len).with_owner(writer.number);
            for shorter in lens.clone().rev() {
                if let Some(granule) = arena.plan_reserve_present(shorter, filling, &mut change)? {
                    writer.mark_spans();
                    writer.commit(&change)?;
                    return Ok(ReservedSpan::new(self, granule, shorter));
                }
            }
            if let Some(granule) = arena.plan_reserve(len, filling, &mut change)? {
                writer.mark_spans();
                writer.commit(&change)?;
                return Ok(ReservedSpan::new(self, granule, len));
            }
            let Some(end) = arena.zones_needed(len) else {
                // There are no zones left to bring into use, and the free memory lies in pieces. It is brought
                // together, at first by what costs little.
                drop(writer);
                if self.state().doomed.load(Ordering::Relaxed) != 0 {
                    above().compact(self, Effort::Dismantle, policy)?;
                    continue;
                }
                match (on_full, compacted) {
                    (OnFull::Fail, _) | (_, 3..) => return Err(self.no_addresses(len)),
                    (_, 0) => self.sweep(policy)?,
                    (_, 1) => above().compact(self, Effort::Trim, policy)?,
                    _ => above().compact(self, Effort::Defragment, policy)?,
                }
                compacted += 1;
                continue;
            };
            drop(writer);
            match self.bring_zones(end, policy) {
                Err(Error::Full { .. }) if !reclaimed => {
                    reclaimed = true;
                    self.reclaim_memory(policy)?;
                }
                other => other?,
            }
        }
    }

    fn no_addresses(&self, len: u64) -> Error {
        let geometry = &self.identity.geometry;
        Error::Full {
            lack: Lack::Granules,
            needed: GRANULE * len,
            free: 0,
            size: geometry.granules * GRANULE,
            remedy: "the segment's reserve of addresses, fixed when it was created, is used up or in pieces: create it anew \
                     with a larger size"
                .into(),
        }
    }
}

impl<'a> HeapWriter<'a> {
    /// Reserves a span of `len` granules whose pages are present, under the lock that is held already. The caller is
    /// inside `enter_call` until the span is published or freed. `None`: there is no such run of free granules, or
    /// something else has to be done first; [`Heap::reserve_span`] does it.
    pub fn reserve_present(&mut self, len: u64) -> Result<Option<ReservedSpan<'a>>> {
        let att = self.att;
        if self.att.state().doomed.load(Ordering::Relaxed) != 0 {
            return Ok(None);
        }
        att.deferred.reserve()?;
        let mut change = self.change();
        let filling = SpanEntry::new(SpanState::Filling, len).with_owner(self.number);
        let Some(granule) = self.arena().plan_reserve_present(len, filling, &mut change)? else { return Ok(None) };
        self.mark_spans();
        self.commit(&change)?;
        Ok(Some(ReservedSpan::new(att.heap(), granule, len)))
    }
}
