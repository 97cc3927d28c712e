//! Pins: the mark of a process that a span must not be freed. This file sets and clears the bits in the segment's pin
//! bitmaps, and looks at those of other participants. How often each span is pinned stands in `pin_table.rs`. The
//! protocol is "Large records: spans and pins" in `docs/protocol.md`.

use crate::error::Result;
use crate::format::{PAGE, PARTICIPANTS, Participant, SpanEntry, SpanState};
use crate::os::fork;
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::process::attachment::Attachment;
use crate::process::deferred_free::DeferredFree;
use crate::process::pin_table::{PinHolder, PinTable};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// How often a process that has something to free tries for the writer lock, and how long it pauses in between. Another
/// process holds the lock for microseconds, seldom for a few milliseconds.
const FREE_ATTEMPTS: u32 = 20;
const FREE_PAUSE: Duration = Duration::from_micros(100);

/// Private to the process: a pin of a call. The span is not freed until this is dropped.
pub struct Pin<'a> {
    att: &'a Attachment,
    granule: u64,
    /// The id of the table that counts the pin.
    table: u64,
    /// The epoch of the process that pinned. In a forked child the call is not under way.
    epoch: u32,
}

/// Private to the process: a pin of a Python object over the span's memory, which outlives the call.
pub struct OwnedPin {
    att: Arc<Attachment>,
    granule: u64,
    /// The id of the table that counts the pin.
    table: u64,
}

impl Pin<'_> {
    /// Returns whether the pin is this process's: a child that was forked during the call does not have it.
    pub fn is_own(&self) -> bool {
        self.epoch == fork::epoch()
    }

    /// Makes a pin that outlives the call. `None`: no handle ever had the attachment (it is that of a private copy), or
    /// the pin is not this process's.
    pub fn into_owned(self) -> Option<OwnedPin> {
        if !self.is_own() {
            return None;
        }
        let att = self.att.share()?;
        if !att.pins.lock().hand_over_to_object(self.granule, self.table) {
            return None;
        }
        let owned = OwnedPin { att, granule: self.granule, table: self.table };
        // The call's pin is the object's now.
        std::mem::forget(self);
        Some(owned)
    }
}

impl OwnedPin {
    /// Returns the attachment of the pinned span.
    pub fn attachment(&self) -> &Attachment {
        &self.att
    }
}

impl Drop for OwnedPin {
    fn drop(&mut self) {
        self.att.unpin(self.granule, self.table, PinHolder::Object);
        if self.att.registration.handles.load(Ordering::SeqCst) == 0 {
            // The last handle was detached while the object lived, so the release of the number was left to the object.
            self.att.release_number_if_unlocked();
        }
    }
}

impl Attachment {
    /// Returns the word and the bit of a granule in a participant's pin bitmap.
    fn pin_bit(&self, number: u32, granule: u64) -> Result<(&AtomicU64, u64)> {
        let geometry = &self.identity.geometry;
        let offset = geometry.pins + u64::from(number) * geometry.pin_stride + granule / 64 * 8;
        Ok((self.mem.at(offset)?, 1 << (granule % 64)))
    }

    /// Returns in which of the 128 parts of a pin bitmap the bit of a granule lies.
    fn pin_unit_of(&self, granule: u64) -> u64 {
        granule / 8 / self.identity.geometry.pin_unit()
    }

    /// Pins the span that begins at this granule, if `still` says after the pin that the variable is what was found
    /// before. The caller is inside [`Attachment::enter_call`], and `number` is this process's participant number.
    ///
    /// Returns `None` if the variable changed meanwhile (the caller tries again), or if there is no memory for the pin
    /// (the caller copies without one).
    pub fn pin(&self, number: u32, granule: u64, still: impl FnOnce() -> Result<bool>) -> Result<Option<Pin<'_>>> {
        let table;
        {
            let mut pins = self.pins.lock();
            if !self.adopt_inherited(number, &mut pins)? || !self.obtain_pin_unit(number, granule)? {
                return Ok(None);
            }
            let (word, bit) = self.pin_bit(number, granule)?;
            // Without memory for the count there is no pin.
            let Some(id) = pins.pin_for_call(number, granule) else { return Ok(None) };
            table = id;
            word.fetch_or(bit, Ordering::SeqCst);
            // CRASH: the process that reaps this one clears the bit and sweeps.
            crash_point!("pinned");
        }
        let pin = Pin { att: self, granule, table, epoch: fork::epoch() };
        // SYNC: with the fence of `free_retired`. The bit is set before this fence and the slot is loaded after it; the
        // process that frees has changed the slot before its fence and loads the bits after it. So one of the two sees
        // the other.
        fence(Ordering::SeqCst);
        // `still` compares the version, and not only the span's granule: the same span may hold a later value by now.
        Ok(still()?.then_some(pin))
    }

    /// Tells whether any participant has this span pinned.
    pub fn is_pinned(&self, granule: u64) -> Result<bool> {
        let unit = self.pin_unit_of(granule);
        let top = self.state().participants_top.load(Ordering::SeqCst).min(PARTICIPANTS);
        for number in 0..top {
            let Some(record) = self.participant(number) else { continue };
            let present = record.pin_units[(unit / 64).min(1) as usize].load(Ordering::SeqCst) >> (unit % 64) & 1 == 1;
            if present && record.state.load(Ordering::SeqCst) == 1 {
                let (word, bit) = self.pin_bit(number, granule)?;
                if word.load(Ordering::SeqCst) & bit != 0 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Makes the part of a participant's pin bitmap present in which the bit of a granule lies. Returns `false` if
    /// there is no memory for it.
    fn obtain_pin_unit(&self, number: u32, granule: u64) -> Result<bool> {
        let Some(record) = self.participant(number) else { return Ok(false) };
        let (unit, geometry) = (self.pin_unit_of(granule), &self.identity.geometry);
        let present = &record.pin_units[(unit / 64).min(1) as usize];
        if present.load(Ordering::Relaxed) >> (unit % 64) & 1 == 0 {
            let len = geometry.pin_unit();
            let start = geometry.pins + u64::from(number) * geometry.pin_stride + unit * len;
            debug_assert!(start % PAGE == 0 && len % PAGE == 0);
            if self.try_obtain_pages(start, len)?.is_err() {
                return Ok(false);
            }
            crash_point!("pin-unit-obtained");
            // CRASH: a page of zeros that no process reads.
            present.fetch_or(1 << (unit % 64), Ordering::SeqCst);
            crash_point!("pin-unit-marked");
        }
        Ok(true)
    }

    /// Clears the bits of these granules in the pin bitmap of participant `number`.
    pub fn clear_pin_bits(&self, number: u32, granules: &[u64]) {
        for granule in granules {
            let unit = self.pin_unit_of(*granule);
            let present = |p: &Participant| {
                p.pin_units[(unit / 64).min(1) as usize].load(Ordering::SeqCst) >> (unit % 64) & 1 == 1
            };
            if let (true, Ok((word, bit))) =
                (self.participant(number).is_some_and(present), self.pin_bit(number, *granule))
            {
                word.fetch_and(!bit, Ordering::SeqCst);
                crash_point!("child-unpinned");
            }
        }
    }

    /// Sets the bits of these granules in the pin bitmap of participant `number`, for objects that a forked child
    /// inherits. Returns `false` if there is no memory for the bitmap; some of the bits may be set then.
    pub fn set_pin_bits(&self, number: u32, granules: &[u64]) -> Result<bool> {
        for granule in granules {
            if !self.obtain_pin_unit(number, *granule)? {
                return Ok(false);
            }
            let (word, bit) = self.pin_bit(number, *granule)?;
            word.fetch_or(bit, Ordering::SeqCst);
            // CRASH: before the fork, the byte of the child's number is locked by this process alone. The number dies
            // with this process and is reaped.
            crash_point!("child-pinned");
        }
        Ok(true)
    }

    /// Pins what the inherited objects of a forked child lie over, if the child could not be given a number before the
    /// fork. The parent keeps these spans pinned for as long as the parent lives. Returns `false` if there is no memory
    /// for the bits.
    pub fn adopt_inherited(&self, number: u32, pins: &mut PinTable) -> Result<bool> {
        let inherited = pins.not_yet_adopted();
        if inherited.is_empty() {
            return Ok(true);
        }
        let pinned = self.set_pin_bits(number, &inherited)?;
        if pinned {
            pins.adopt(number);
        } else {
            self.clear_pin_bits(number, &inherited);
        }
        Ok(pinned)
    }

    fn span_entry(&self, granule: u64) -> Result<SpanEntry> {
        reading!(self, |access| access.entry(self, granule))
    }

    /// Counts one pin less, and clears the bit with the last one. If the span was retired meanwhile, this process frees
    /// it, now or at its next acquisition of the writer lock.
    fn unpin(&self, granule: u64, table: u64, holder: PinHolder) {
        {
            let mut pins = self.pins.lock();
            let Some(number) = pins.unpin(granule, table, holder) else { return };
            if let Ok((word, bit)) = self.pin_bit(number, granule) {
                word.fetch_and(!bit, Ordering::SeqCst);
                // CRASH: a retired span that no participant has pinned: the process that reaps this one sweeps.
                crash_point!("unpinned");
            }
        }
        // SYNC: with the fence of `free_retired`. The bit is cleared before this fence and the span's state is loaded
        // after it; the process that frees has retired the span before its fence and loads the bits after it.
        fence(Ordering::SeqCst);
        let retired = self.span_entry(granule).is_ok_and(|entry| entry.state() == SpanState::Retired);
        if retired {
            // If the writer lock is not free for so long, the span is freed at this process's next acquisition.
            let first = self.deferred.push(DeferredFree::Retired(granule));
            self.free_deferred_soon(first);
        }
    }

    /// Frees what this process is to free, if the writer lock is to be had soon. This may be the last call of the
    /// process for a long time, and what it frees may be most of the segment. `first`: nothing was to be freed before.
    /// Else the lock was not to be had for the last one either, so one attempt is enough: other threads may wait for this
    /// one meanwhile.
    pub fn free_deferred_soon(&self, first: bool) {
        let attempts = if first { FREE_ATTEMPTS } else { 1 };
        for attempt in 1..=attempts {
            if self.try_write().is_some() || self.number_now().is_none() || attempt == attempts {
                return;
            }
            std::thread::sleep(FREE_PAUSE);
        }
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            self.att.unpin(self.granule, self.table, PinHolder::Call);
        }
    }
}
