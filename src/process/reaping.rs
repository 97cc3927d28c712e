//! Reaping: undoing what a dead process left in the name of its participant number (named locks, unpublished spans,
//! pins), so that the number is free again. How far a reaping has come stands in `reaping_progress.rs`. The protocol is
//! "Death" in `docs/protocol.md`.

use crate::error::Result;
use crate::format::{PARTICIPANTS, PIN_UNITS, Participant, SpanEntry, SpanState};
use crate::process::attachment::Attachment;
use crate::process::lock_slices::LOCK_SLICE;
use crate::process::reaping_progress::{ReapingProgress, ReapingStage};
use crate::process::registry_lock::RegistryLock;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::process::writer::{Writer, above};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// How many other participants a process looks at when it attaches, to reap those that are dead.
const LOOK_AT: u32 = 8;

impl Attachment {
    /// Looks at a few participants and reaps the dead among them. A process that attaches does this, so the cost of
    /// deaths is shared. `own` is the participant number of this process. The registry lock is held.
    pub fn reap_a_few(&self, own: u32) {
        self.reap_up_to(own, LOOK_AT);
    }

    /// Looks at up to `most` participants in use and reaps the dead among them. The look goes round: it begins where
    /// the last one ended. The registry lock is held.
    pub fn reap_up_to(&self, own: u32, most: u32) {
        let top = self.state().participants_top.load(Ordering::Relaxed).clamp(1, PARTICIPANTS);
        let from = self.registration.next_look.fetch_add(most, Ordering::Relaxed) % top;
        let used = |n: &u32| self.participant(*n).is_some_and(|p| p.state.load(Ordering::Relaxed) == 1);
        for number in (0..top).map(|i| (from + i) % top).filter(used).take(most as usize) {
            if number != own && self.alive(number).is_ok_and(|alive| !alive) {
                let mut reaping = self.reaping_of(number);
                loop {
                    // If another process writes just now, the dead participant is left to the next process that meets
                    // it.
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

    /// Reaps all dead participants.
    pub fn reap_the_dead(&self, policy: &dyn WaitPolicy) -> Result<()> {
        let _call = self.enter_call();
        let own = self.register(policy)?;
        let top = self.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
        for number in (0..top).filter(|n| *n != own) {
            let dead = || -> Result<bool> {
                let used = self.participant(number).is_some_and(|p| p.state.load(Ordering::Acquire) == 1);
                Ok(used && !self.alive(number)?)
            };
            // The attempts without progress are bounded: another process may write at each of them, and a hostile one
            // may undo each of them.
            let (mut reaping, mut without_progress) = (self.reaping_of(number), 0);
            while without_progress < 1_000 && dead()? {
                // Any wait for the writer lock happens before the registry lock is taken, not under it.
                drop(self.write(policy)?);
                let registry = self.registry(policy)?;
                // Asked again: before the registry lock was held, the number may have been reaped and claimed anew.
                if !dead()? {
                    break;
                }
                let before = reaping;
                if let Some(mut writer) = self.try_write() {
                    writer.reap_some(&mut reaping)?;
                    // The pause is not made as the caller's policy would: a process that holds the registry lock must
                    // not wait for an interpreter.
                    self.yield_lock(writer, &Blocking);
                }
                without_progress += u32::from(reaping == before || reaping.generation != before.generation);
                drop(registry);
                policy.interrupted()?;
            }
        }
        Ok(())
    }

    /// Returns the progress of a reaping that has not begun.
    pub fn reaping_of(&self, number: u32) -> ReapingProgress {
        let generation = self.participant(number).map_or(0, |record| record.generation.load(Ordering::Relaxed));
        ReapingProgress { number, generation, stage: ReapingStage::Locks(0) }
    }

    /// Goes on, for one slice, with a reaping that began when this process took the writer lock over. Called after each
    /// change. If the registry lock or the writer lock is not free at once, the reaping is left to the next call.
    #[cold]
    pub fn continue_reaping(&self) {
        let Some(mut reaping) = self.after_release.reaping.lock().take() else { return };
        let number = reaping.number;
        let mut slice = || -> Option<bool> {
            let _registry = RegistryLock::try_take(self)?;
            let used = self.participant(number)?.state.load(Ordering::Acquire) == 1;
            if !used || self.alive(number).ok()? {
                // Another process has reaped the participant.
                return Some(true);
            }
            let mut writer = self.try_write()?;
            // Damage that the reaping finds is not the caller's concern.
            Some(writer.reap_some(&mut reaping).unwrap_or(true))
        };
        if slice() != Some(true) {
            self.reap_later(reaping);
        }
    }

    /// Leaves a reaping to the next calls of this process.
    pub fn reap_later(&self, reaping: ReapingProgress) {
        *self.after_release.reaping.lock() = Some(reaping);
        self.after_release.due.store(true, Ordering::Relaxed);
    }
}

impl Writer<'_> {
    /// Reaps a dead participant for one slice. Returns `true` if nothing is left: then its number is free. The registry
    /// lock is held, too.
    pub fn reap_some(&mut self, reaping: &mut ReapingProgress) -> Result<bool> {
        if !self.reap_remains(reaping)? {
            return Ok(false);
        }
        if let Some(record) = self.att.participant(reaping.number) {
            // CRASH: before this store the participant is still in use and still dead, so another process reaps it.
            record.state.store(0, Ordering::Release);
            crash_point!("reaped");
        }
        Ok(true)
    }

    /// Undoes, for one slice, what a dead participant left: its named locks, the spans that it was filling or freeing,
    /// and its pins. Returns `true` if nothing is left. The number stays in use.
    pub fn reap_remains(&mut self, reaping: &mut ReapingProgress) -> Result<bool> {
        let now = self.att.reaping_of(reaping.number);
        if reaping.generation != now.generation {
            *reaping = now;
        }
        let began = Instant::now();
        while reaping.stage != ReapingStage::End {
            reaping.stage = self.reap_step(reaping)?;
            if reaping.stage != ReapingStage::End && began.elapsed() >= LOCK_SLICE {
                // CRASH: the participant is still in use and still dead; what is undone stays undone.
                crash_point!("reaping-paused");
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes one step of a reaping. Returns what is done next.
    fn reap_step(&mut self, reaping: &ReapingProgress) -> Result<ReapingStage> {
        let number = reaping.number;
        let Some(record) = self.att.participant(number) else { return Ok(ReapingStage::End) };
        Ok(match reaping.stage {
            ReapingStage::Locks(_) if record.locks.load(Ordering::Relaxed) == 0 => ReapingStage::Spans(0),
            ReapingStage::Locks(hash) => match above().reap_locks(self, number, hash)? {
                Some(hash) => ReapingStage::Locks(hash),
                None => {
                    record.locks.store(0, Ordering::Relaxed);
                    crash_point!("locks-unmarked");
                    ReapingStage::Spans(0)
                }
            },
            ReapingStage::Spans(_) if record.spans.load(Ordering::Relaxed) == 0 => ReapingStage::Pins(0, false),
            ReapingStage::Spans(granule) => {
                let in_its_name = |entry: SpanEntry| {
                    matches!(entry.state(), SpanState::Filling | SpanState::Freeing) && entry.owner() == number
                };
                let free = |writer: &mut Self, granule, entry| {
                    if in_its_name(entry) { writer.free_span(granule) } else { Ok(()) }
                };
                match self.walk_some(granule, free)? {
                    Some(granule) => ReapingStage::Spans(granule),
                    None => {
                        record.spans.store(0, Ordering::Relaxed);
                        crash_point!("spans-unmarked");
                        ReapingStage::Pins(0, false)
                    }
                }
            }
            ReapingStage::Pins(from, pinned) => match next_part(record, from) {
                Some(unit) => {
                    let geometry = &self.att.identity.geometry;
                    let len = geometry.pin_unit();
                    let start = unit * len;
                    let len = len.min(geometry.pin_stride.saturating_sub(start));
                    let offset = geometry.pins + u64::from(number) * geometry.pin_stride + start;
                    self.att.mem.zero(offset, len as usize)?;
                    crash_point!("pin-bits-cleared");
                    ReapingStage::Pins(unit + 1, true)
                }
                None if pinned => ReapingStage::Sweep(0),
                None => self.unmark_pin_units(number),
            },
            ReapingStage::Sweep(granule) => match self.sweep_some(granule)? {
                Some(granule) => ReapingStage::Sweep(granule),
                None => self.unmark_pin_units(number),
            },
            ReapingStage::End => ReapingStage::End,
        })
    }

    /// Says in a participant's record that no part of its pin bitmap is present. CRASH: this comes after the sweep.
    /// Until then `pin_units` say that there may be retired spans that only this participant has kept from being freed.
    fn unmark_pin_units(&self, number: u32) -> ReapingStage {
        for word in self.att.participant(number).into_iter().flat_map(|record| &record.pin_units) {
            word.store(0, Ordering::Relaxed);
            crash_point!("pin-units-cleared");
        }
        ReapingStage::End
    }
}

/// Returns the next part of a participant's pin bitmap that is present, from the part `from` on.
fn next_part(record: &Participant, from: u64) -> Option<u64> {
    let present = |unit: &u64| record.pin_units[(unit / 64) as usize].load(Ordering::Relaxed) >> (unit % 64) & 1 == 1;
    (from..PIN_UNITS).find(present)
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
    fn a_reaping_makes_no_step_for_a_part_of_the_pin_bitmap_that_is_not_there() {
        let key = Key::text(&format!("reaping-pins-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        let att = &*segment.attachment().unwrap();
        let number = att.number_now().unwrap();
        let record = att.participant(number).unwrap();
        let steps_with = |parts: [u64; 2]| {
            // As if this process were dead.
            record.pin_units.iter().zip(parts).for_each(|(word, parts)| word.store(parts, Ordering::Relaxed));
            let (mut reaping, mut stages) = (att.reaping_of(number), Vec::new());
            let mut writer = att.write(&Blocking).unwrap();
            while reaping.stage != ReapingStage::End {
                reaping.stage = writer.reap_step(&reaping).unwrap();
                stages.push(reaping.stage);
            }
            assert!(record.pin_units.iter().all(|word| word.load(Ordering::Relaxed) == 0));
            stages.retain(|stage| matches!(stage, ReapingStage::Pins(..)));
            stages
        };
        assert_eq!(steps_with([0, 0]), [ReapingStage::Pins(0, false)]);
        let last = PIN_UNITS - 1;
        assert_eq!(
            steps_with([1, 1 << 63]),
            [ReapingStage::Pins(0, false), ReapingStage::Pins(1, true), ReapingStage::Pins(last + 1, true)]
        );
        segment.destroy().unwrap();
    }

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn other_processes_write_between_the_slices_of_a_reaping() {
        let key = Key::text(&format!("reaping-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        let att = &*segment.attachment().unwrap();
        for number in 0..40_000 {
            let name = format!("name {number}");
            let name = Index::Text(&name);
            assert!(
                att.coordination().acquire_lock(&name, LockOwner::task(1, 1), Some(Duration::ZERO), &Blocking).unwrap()
            );
        }
        // As if this process were dead.
        let number = att.number_now().unwrap();
        let (mut reaping, mut slices, mut most) = (att.reaping_of(number), 0, Duration::ZERO);
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
        // So many commits take several times as long as a slice.
        assert!(slices > 1, "{slices} slices, the longest {most:?}");
        assert_eq!(segment.check().unwrap().locks, 0);
        // The progress of an earlier generation does not count.
        let mut earlier = ReapingProgress { generation: reaping.generation - 1, ..reaping };
        att.write(&Blocking).unwrap().reap_remains(&mut earlier).unwrap();
        assert_eq!(earlier.generation, reaping.generation);
        segment.destroy().unwrap();
    }
}
