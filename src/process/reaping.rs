//! Burying: what the dead left in their names is undone, and their numbers are free again.

use crate::error::Result;
use crate::format::{Entry, PARTICIPANTS, PIN_UNITS, SpanState, WAITERS};
use crate::process::attachment::Attachment;
use crate::process::reaping_progress::{Burial, Stage};
use crate::process::registry_lock::Registry;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::process::walk::SLICE;
use crate::process::writer::{Writer, above};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How many others a process looks after when it attaches.
const LOOK_AFTER: u32 = 8;
/// Whoever waits for the lock when it is let go has so long to take it.
const PAUSE: Duration = Duration::from_millis(1);

impl Attachment {
    /// Buries a few dead, if there are any: who attaches pays for those who died.
    pub fn look_after(&self, me: u32) {
        self.look_after_some(me, LOOK_AFTER);
    }

    /// The same for so many of those in use, going round from where the last look ended.
    pub fn look_after_some(&self, me: u32, most: u32) {
        let top = self.state().participants_top.load(Ordering::Relaxed).clamp(1, PARTICIPANTS);
        let from = self.registration.next_look.fetch_add(most, Ordering::Relaxed) % top;
        let used = |n: &u32| self.participant(*n).is_some_and(|p| p.state.load(Ordering::Relaxed) == 1);
        for number in (0..top).map(|i| (from + i) % top).filter(used).take(most as usize) {
            if number != me && self.alive(number).is_ok_and(|alive| !alive) {
                let mut burial = self.burial_of(number);
                loop {
                    // Not if somebody writes: others will meet it again.
                    let Some(mut writer) = self.try_write() else { return };
                    let buried = writer.bury_some(&mut burial).unwrap_or(true);
                    self.let_others_write(writer, &Blocking);
                    if buried {
                        break;
                    }
                }
            }
        }
    }

    /// Buries all who are dead.
    pub fn bury_the_dead(&self, patience: &dyn WaitPolicy) -> Result<()> {
        let _inside = self.enter();
        let me = self.member(patience)?;
        let top = self.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
        for number in (0..top).filter(|n| *n != me) {
            let dead = || -> Result<bool> {
                let used = self.participant(number).is_some_and(|p| p.state.load(Ordering::Acquire) == 1);
                Ok(used && !self.alive(number)?)
            };
            // Somebody else may write each time; a hostile one may undo it each time.
            let (mut burial, mut vain) = (self.burial_of(number), 0);
            while vain < 1_000 && dead()? {
                // Any wait for the writer lock happens before the registry lock is taken, not under it.
                drop(self.write(patience)?);
                let registry = self.registry(patience)?;
                // Asked again: before we had the registry lock somebody may have buried it, and somebody claimed it.
                if !dead()? {
                    break;
                }
                let before = burial;
                if let Some(mut writer) = self.try_write() {
                    writer.bury_some(&mut burial)?;
                    // Not in the caller's way: who holds the registry lock waits for no interpreter.
                    self.let_others_write(writer, &Blocking);
                }
                vain += u32::from(burial == before || burial.generation != before.generation);
                drop(registry);
                patience.interrupted()?;
            }
        }
        Ok(())
    }

    /// From its beginning.
    pub fn burial_of(&self, number: u32) -> Burial {
        let generation = self.participant(number).map_or(0, |record| record.generation.load(Ordering::Relaxed));
        Burial { number, generation, stage: Stage::Locks(0) }
    }

    /// Lets the writer lock go, and whoever waits for it has the time to wake up and take it.
    pub fn let_others_write(&self, writer: Writer<'_>, patience: &dyn WaitPolicy) {
        let waited_for = self.state().lock.load(Ordering::Relaxed) & WAITERS != 0;
        drop(writer);
        if waited_for {
            patience.outside(&mut || std::thread::sleep(PAUSE));
        }
    }

    /// Goes on with a burial that a take-over began, if that can be done at once: a slice with each call that changes something.
    #[cold]
    pub fn bury_on(&self) {
        let Some(mut burial) = self.after_release.reaping.lock().take() else { return };
        let number = burial.number;
        let ended = || -> Option<bool> {
            let _registry = Registry::at_once(self)?;
            let used = self.participant(number)?.state.load(Ordering::Acquire) == 1;
            if !used || self.alive(number).ok()? {
                // Somebody else has buried it.
                return Some(true);
            }
            let mut writer = self.try_write()?;
            // Damage there is not the caller's.
            Some(writer.bury_some(&mut burial).unwrap_or(true))
        };
        let mut ended = ended;
        if ended() != Some(true) {
            self.bury_later(burial);
        }
    }

    /// Leaves a burial to the next calls.
    pub fn bury_later(&self, burial: Burial) {
        *self.after_release.reaping.lock() = Some(burial);
        self.after_release.due.store(true, Ordering::Relaxed);
    }
}

impl Writer<'_> {
    /// Undoes a little of what a dead participant left; at the end frees its number, and gives true. The registry lock is held,
    /// and the writer lock (by us).
    pub fn bury_some(&mut self, burial: &mut Burial) -> Result<bool> {
        if !self.bury_remains(burial)? {
            return Ok(false);
        }
        if let Some(record) = self.att.participant(burial.number) {
            // CRASH: until this store it is still in use and still dead: it is met again.
            record.state.store(0, Ordering::Release);
            crash_point!("buried");
        }
        Ok(true)
    }

    /// Locks that it had, spans that it was filling or freeing, and its pins. True: all of it is undone.
    pub fn bury_remains(&mut self, burial: &mut Burial) -> Result<bool> {
        let now = self.att.burial_of(burial.number);
        if burial.generation != now.generation {
            *burial = now;
        }
        let began = Instant::now();
        while burial.stage != Stage::End {
            burial.stage = self.bury_step(burial)?;
            if burial.stage != Stage::End && began.elapsed() >= SLICE {
                // CRASH: it is still in use and still dead: what is undone stays so.
                crash_point!("burial-paused");
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn bury_step(&mut self, burial: &Burial) -> Result<Stage> {
        let number = burial.number;
        let Some(record) = self.att.participant(number) else { return Ok(Stage::End) };
        Ok(match burial.stage {
            Stage::Locks(_) if record.locks.load(Ordering::Relaxed) == 0 => Stage::Spans(0),
            Stage::Locks(hash) => match above().reap_locks(self, number, hash)? {
                Some(hash) => Stage::Locks(hash),
                None => {
                    record.locks.store(0, Ordering::Relaxed);
                    crash_point!("locks-unmarked");
                    Stage::Spans(0)
                }
            },
            Stage::Spans(_) if record.spans.load(Ordering::Relaxed) == 0 => Stage::Pins(0, false),
            Stage::Spans(granule) => {
                let mine = |entry: Entry| {
                    matches!(entry.state(), SpanState::Filling | SpanState::Freeing) && entry.owner() == number
                };
                let free =
                    |writer: &mut Self, granule, entry| if mine(entry) { writer.free_span(granule) } else { Ok(()) };
                match self.walk_some(granule, free)? {
                    Some(granule) => Stage::Spans(granule),
                    None => {
                        record.spans.store(0, Ordering::Relaxed);
                        crash_point!("spans-unmarked");
                        Stage::Pins(0, false)
                    }
                }
            }
            Stage::Pins(PIN_UNITS, false) => self.unmark_pin_units(number),
            Stage::Pins(PIN_UNITS, true) => Stage::Sweep(0),
            Stage::Pins(unit, pinned) => {
                let word = &record.pin_units[(unit / 64) as usize];
                let present = word.load(Ordering::Relaxed) >> (unit % 64) & 1 == 1;
                if present {
                    let geometry = &self.att.identity.geometry;
                    let len = geometry.pin_unit();
                    let start = unit * len;
                    let len = len.min(geometry.pin_stride.saturating_sub(start));
                    let offset = geometry.pins + u64::from(number) * geometry.pin_stride + start;
                    self.att.mem.zero(offset, len as usize)?;
                    crash_point!("pin-bits-cleared");
                }
                Stage::Pins(unit + 1, pinned || present)
            }
            Stage::Sweep(granule) => match self.sweep_some(granule)? {
                Some(granule) => Stage::Sweep(granule),
                None => self.unmark_pin_units(number),
            },
            Stage::End => Stage::End,
        })
    }

    /// CRASH: after the sweep: until then they say that there may be spans that only this participant kept from being freed.
    fn unmark_pin_units(&self, number: u32) -> Stage {
        for word in self.att.participant(number).into_iter().flat_map(|record| &record.pin_units) {
            word.store(0, Ordering::Relaxed);
            crash_point!("pin-units-cleared");
        }
        Stage::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::AsCoordination;
    use crate::key::{Index, Key};
    use crate::process::held_locks::Who;
    use std::time::Duration;

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn others_write_between_the_slices_of_a_burial() {
        let key = Key::text(&format!("burial-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        let att = &*segment.attachment().unwrap();
        for number in 0..6_000 {
            let name = format!("name {number}");
            let name = Index::Text(&name);
            assert!(att.coordination().acquire_lock(&name, Who::task(1, 1), Some(Duration::ZERO), &Blocking).unwrap());
        }
        // As if this process were dead.
        let me = att.member_now().unwrap();
        let (mut burial, mut slices, mut most) = (att.burial_of(me), 0, Duration::ZERO);
        loop {
            let mut writer = att.write(&Blocking).unwrap();
            let began = Instant::now();
            let buried = writer.bury_remains(&mut burial).unwrap();
            most = most.max(began.elapsed());
            drop(writer);
            if buried {
                break;
            }
            slices += 1;
            segment.put(1, &slices).unwrap();
        }
        // So many commits are several times as long as a slice.
        assert!(slices > 1, "{slices} slices, the longest {most:?}");
        assert_eq!(segment.check().unwrap().locks, 0);
        // Of another life nothing is gone on with.
        let earlier = Burial { generation: burial.generation - 1, ..burial };
        let mut again = earlier;
        att.write(&Blocking).unwrap().bury_remains(&mut again).unwrap();
        assert_eq!(again.generation, burial.generation);
        segment.destroy().unwrap();
    }
}
