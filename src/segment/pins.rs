//! Pins: a reader's mark on a span, without which nobody may free it.

use crate::error::Result;
use crate::layout::{PAGE, PARTICIPANTS, SpanState};
use crate::os::fork;
use crate::segment::attachment::{Attachment, Chore};
use crate::segment::table::Found;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// A span that stays as it is until this is dropped.
pub struct Pin<'a> {
    att: &'a Attachment,
    granule: u64,
    /// Whose bitmap the mark is in.
    me: u32,
    /// Of the process that pinned: its forked children did not.
    epoch: u32,
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

    /// Pins the span of a variable that was found. `None`: it changed meanwhile, or there is no memory for the mark.
    /// The caller is inside (`enter`) and has a participant number.
    pub fn pin(&self, me: u32, found: &Found) -> Result<Option<Pin<'_>>> {
        let granule = found.content.granule();
        let Some(record) = self.participant(me) else { return Ok(None) };
        {
            let mut pins = self.pins.lock();
            if pins.0 != fork::epoch() {
                // A child's: its parent's pins are the parent's.
                *pins = (fork::epoch(), Default::default());
            }
            let (unit, len) = (self.pin_unit_of(granule), self.identity.geometry.pin_unit());
            let present = &record.pin_units[(unit / 64) as usize];
            if present.load(Ordering::Relaxed) >> (unit % 64) & 1 == 0 {
                let geometry = &self.identity.geometry;
                let start = geometry.pins + u64::from(me) * geometry.pin_stride + unit * len;
                debug_assert!(start.is_multiple_of(PAGE) && len % PAGE == 0);
                if self.obtain(start, len)?.is_err() {
                    return Ok(None);
                }
                present.fetch_or(1 << (unit % 64), Ordering::SeqCst);
            }
            let (word, bit) = self.pin_bit(me, granule)?;
            let count = pins.1.entry(granule).or_insert(0);
            *count += 1;
            word.fetch_or(bit, Ordering::SeqCst);
        }
        let pin = Pin { att: self, granule, me, epoch: fork::epoch() };
        crash_point!("pinned");
        // SYNC: with the fence of `free_retired`: our bit is set before we look again, the slot is changed before it looks.
        fence(Ordering::SeqCst);
        // The whole slot with its version, not only the span's number: the same span may hold a later value by now.
        Ok(self.still(found)?.then_some(pin))
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

    fn unpin(&self, granule: u64, me: u32) {
        {
            let mut pins = self.pins.lock();
            if pins.0 != fork::epoch() {
                return;
            }
            let Some(count) = pins.1.get_mut(&granule) else { return };
            *count -= 1;
            if *count > 0 {
                return;
            }
            pins.1.remove(&granule);
            if let Ok((word, bit)) = self.pin_bit(me, granule) {
                word.fetch_and(!bit, Ordering::SeqCst);
            }
        }
        // SYNC: with the fence of `free_retired`: our bit is cleared before we look, the span is retired before it looks.
        fence(Ordering::SeqCst);
        let retired = self.arena().entry(granule).is_ok_and(|entry| entry.state() == SpanState::Retired);
        if retired {
            // Who holds the lock now does it at his next acquisition, or we do.
            self.leave_chore(Chore::Retired(granule));
            drop(self.try_write());
        }
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            self.att.unpin(self.granule, self.me);
        }
    }
}
