//! Burying: what the dead left in their names is undone, and their numbers are free again.

use crate::error::Result;
use crate::layout::{Entry, PARTICIPANTS, PIN_UNITS, SpanState};
use crate::segment::attachment::{Attachment, Patience};
use crate::segment::writer::Writer;
use crate::spare;
use std::sync::atomic::Ordering;

/// How many others a process looks after when it attaches.
const LOOK_AFTER: u32 = 8;

impl Attachment {
    /// Buries a few dead, if there are any: who attaches pays for those who died.
    pub fn look_after(&self, me: u32) {
        self.look_after_some(me, LOOK_AFTER);
    }

    /// The same for so many of those in use, going round from where the last look ended.
    pub fn look_after_some(&self, me: u32, most: u32) {
        let top = self.state().participants_top.load(Ordering::Relaxed).clamp(1, PARTICIPANTS);
        let from = self.looked_after.fetch_add(most, Ordering::Relaxed) % top;
        let used = |n: &u32| self.participant(*n).is_some_and(|p| p.state.load(Ordering::Relaxed) == 1);
        for number in (0..top).map(|i| (from + i) % top).filter(used).take(most as usize) {
            if number != me && self.alive(number).is_ok_and(|alive| !alive) {
                // Not if somebody writes: others will meet it again.
                let Some(mut writer) = self.try_write() else { return };
                let _ = writer.bury(number);
            }
        }
    }

    /// Buries all who are dead.
    pub fn bury_the_dead(&self, patience: &dyn Patience) -> Result<()> {
        let _inside = self.enter();
        let me = self.member(patience)?;
        let top = self.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
        for number in (0..top).filter(|n| *n != me) {
            let dead = || -> Result<bool> {
                let used = self.participant(number).is_some_and(|p| p.state.load(Ordering::Acquire) == 1);
                Ok(used && !self.alive(number)?)
            };
            // Somebody else may write each time; a hostile one may undo it each time.
            for _ in 0..1_000 {
                if !dead()? {
                    break;
                }
                // Any wait for the writer lock happens before the registry lock is taken, not under it.
                drop(self.write(patience)?);
                let _registry = self.registry(patience)?;
                // Asked again: before we had the registry lock somebody may have buried it, and somebody claimed it.
                if !dead()? {
                    break;
                }
                if let Some(mut writer) = self.try_write() {
                    writer.bury(number)?;
                }
            }
        }
        Ok(())
    }
}

impl Writer<'_> {
    /// Undoes what a dead participant left and frees its number. The registry lock is held, and the writer lock (by us).
    pub fn bury(&mut self, number: u32) -> Result<()> {
        self.bury_remains(number)?;
        if let Some(record) = self.att.participant(number) {
            // CRASH: until this store it is still in use and still dead: it is met again.
            record.state.store(0, Ordering::Release);
            crash_point!("buried");
        }
        Ok(())
    }

    /// Spans that it was filling or freeing, and its pins.
    pub fn bury_remains(&mut self, number: u32) -> Result<()> {
        let Some(record) = self.att.participant(number) else { return Ok(()) };
        if record.locks.load(Ordering::Relaxed) != 0 {
            self.bury_locks(number)?;
            record.locks.store(0, Ordering::Relaxed);
            crash_point!("locks-unmarked");
        }
        if record.spans.load(Ordering::Relaxed) != 0 {
            let mine = |state| matches!(state, SpanState::Filling | SpanState::Freeing);
            let his =
                |(granule, entry): (u64, Entry)| (mine(entry.state()) && entry.owner() == number).then_some(granule);
            let spans = self.att.arena().spans().filter_map(|span| span.map(his).transpose());
            for granule in spare::collect(spans, "a list of a dead process's spans")? {
                self.free_span(granule)?;
            }
            record.spans.store(0, Ordering::Relaxed);
            crash_point!("spans-unmarked");
        }
        let geometry = &self.att.identity.geometry;
        let mut pinned = false;
        for unit in 0..PIN_UNITS {
            let word = &record.pin_units[(unit / 64) as usize];
            if word.load(Ordering::Relaxed) >> (unit % 64) & 1 == 1 {
                let len = geometry.pin_unit();
                let start = unit * len;
                let len = len.min(geometry.pin_stride.saturating_sub(start));
                let offset = geometry.pins + u64::from(number) * geometry.pin_stride + start;
                self.att.mem.zero(offset, len as usize)?;
                pinned = true;
                crash_point!("pin-bits-cleared");
            }
        }
        if pinned {
            self.sweep()?;
        }
        // CRASH: after the sweep: until then they say that there may be spans that only this participant kept from being freed.
        for word in &record.pin_units {
            word.store(0, Ordering::Relaxed);
            crash_point!("pin-units-cleared");
        }
        Ok(())
    }
}
