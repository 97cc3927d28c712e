//! Giving back the pages of pin bitmaps that have no bit set. It is a part of `trim`. The protocol is "Large records:
//! spans and pins" in `docs/protocol.md`, **give a bitmap back**.

use crate::error::{Error, Result};
use crate::format::PARTICIPANTS;
use crate::heap::{Heap, HeapWriter};
use crate::os::object;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::lock_slices::LOCK_SLICE;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Heap {
    /// Gives back the pin bitmaps of numbers that no process has, and that of this process if it has no pin. No process
    /// can claim a number meanwhile, because the registry lock is held, and none can look at pins, because the writer
    /// lock is held.
    pub fn give_pin_pages_back(&self, policy: &dyn WaitPolicy) -> Result<()> {
        let (mut backoff, mut unswept) = (Backoff::default(), Some(0));
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            // Any wait for the writer lock happens before the registry lock is taken, not under it.
            drop(self.write(policy)?);
            let _registry = self.registry(policy)?;
            if let Some(mut writer) = self.try_write() {
                if self.drop_own_bitmap(&mut writer, &mut unswept)? {
                    return self.drop_unused_bitmaps();
                }
                self.yield_lock(writer.into(), &Blocking);
            }
        }
    }

    /// Gives back the bitmaps of numbers that no process has. Bitmaps that lie next to each other are given back by one
    /// call.
    fn drop_unused_bitmaps(&self) -> Result<()> {
        let top = self.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
        let mut first = 0;
        for number in 0..=top {
            let record = if number < top { self.participant(number) } else { None };
            if record.is_some_and(|record| record.state.load(Ordering::Acquire) == 0) {
                self.unmark_pin_units(number);
                continue;
            }
            if first < number {
                self.punch_bitmaps(first, number - first)?;
            }
            first = number + 1;
        }
        Ok(())
    }

    /// Gives back the bitmap of this process, if it has no pin. No thread of this process pins or unpins meanwhile,
    /// because its pin table is locked.
    ///
    /// Returns `false` if a slice is over before all retired spans were swept: `unswept` is then the granule at which
    /// to go on. (What this process pinned since, in front of that granule, was freed by its last unpin, or was left to
    /// this acquisition of the lock.)
    fn drop_own_bitmap(&self, writer: &mut HeapWriter<'_>, unswept: &mut Option<u64>) -> Result<bool> {
        let (Some(number), Some(pins)) = (self.number_now(), self.pins.try_lock()) else { return Ok(true) };
        if pins.is_empty() {
            // `pin_units` say that there may be retired spans that only this process has kept from being freed. After
            // the sweep there are none.
            let began = Instant::now();
            while let Some(granule) = *unswept {
                *unswept = writer.sweep_some(granule)?;
                if unswept.is_some() && began.elapsed() >= LOCK_SLICE {
                    return Ok(false);
                }
            }
            self.unmark_pin_units(number);
            self.punch_bitmaps(number, 1)?;
        }
        Ok(true)
    }

    /// Says in a participant's record that no part of its bitmap is present, so that no process looks at the bits any
    /// more.
    fn unmark_pin_units(&self, number: u32) {
        let Some(record) = self.participant(number) else { return };
        for word in record.pin_units.iter().filter(|word| word.load(Ordering::Relaxed) != 0) {
            // Relaxed is enough: other processes look under the writer lock only, and the number's own process under
            // the mutex of its pins.
            word.store(0, Ordering::Relaxed);
        }
        // CRASH: pages of zeros that no process reads; the next trim gives them back.
        crash_point!("pins-unmarked");
    }

    /// Gives back the pages of the bitmaps of this many participants, from number `first` on.
    fn punch_bitmaps(&self, first: u32, numbers: u32) -> Result<()> {
        let geometry = &self.identity.geometry;
        let offset = geometry.pins + u64::from(first) * geometry.pin_stride;
        let punched = self.with_file(|fd| object::punch(fd, offset, u64::from(numbers) * geometry.pin_stride))?;
        punched.map_err(|e| Error::system("giving memory back", e))
    }
}
