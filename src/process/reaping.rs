//! Reaping: what the dead left in their names is undone, and their numbers are free again.

use crate::error::Result;
use crate::format::{PARTICIPANTS, PIN_UNITS, SpanEntry, SpanState, WAITERS};
use crate::process::attachment::Attachment;
use crate::process::reaping_progress::{Reaping, Stage};
use crate::process::registry_lock::RegistryLock;
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
    /// Reaps a few dead, if there are any: who attaches pays for those who died.
    pub fn reap_a_few(&self, me: u32) {
        self.reap_those(me, LOOK_AFTER);
    }

    /// The same for so many of those in use, going round from where the last look ended.
    pub fn reap_those(&self, me: u32, most: u32) {
        let top = self.state().participants_top.load(Ordering::Relaxed).clamp(1, PARTICIPANTS);
        let from = self.registration.next_look.fetch_add(most, Ordering::Relaxed) % top;
        let used = |n: &u32| self.participant(*n).is_some_and(|p| p.state.load(Ordering::Relaxed) == 1);
        for number in (0..top).map(|i| (from + i) % top).filter(used).take(most as usize) {
            if number != me && self.alive(number).is_ok_and(|alive| !alive) {
                let mut reaping = self.reaping_of(number);
                loop {
                    // Not if somebody writes: others will meet it again.
                    let Some(mut writer) = self.try_write() else { return };
                    let reaped = writer.reap_some(&mut reaping).unwrap_or(true);
                    self.yield_lock(writer, &Blocking);
                    if reaped {
                        break;
                    }
                }
            }
        }
    }

    /// Reaps all who are dead.
    pub fn reap_the_dead(&self, policy: &dyn WaitPolicy) -> Result<()> {
        let _inside = self.enter_call();
        let me = self.member(policy)?;
        let top = self.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
        for number in (0..top).filter(|n| *n != me) {
            let dead = || -> Result<bool> {
                let used = self.participant(number).is_some_and(|p| p.state.load(Ordering::Acquire) == 1);
                Ok(used && !self.alive(number)?)
            };
            // Somebody else may write each time; a hostile one may undo it each time.
            let (mut reaping, mut vain) = (self.reaping_of(number), 0);
            while vain < 1_000 && dead()? {
                // Any wait for the writer lock happens before the registry lock is taken, not under it.
                drop(self.write(policy)?);
                let registry = self.registry(policy)?;
                // Asked again: before we had the registry lock somebody may have reaped it, and somebody claimed it.
                if !dead()? {
                    break;
                }
                let before = reaping;
                if let Some(mut writer) = self.try_write() {
                    writer.reap_some(&mut reaping)?;
                    // Not in the caller's way: who holds the registry lock waits for no interpreter.
                    self.yield_lock(writer, &Blocking);
                }
                vain += u32::from(reaping == before || reaping.generation != before.generation);
                drop(registry);
                policy.interrupted()?;
            }
        }
        Ok(())
    }

    /// From its beginning.
    pub fn reaping_of(&self, number: u32) -> Reaping {
        let generation = self.participant(number).map_or(0, |record| record.generation.load(Ordering::Relaxed));
        Reaping { number, generation, stage: Stage::Locks(0) }
    }

    /// Lets the writer lock go, and whoever waits for it has the time to wake up and take it.
    pub fn yield_lock(&self, writer: Writer<'_>, policy: &dyn WaitPolicy) {
        let waited_for = self.state().lock.load(Ordering::Relaxed) & WAITERS != 0;
        drop(writer);
        if waited_for {
            policy.allow_threads(&mut || std::thread::sleep(PAUSE));
        }
    }

    /// Goes on with a reaping that a take-over began, if that can be done at once: a slice with each call that changes something.
    #[cold]
    pub fn continue_reaping(&self) {
        let Some(mut reaping) = self.after_release.reaping.lock().take() else { return };
        let number = reaping.number;
        let ended = || -> Option<bool> {
            let _registry = RegistryLock::at_once(self)?;
            let used = self.participant(number)?.state.load(Ordering::Acquire) == 1;
            if !used || self.alive(number).ok()? {
                // Somebody else has reaped it.
                return Some(true);
            }
            let mut writer = self.try_write()?;
            // Damage there is not the caller's.
            Some(writer.reap_some(&mut reaping).unwrap_or(true))
        };
        let mut ended = ended;
        if ended() != Some(true) {
            self.reap_later(reaping);
        }
    }

    /// Leaves a reaping to the next calls.
    pub fn reap_later(&self, reaping: Reaping) {
        *self.after_release.reaping.lock() = Some(reaping);
        self.after_release.due.store(true, Ordering::Relaxed);
    }
}

impl Writer<'_> {
    /// Undoes a little of what a dead participant left; at the end frees its number, and gives true. The registry lock is held,
    /// and the writer lock (by us).
    pub fn reap_some(&mut self, reaping: &mut Reaping) -> Result<bool> {
        if !self.reap_remains(reaping)? {
            return Ok(false);
        }
        if let Some(record) = self.att.participant(reaping.number) {
            // CRASH: until this store it is still in use and still dead: it is met again.
            record.state.store(0, Ordering::Release);
            crash_point!("reaped");
        }
        Ok(true)
    }

    /// Locks that it had, spans that it was filling or freeing, and its pins. True: all of it is undone.
    pub fn reap_remains(&mut self, reaping: &mut Reaping) -> Result<bool> {
        let now = self.att.reaping_of(reaping.number);
        if reaping.generation != now.generation {
            *reaping = now;
        }
        let began = Instant::now();
        while reaping.stage != Stage::End {
            reaping.stage = self.reap_step(reaping)?;
            if reaping.stage != Stage::End && began.elapsed() >= SLICE {
                // CRASH: it is still in use and still dead: what is undone stays so.
                crash_point!("reaping-paused");
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn reap_step(&mut self, reaping: &Reaping) -> Result<Stage> {
        let number = reaping.number;
        let Some(record) = self.att.participant(number) else { return Ok(Stage::End) };
        Ok(match reaping.stage {
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
                let mine = |entry: SpanEntry| {
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
    use crate::process::held_locks::LockOwner;
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
            assert!(
                att.coordination().acquire_lock(&name, LockOwner::task(1, 1), Some(Duration::ZERO), &Blocking).unwrap()
            );
        }
        // As if this process were dead.
        let me = att.number_now().unwrap();
        let (mut reaping, mut slices, mut most) = (att.reaping_of(me), 0, Duration::ZERO);
        loop {
            let mut writer = att.write(&Blocking).unwrap();
            let began = Instant::now();
            let reaped = writer.reap_remains(&mut reaping).unwrap();
            most = most.max(began.elapsed());
            drop(writer);
            if reaped {
                break;
            }
            slices += 1;
            segment.put(1, &slices).unwrap();
        }
        // So many commits are several times as long as a slice.
        assert!(slices > 1, "{slices} slices, the longest {most:?}");
        assert_eq!(segment.check().unwrap().locks, 0);
        // Of another life nothing is gone on with.
        let earlier = Reaping { generation: reaping.generation - 1, ..reaping };
        let mut again = earlier;
        att.write(&Blocking).unwrap().reap_remains(&mut again).unwrap();
        assert_eq!(again.generation, reaping.generation);
        segment.destroy().unwrap();
    }
}
