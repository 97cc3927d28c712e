//! Pins: a reader's mark on a span, without which nobody may free it.

use crate::error::Result;
use crate::format::{PAGE, PARTICIPANTS, Participant, SpanEntry, SpanState};
use crate::os::fork;
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::process::attachment::Attachment;
use crate::process::deferred_free::DeferredFree;
use crate::process::pin_table::{PinOf, PinTable};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// A span that stays as it is until this is dropped.
pub struct Pin<'a> {
    att: &'a Attachment,
    granule: u64,
    /// The table that counts it.
    table: u64,
    /// Of the process that pinned: in a child no call is under way.
    epoch: u32,
}

/// A pin that outlives the call: of a Python object over the span's memory.
pub struct OwnedPin {
    att: Arc<Attachment>,
    granule: u64,
    table: u64,
}

impl Pin<'_> {
    /// Makes it the caller's for as long as he likes. `None`: of a private copy, which no handle has.
    pub fn into_owned(self) -> Option<OwnedPin> {
        let att = self.att.share()?;
        att.pins.lock().pin_for_object(self.granule);
        // The call's own goes with `self`.
        Some(OwnedPin { att, granule: self.granule, table: self.table })
    }
}

#[cfg(feature = "crash-points")]
impl OwnedPin {
    /// Of what.
    pub fn attachment(&self) -> &Attachment {
        &self.att
    }
}

impl Drop for OwnedPin {
    fn drop(&mut self) {
        self.att.unpin(self.granule, self.table, PinOf::Object);
        if self.att.registration.handles.load(Ordering::SeqCst) == 0 {
            // The last handle was detached while the object lived.
            self.att.deregister_if_free();
        }
    }
}

impl Attachment {
    /// The word and bit of a granule in a participant's bitmap.
    fn pin_bit(&self, number: u32, granule: u64) -> Result<(&AtomicU64, u64)> {
        let geometry = &self.identity.geometry;
        let offset = geometry.pins + u64::from(number) * geometry.pin_stride + granule / 64 * 8;
        Ok((self.mem.at(offset)?, 1 << (granule % 64)))
    }

    /// Which of the 128 parts of a bitmap a granule's bit lies in.
    fn pin_unit_of(&self, granule: u64) -> u64 {
        granule / 8 / self.identity.geometry.pin_unit()
    }

    /// Pins the span that begins at this granule, where its variable is `still` what was found. `None`: it changed meanwhile, or
    /// there is no memory for the mark. The caller is inside (`enter_call`) and has a participant number.
    pub fn pin(&self, me: u32, granule: u64, still: impl FnOnce() -> Result<bool>) -> Result<Option<Pin<'_>>> {
        let table;
        {
            let mut pins = self.pins.lock();
            if !self.adopt_inherited(me, &mut pins)? || !self.make_pin_unit(me, granule)? {
                return Ok(None);
            }
            let (word, bit) = self.pin_bit(me, granule)?;
            // Nothing to remember it by: without a pin it is copied.
            let Some(id) = pins.pin_for_call(me, granule) else { return Ok(None) };
            table = id;
            word.fetch_or(bit, Ordering::SeqCst);
            // CRASH: whoever reaps us clears the bit and sweeps.
            crash_point!("pinned");
        }
        let pin = Pin { att: self, granule, table, epoch: fork::epoch() };
        // SYNC: with the fence of `free_retired`: our bit is set before we look again, the slot is changed before it looks.
        fence(Ordering::SeqCst);
        // The whole slot with its version, not only the span's number: the same span may hold a later value by now.
        Ok(still()?.then_some(pin))
    }

    /// Does any participant pin this span?
    pub fn pinned(&self, granule: u64) -> Result<bool> {
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

    /// Makes the part of a participant's bitmap present that a granule's bit lies in. False: there is no memory for it.
    fn make_pin_unit(&self, number: u32, granule: u64) -> Result<bool> {
        let Some(record) = self.participant(number) else { return Ok(false) };
        let (unit, geometry) = (self.pin_unit_of(granule), &self.identity.geometry);
        let present = &record.pin_units[(unit / 64).min(1) as usize];
        if present.load(Ordering::Relaxed) >> (unit % 64) & 1 == 0 {
            let len = geometry.pin_unit();
            let start = geometry.pins + u64::from(number) * geometry.pin_stride + unit * len;
            debug_assert!(start % PAGE == 0 && len % PAGE == 0);
            if self.obtain(start, len)?.is_err() {
                return Ok(false);
            }
            crash_point!("pin-unit-obtained");
            // CRASH: a page of zeros that nobody reads.
            present.fetch_or(1 << (unit % 64), Ordering::SeqCst);
            crash_point!("pin-unit-marked");
        }
        Ok(true)
    }

    /// Takes such marks away.
    pub fn unpin_for_child(&self, number: u32, granules: &[u64]) {
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

    /// Marks, for participant `number`, the spans that a child will inherit objects over.
    pub fn pin_for_child(&self, number: u32, granules: &[u64]) -> Result<bool> {
        for granule in granules {
            if !self.make_pin_unit(number, *granule)? {
                return Ok(false);
            }
            let (word, bit) = self.pin_bit(number, *granule)?;
            word.fetch_or(bit, Ordering::SeqCst);
            // CRASH: before the fork its byte is locked by us alone: it dies with us, and is reaped.
            crash_point!("child-pinned");
        }
        Ok(true)
    }

    /// Pins, in a forked child that could not be given a number before the fork, what its inherited objects look into: the
    /// process that it was forked from keeps these spans pinned until then. False: there is no memory for the marks.
    pub fn adopt_inherited(&self, me: u32, pins: &mut PinTable) -> Result<bool> {
        let inherited = pins.not_yet_ours();
        if inherited.is_empty() {
            return Ok(true);
        }
        let pinned = self.pin_for_child(me, &inherited)?;
        if pinned {
            pins.adopt(me);
        } else {
            self.unpin_for_child(me, &inherited);
        }
        Ok(pinned)
    }

    fn entry_of(&self, granule: u64) -> Result<SpanEntry> {
        reading!(self, |look| look.entry(self, granule))
    }

    fn unpin(&self, granule: u64, table: u64, of: PinOf) {
        {
            let mut pins = self.pins.lock();
            let Some(me) = pins.unpin(granule, table, of) else { return };
            if let Ok((word, bit)) = self.pin_bit(me, granule) {
                word.fetch_and(!bit, Ordering::SeqCst);
                // CRASH: a retired span that nobody pins: whoever reaps us sweeps.
                crash_point!("unpinned");
            }
        }
        // SYNC: with the fence of `free_retired`: our bit is cleared before we look, the span is retired before it looks.
        fence(Ordering::SeqCst);
        let retired = self.entry_of(granule).is_ok_and(|entry| entry.state() == SpanState::Retired);
        if retired {
            // Who holds the lock now does it at his next acquisition, or we do.
            self.deferred.push(DeferredFree::Retired(granule));
            drop(self.try_write());
        }
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            self.att.unpin(self.granule, self.table, PinOf::Call);
        }
    }
}
