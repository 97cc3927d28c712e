//! Evicting: removing variables because another one needs their room.
//!
//! The protocol is "Eviction" in docs/protocol.md. Which variables were used last is in `stamps.rs`; a victim is chosen
//! in `victim.rs`.

use crate::error::{Error, Lack, Result};
use crate::format::{GRANULE, SpanState, State};
use crate::process::lock_slices::{LOCK_SLICE, YieldTimer};
use crate::process::wait_policy::{WAIT_LIMIT, WaitPolicy};
use crate::variables::victim::{Rules, Step, Turn};
use crate::variables::{Variables, VariablesWriter};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A call that the memory file system does not allow evicts this part of what is stored at a time, so that memory has
/// to be brought together seldom.
const PART: u64 = 16;
/// Where the memory file system has this many bytes more than a call needs, its lack of memory is of another kind.
const SLACK: u64 = 1 << 20;
/// How often the part that is evicted is doubled.
const DOUBLINGS: u32 = 16;
/// How often a call evicts because there is no memory.
const TURNS: u32 = 64;
/// How often it does so where nothing can be evicted, but memory is on its way to be free.
const TURNS_WITHOUT_VICTIM: u32 = 16;
/// The pause before such a turn.
const PAUSE: Duration = Duration::from_millis(2);
/// Before a change is made that takes more than this part of the limit, or of what is stored where memory is short, it
/// is found out whether enough can be evicted.
const LARGE: u64 = 16;

/// Private to the process: the evictions of one call. Those that wait for what was evicted are woken when this is
/// dropped, which is after the writer lock was released.
pub struct Evictions<'a> {
    att: &'a Variables,
    /// The wake words of the variables that were evicted, one bit for each.
    words: [u64; 4],
    /// How often the call evicted because there was no memory.
    turns: u32,
    /// When the call first had to evict: [`WAIT_LIMIT`] later it gives up, however others take the room.
    began: Option<Instant>,
}

impl<'a> Evictions<'a> {
    /// Begins with none.
    #[cold]
    pub fn new(att: &'a Variables) -> Self {
        Evictions { att, words: [0; 4], turns: 0, began: None }
    }

    fn add(&mut self, hash: u64) {
        self.words[(hash % 256 / 64) as usize] |= 1 << (hash % 64);
    }

    /// Returns whether the call has evicted for so long that it gives up.
    fn are_over(&mut self) -> bool {
        self.began.get_or_insert_with(Instant::now).elapsed() >= WAIT_LIMIT
    }

    /// Wakes those that wait. The writer lock is not held.
    pub(super) fn notify(&mut self) {
        for (number, word) in self.words.iter_mut().enumerate() {
            while *word != 0 {
                self.att.notify_changed(number as u64 * 64 + u64::from(word.trailing_zeros()));
                *word &= *word - 1;
            }
        }
    }
}

impl Drop for Evictions<'_> {
    fn drop(&mut self) {
        self.notify();
    }
}

/// Private to the process: what a change is charged, and what it replaces.
#[derive(Clone, Copy)]
pub struct Charges {
    /// The charge of what is stored.
    pub new: u64,
    /// The charge of what was there under the same indexes.
    pub old: u64,
}

impl Charges {
    /// Returns whether the limit allows the change.
    fn fit(self, state: &State) -> bool {
        let others = state.used.load(Ordering::Relaxed).saturating_sub(self.old);
        self.new <= state.limit.load(Ordering::Relaxed).saturating_sub(others)
    }
}

impl Variables {
    /// Evicts until the limit allows a change. Returns the writer lock, and whether it does. `spares` says which hashes
    /// are those of the change itself.
    #[cold]
    pub fn evict_for_limit<'a>(
        &'a self,
        mut writer: VariablesWriter<'a>,
        charges: Charges,
        spares: &dyn Fn(u64) -> bool,
        evictions: &mut Evictions<'_>,
        policy: &dyn WaitPolicy,
    ) -> Result<(VariablesWriter<'a>, bool)> {
        let limit = self.state().limit.load(Ordering::Relaxed);
        if charges.new > limit {
            return Ok((writer, false));
        }
        let rules = Rules { spares, pinned: true };
        let mut enough = true;
        if charges.new > limit / LARGE {
            if self.memory_is_short(charges.new)? {
                drop(writer);
                let unpinned = Rules { spares, pinned: false };
                if charges.new > self.most_memory(&unpinned, policy)? {
                    return Err(self.file_system_full(charges.new));
                }
                writer = self.write(policy)?;
            }
            (writer, enough) = self.can_make_room(writer, charges, &rules, policy)?;
        }
        if enough {
            if self.state().expiring.load(Ordering::Relaxed) != 0 {
                writer.collect_a_few();
            }
            let lacks = |_| !charges.fit(self.state());
            writer = self.evict_while(writer, lacks, &rules, evictions, policy)?.0;
        }
        let fits = charges.fit(self.state());
        Ok((writer, fits))
    }

    /// Returns the writer lock, which is let go for a moment in between, and whether there is enough to evict for a
    /// change. So what can never fit does not empty a cache.
    fn can_make_room<'a>(
        &'a self,
        mut writer: VariablesWriter<'a>,
        charges: Charges,
        rules: &Rules<'_>,
        policy: &dyn WaitPolicy,
    ) -> Result<(VariablesWriter<'a>, bool)> {
        let (mut from, mut found, mut began) = (Some(0), 0_u64, Instant::now());
        loop {
            let state = self.state();
            let others = state.used.load(Ordering::Relaxed).saturating_sub(charges.old);
            let free = state.limit.load(Ordering::Relaxed).saturating_sub(others);
            if charges.new <= free.saturating_add(found) {
                return Ok((writer, true));
            }
            let Some(hash) = from else { return Ok((writer, false)) };
            let (charge, end) = writer.charge_of_leaf(hash, rules)?;
            found = found.saturating_add(charge);
            from = end;
            if began.elapsed() >= LOCK_SLICE {
                self.yield_lock(writer.into(), policy);
                policy.interrupted()?;
                writer = self.write(policy)?;
                began = Instant::now();
            }
        }
    }

    /// Does what needs memory and is charged nothing. Where there is no memory, others are evicted, if the segment evicts
    /// anything.
    pub fn with_memory<T>(&self, policy: &dyn WaitPolicy, mut act: impl FnMut() -> Result<T>) -> Result<T> {
        let mut evictions = None;
        loop {
            match act() {
                Err(full @ Error::Full { .. }) if self.eviction.is_some() => {
                    let evictions = evictions.get_or_insert_with(|| Evictions::new(self));
                    self.evict_for_memory(full, evictions, &|_| false, policy)?;
                }
                outcome => return outcome,
            }
        }
    }

    /// Evicts because a call found no memory, so that it may be tried again.
    ///
    /// # Errors
    /// `full`, the error of that call, if nothing can be evicted, or if that would not help.
    #[cold]
    pub fn evict_for_memory(
        &self,
        full: Error,
        evictions: &mut Evictions<'_>,
        spares: &dyn Fn(u64) -> bool,
        policy: &dyn WaitPolicy,
    ) -> Result<()> {
        let Error::Full { needed, lack, .. } = full else { return Err(full) };
        if self.eviction.is_none() || lack == Lack::Other || evictions.turns >= TURNS || evictions.are_over() {
            return Err(full);
        }
        let rules = Rules { spares, pinned: false };
        let used = self.state().used.load(Ordering::Relaxed);
        // What is small beside the rest finds room, or few victims are lost for it.
        if evictions.turns == 0 && needed > used / LARGE && needed > self.most_memory(&rules, policy)? {
            return Err(full);
        }
        let wanted = needed.max(used / PART).saturating_mul(1 << evictions.turns.min(DOUBLINGS));
        evictions.turns += 1;
        let writer = self.write(policy)?;
        let (writer, freed) = self.evict_while(writer, |freed| freed < wanted, &rules, evictions, policy)?;
        drop(writer);
        evictions.notify();
        if freed > 0 || self.memory_came_free(needed)? {
            return Ok(());
        }
        // What others have evicted or cleared may be in their hands at this moment, on its way to be free.
        if evictions.turns < TURNS_WITHOUT_VICTIM && needed <= self.most_memory(&rules, policy)? {
            policy.allow_threads(&mut || std::thread::sleep(PAUSE));
            return policy.interrupted();
        }
        Err(full)
    }

    /// Returns how many bytes of memory values can have in this segment at most, whatever is evicted: what is free, and
    /// all that the arena has but for what stays, is in queues, or is retired.
    fn most_memory(&self, rules: &Rules<'_>, policy: &dyn WaitPolicy) -> Result<u64> {
        let (mut stays, mut filling, mut from, mut yielding) = (0_u64, 0_u64, Some(0), YieldTimer::new());
        while let Some(hash) = from {
            let writer = self.write(policy)?;
            let (bytes, end) = writer.stays_in_leaf(hash, rules)?;
            (stays, from) = (stays.saturating_add(bytes), end);
            yielding.release(writer.into(), policy);
            policy.interrupted()?;
        }
        // The bitmaps do not speak of pages of spans that others are filling.
        self.walk_spans(policy, |_, _, entry| {
            if entry.state() == SpanState::Filling {
                filling = filling.saturating_add(entry.len() * GRANULE);
            }
            Ok(())
        })?;
        let own = self.present_bytes().saturating_add(filling);
        let queued = self.state().queued.load(Ordering::Relaxed);
        let own = own.saturating_sub(self.retired_bytes()).saturating_sub(stays).saturating_sub(queued);
        Ok(self.file_system()?.1.saturating_add(own))
    }

    /// Returns whether the memory file system has room by now for so many bytes.
    fn memory_came_free(&self, needed: u64) -> Result<bool> {
        Ok(self.file_system()?.1 >= needed.saturating_add(SLACK))
    }

    /// Returns whether the memory file system has no room for so many bytes.
    pub fn memory_is_short(&self, needed: u64) -> Result<bool> {
        Ok(!self.memory_came_free(needed)?)
    }

    /// Evicts while `lacks` says so of the bytes that were evicted, and as long as there is a victim. Returns the
    /// writer lock, which is let go for a moment in between, and the number of bytes.
    fn evict_while<'a>(
        &'a self,
        mut writer: VariablesWriter<'a>,
        lacks: impl Fn(u64) -> bool,
        rules: &Rules<'_>,
        evictions: &mut Evictions<'_>,
        policy: &dyn WaitPolicy,
    ) -> Result<(VariablesWriter<'a>, u64)> {
        let (mut turn, mut freed, mut began) = (Turn::default(), 0_u64, Instant::now());
        while lacks(freed) && !evictions.are_over() {
            match writer.evict_next(&mut turn, rules)? {
                Step::Evicted { hash, charge } => {
                    evictions.add(hash);
                    freed = freed.saturating_add(charge);
                    self.note_freed(charge);
                }
                Step::Looked => {}
                Step::Nothing => break,
            }
            if began.elapsed() >= LOCK_SLICE {
                self.yield_lock(writer.into(), policy);
                evictions.notify();
                policy.interrupted()?;
                writer = self.write(policy)?;
                began = Instant::now();
            }
        }
        Ok((writer, freed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Eviction;
    use crate::process::wait_policy::Blocking;
    use crate::variables::AsVariables;
    use crate::{Key, Options, Segment};

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn a_call_that_has_evicted_for_long_gives_up_whatever_there_is_to_evict() {
        let key = Key::text(&format!("evict-over-{}", crate::os::pid())).unwrap();
        let segment = Segment::attach(key, &Options { evict: Some(Eviction::Lru), ..Options::default() }).unwrap();
        let attachment = segment.attachment().unwrap();
        let (att, free) = (attachment.variables(), |_| false);
        let limit = att.state().limit.load(Ordering::Relaxed);
        // The first time was long ago, because others take the room as fast as it is made; or it was just now.
        let long_ago = Instant::now().checked_sub(WAIT_LIMIT).unwrap();
        for (began, gives_up) in [(long_ago, true), (Instant::now(), false)] {
            let begun = || {
                segment.put_bytes("there", &[0; 5_000]).unwrap();
                let mut evictions = Evictions::new(att);
                evictions.began = Some(began);
                evictions
            };
            let tried = att.evict_for_memory(att.file_system_full(100), &mut begun(), &free, &Blocking);
            assert_eq!((tried.is_err(), segment.has("there").unwrap()), (gives_up, gives_up));
            let mut evictions = begun();
            segment.resize(att.state().used.load(Ordering::Relaxed), &Blocking).unwrap();
            let writer = att.write(&Blocking).unwrap();
            let charges = Charges { new: 100, old: 0 };
            let (writer, fits) = att.evict_for_limit(writer, charges, &free, &mut evictions, &Blocking).unwrap();
            drop(writer);
            assert_eq!((fits, segment.has("there").unwrap()), (!gives_up, gives_up));
            segment.resize(limit, &Blocking).unwrap();
        }
        segment.destroy().unwrap();
    }
}
