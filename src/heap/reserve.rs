//! Making room: pages, zones, spans.
//!
//! Everything here that can wait or fail happens with the lock let go; afterwards the caller looks again.

use crate::error::{Error, Result};
use crate::format::{GRANULE, PAGE, SpanEntry, SpanState, ZONE_META, at};
use crate::heap::Heap;
use crate::os::fork;
use crate::process::backoff::Backoff;
use crate::process::backoff::Obstacle;
use crate::process::deferred_free::DeferredFree;
use crate::process::wait_policy::WaitPolicy;
use crate::process::writer::{Effort, above};
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

/// Where there is too little memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// What is free is given back first, so that it can be had.
    Made,
    /// It is an error: the caller is at giving back.
    Fail,
}

/// A span that this process took for itself: given back unless it was published.
pub struct ReservedSpan<'a> {
    att: &'a Heap,
    /// Its first granule.
    pub granule: u64,
    /// Its granules.
    pub len: u64,
    /// Of the process that took it: a child that was forked meanwhile has no part in it.
    epoch: u32,
}

impl<'a> ReservedSpan<'a> {
    pub fn new(att: &'a Heap, granule: u64, len: u64) -> Self {
        ReservedSpan { att, granule, len, epoch: fork::epoch() }
    }

    /// It was published.
    pub fn published(self) {
        std::mem::forget(self);
    }
}

impl Drop for ReservedSpan<'_> {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            self.att.deferred.push(DeferredFree::Unpublished(self.granule));
            // Without the lock now, the next acquisition does it.
            drop(self.att.try_write());
        }
    }
}

impl Heap {
    /// The same; what is free but still present is given back before it is called full.
    pub fn obtain_or_trim(&self, offset: u64, len: u64, policy: &dyn WaitPolicy) -> Result<()> {
        match self.obtain_pages(offset, len) {
            Err(Error::Full { .. }) => {
                self.make_room(policy)?;
                self.obtain_pages(offset, len)
            }
            other => other,
        }
    }

    /// Gives back what is free but present. That it could not is no reason: the caller's own error tells more.
    pub fn make_room(&self, policy: &dyn WaitPolicy) -> Result<()> {
        above().make_room(self, policy)
    }

    /// Takes a span of so many granules for this process to fill. The caller is inside (`enter_call`) until it is published or
    /// given back.
    pub fn reserve_span(&self, len: u64, policy: &dyn WaitPolicy) -> Result<ReservedSpan<'_>> {
        self.reserve_span_of(len..=len, WhenFull::Made, policy)
    }

    /// The same, of the last of these lengths, or of a shorter one where that is free and present already. Whoever makes room
    /// himself is content with what is there.
    pub fn reserve_span_of(
        &self,
        lens: RangeInclusive<u64>,
        room: WhenFull,
        policy: &dyn WaitPolicy,
    ) -> Result<ReservedSpan<'_>> {
        let len = *lens.end();
        let (mut trimmed, mut tidied, mut backoff) = (room == WhenFull::Fail, 0, Backoff::default());
        loop {
            backoff.again(Obstacle::RoomTaken, self, policy)?;
            let mut writer = self.write(policy)?;
            self.deferred.reserve()?;
            // What was removed at one instant gives its memory back to who needs some.
            if self.state().doomed.load(Ordering::Relaxed) != 0 {
                above().dismantle_some(&mut writer)?;
            }
            let arena = writer.arena();
            let mut change = writer.change();
            let filling = SpanEntry::new(SpanState::Filling, len).with_owner(writer.me);
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
                // What is free lies in pieces: it is brought together, first what costs little.
                drop(writer);
                if self.state().doomed.load(Ordering::Relaxed) != 0 {
                    above().tidy(self, Effort::Dismantle, policy)?;
                    continue;
                }
                match (room, tidied) {
                    (WhenFull::Fail, _) | (_, 3..) => return Err(self.no_addresses(len)),
                    (_, 0) => self.sweep(policy)?,
                    (_, 1) => above().tidy(self, Effort::Trim, policy)?,
                    _ => above().tidy(self, Effort::Defragment, policy)?,
                }
                tidied += 1;
                continue;
            };
            drop(writer);
            match self.bring_zones(end, policy) {
                Err(Error::Full { .. }) if !trimmed => {
                    trimmed = true;
                    self.make_room(policy)?;
                }
                other => other?,
            }
        }
    }

    /// Brings zones into use, up to this one. Under the registry lock: nobody takes them out of use, or gives their metadata
    /// back, meanwhile.
    fn bring_zones(&self, end: u64, policy: &dyn WaitPolicy) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            backoff.again(Obstacle::RoomTaken, self, policy)?;
            // Any wait for the writer lock happens before the registry lock is taken, not under it.
            drop(self.write(policy)?);
            let _registry = self.registry(policy)?;
            let (geometry, zones) = (&self.identity.geometry, self.arena().zones());
            if zones >= end {
                return Ok(());
            }
            self.lengthen_for(end)?;
            // Before they are in use: who cannot map them shall not bring them to those who can map what there was.
            self.mem.map_up_to(geometry.end_of_zones(end))?;
            self.obtain_pages(geometry.zone_at(zones), (end - zones) * ZONE_META)?;
            let (first, last) = (zones / 64 * 1_024, (end - 1) / 64 * 1_024);
            let page = |offset: u64| (at::SUMMARY + offset) / PAGE * PAGE;
            self.obtain_pages(page(first), page(last) + PAGE - page(first))?;
            if let Some(mut writer) = self.try_write() {
                writer.arena().open_zones(end)?;
                let mut change = writer.change();
                change.counters.zones = end;
                return writer.commit(&change);
            }
        }
    }

    fn no_addresses(&self, len: u64) -> Error {
        let geometry = &self.identity.geometry;
        Error::Full {
            needed: GRANULE * len,
            free: 0,
            size: geometry.granules * GRANULE,
            remedy: "the segment's reserve of addresses, fixed when it was created, is used up or in pieces: create it anew \
                     with a larger size"
                .into(),
        }
    }
}
