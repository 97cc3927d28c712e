//! Giving back pages of pin bitmaps.

use crate::error::{Error, Result};
use crate::format::PARTICIPANTS;
use crate::heap::{Heap, HeapWriter};
use crate::os::object;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::process::walk::SLICE;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Heap {
    /// Gives back the pin bitmaps of numbers that nobody has, and this process's own if it pins nothing. Whoever takes a
    /// number holds the registry lock; whoever looks at pins holds the writer lock.
    pub fn give_pins_back(&self, policy: &dyn WaitPolicy) -> Result<()> {
        let (mut backoff, mut unswept) = (Backoff::default(), Some(0));
        loop {
            backoff.again(Obstacle::RoomTaken, self, policy)?;
            // Any wait for the writer lock happens before the registry lock is taken, not under it.
            drop(self.write(policy)?);
            let _registry = self.registry(policy)?;
            if let Some(mut writer) = self.try_write() {
                if self.drop_own_pins(&mut writer, &mut unswept)? {
                    return self.drop_free_pins();
                }
                self.yield_lock(writer.into(), &Blocking);
            }
        }
    }

    /// Those of numbers that nobody has, next to each other at once.
    fn drop_free_pins(&self) -> Result<()> {
        let top = self.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
        let mut first = 0;
        for number in 0..=top {
            let record = if number < top { self.participant(number) } else { None };
            if record.is_some_and(|record| record.state.load(Ordering::Acquire) == 0) {
                self.unmark_pins(number);
                continue;
            }
            if first < number {
                self.punch_pins(first, number - first)?;
            }
            first = number + 1;
        }
        Ok(())
    }

    /// Nothing pins or unpins in this process while its table of pins is locked. False: from this granule on there may be retired
    /// spans still. (What was pinned meanwhile before it, its last unpin has freed, or left to this acquisition of the lock.)
    fn drop_own_pins(&self, writer: &mut HeapWriter<'_>, unswept: &mut Option<u64>) -> Result<bool> {
        let (Some(me), Some(pins)) = (self.number_now(), self.pins.try_lock()) else { return Ok(true) };
        if pins.is_empty() {
            // `pin_units` say that there may be retired spans that only this process kept from being freed: none after this.
            let began = Instant::now();
            while let Some(granule) = *unswept {
                *unswept = writer.sweep_some(granule)?;
                if unswept.is_some() && began.elapsed() >= SLICE {
                    return Ok(false);
                }
            }
            self.unmark_pins(me);
            self.punch_pins(me, 1)?;
        }
        Ok(true)
    }

    /// Nobody looks at the bits any more.
    fn unmark_pins(&self, number: u32) {
        let Some(record) = self.participant(number) else { return };
        for word in record.pin_units.iter().filter(|word| word.load(Ordering::Relaxed) != 0) {
            // Others look under the writer lock only, and its own process under the mutex of its pins.
            word.store(0, Ordering::Relaxed);
        }
        // CRASH: pages of zeros that nobody reads; the next trim gives them back.
        crash_point!("pins-unmarked");
    }

    fn punch_pins(&self, first: u32, numbers: u32) -> Result<()> {
        let geometry = &self.identity.geometry;
        let offset = geometry.pins + u64::from(first) * geometry.pin_stride;
        let punched = self.with_file(|fd| object::punch(fd, offset, u64::from(numbers) * geometry.pin_stride))?;
        punched.map_err(|e| Error::system("giving memory back", e))
    }
}
