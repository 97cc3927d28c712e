//! Waiting for a variable to change, and waking who waits.

use crate::error::{Error, Result};
use crate::format::{Bell, SLEEPER, WAKE_WORDS, WATCHER, WakeWord, at, sleeper_of};
use crate::key::{Index, Name};
use crate::os::{self, futex, object};
use crate::process::attachment::Attachment;
use crate::process::nap::Nap;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::wake_word;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// A waiter looks again this often: who should have woken it may have died before he did.
const SLICE: Duration = Duration::from_millis(500);
/// One who may not write looks so often: nobody can know that he waits.
const UNMARKED_SLICE: Duration = Duration::from_millis(50);
/// However many sleep.
const ALL: u32 = i32::MAX as u32;
/// Whoever sleeps.
const ANY: u32 = u32::MAX;
/// So often in vain, and a waiter sleeps unmarked for a while.
const IN_VAIN: u32 = 3;

fn nudge_bit() -> u32 {
    1 << (os::pid() % 32)
}

impl Attachment {
    /// The wake word of a name with this hash.
    #[inline(always)]
    pub fn wake_word(&self, hash: u64) -> Option<&WakeWord> {
        self.mem.at::<WakeWord>(at::WAKE + hash % WAKE_WORDS * 16).ok()
    }

    /// A variable with this hash has changed, and the lock was let go.
    #[inline(always)]
    pub fn ring_changed(&self, hash: u64) {
        if let Some(word) = self.wake_word(hash) {
            let bits = wake_word::ring(&word.changed, ANY);
            if bits != 0 {
                self.wake(&word.changed, bits, ALL, ANY);
            }
        }
    }

    /// A lock of this hash was let go; `all`: it is reserved, only one knows for whom.
    #[inline]
    pub fn ring_released(&self, hash: u64, all: bool) {
        if let Some(word) = self.wake_word(hash) {
            let bits = wake_word::ring(&word.released, sleeper_of(hash) | WATCHER);
            if bits != 0 {
                self.wake(&word.released, bits, if all { ALL } else { 1 }, sleeper_of(hash));
            }
        }
    }

    #[cold]
    fn wake(&self, bell: &Bell, bits: u32, sleepers: u32, which: u32) {
        if bits & !WATCHER != 0 {
            futex::wake_those(&bell.rings, sleepers, which);
        }
        if bits & WATCHER != 0 {
            let watch = &self.state().watch;
            watch.fetch_add(1, Ordering::SeqCst);
            // CRASH: the watchers look again after their slice.
            crash_point!("watch-counted");
            futex::wake(watch, ALL);
        }
    }

    /// Wakes whoever waits for anything.
    pub fn ring_all(&self) {
        // SYNC: as in `wake_word::ring`; nobody says that a lock was let go just before.
        fence(Ordering::SeqCst);
        for number in 0..WAKE_WORDS {
            let Some(word) = self.wake_word(number) else { return };
            for bell in [&word.changed, &word.released] {
                let bits = wake_word::ring(bell, ANY);
                if bits != 0 {
                    self.wake(bell, bits, ALL, ANY);
                }
            }
        }
    }

    /// Waits until a variable's version differs from `newer_than` (`None`: from now's): the version then, 0 where it is
    /// missing. `None`: time is up.
    pub fn wait(
        &self,
        index: &Index<'_>,
        newer_than: Option<u64>,
        timeout: Option<Duration>,
        patience: &dyn WaitPolicy,
    ) -> Result<Option<u64>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let hash = Name::from(index).hash(self.identity.hash_key);
        let Some(word) = self.wake_word(hash) else { return Err(Error::corrupt("the wake words")) };
        let (mut base, mut in_vain) = (newer_than, 0_u32);
        loop {
            let (rings, longest) = match self.mem.writable() {
                true => (wake_word::mark(&word.changed, SLEEPER), SLICE),
                false => (word.changed.rings.load(Ordering::SeqCst), UNMARKED_SLICE),
            };
            let (version, expiry) = self.version(index, patience)?;
            if version != *base.get_or_insert(version) {
                return Ok(Some(version));
            }
            self.is_gone()?;
            let left = deadline.map_or(longest, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            let lives = expiry.map_or(longest, |at| Duration::from_nanos(at.saturating_sub(os::boottime_ns()) + 1));
            patience.sleep(&Nap::on(&word.changed.rings, rings, longest.min(lives)).at_most(left.min(lives)));
            patience.interrupted()?;
            // Rung for another index of this word: who changes that all the time shall not pay for each change.
            let rung = self.mem.writable() && word.changed.rings.load(Ordering::Relaxed) != rings;
            in_vain = if rung { in_vain + 1 } else { 0 };
            if in_vain >= IN_VAIN && self.version(index, patience)?.0 == version {
                let pause = Duration::from_millis(1 << (in_vain - IN_VAIN).min(5)).min(Duration::from_millis(20));
                patience.sleep(&Nap::pause(pause).at_most(left.min(lives)));
                patience.interrupted()?;
            }
        }
    }

    /// For a watcher: marks the variable's wake word (`lock`: the lock's), then reads the version (of a lock: nothing) and the
    /// time to live in nanoseconds.
    pub fn mark_watched(&self, index: &Index<'_>, lock: bool, patience: &dyn WaitPolicy) -> Result<(u64, Option<u64>)> {
        let hash = Name { index: *index, lock }.hash(self.identity.hash_key);
        if let (true, Some(word)) = (self.mem.writable(), self.wake_word(hash)) {
            wake_word::mark(if lock { &word.released } else { &word.changed }, WATCHER);
        }
        if lock {
            return Ok((0, None));
        }
        let (version, expiry) = self.version(index, patience)?;
        self.is_gone()?;
        Ok((version, expiry.map(|at| at.saturating_sub(os::boottime_ns()))))
    }

    /// For a watcher of the whole segment: marks every variable's wake word, of those to come, too.
    ///
    /// # Errors
    /// [`Error::NotFound`]: the segment was destroyed.
    pub fn mark_all_watched(&self) -> Result<()> {
        if self.mem.writable() {
            for word in (0..WAKE_WORDS).filter_map(|number| self.wake_word(number)) {
                wake_word::mark(&word.changed, WATCHER);
            }
        }
        self.is_gone()
    }

    /// For a watcher: what it sleeps on, read before it marks.
    pub fn watch_count(&self) -> u32 {
        self.state().watch.load(Ordering::SeqCst)
    }

    /// For a watcher: sleeps until a marked word rings, or it is time to look again, or so long.
    pub fn watch(&self, count: u32, at_most: Option<Duration>, patience: &dyn WaitPolicy) {
        let slice = if self.mem.writable() { SLICE } else { UNMARKED_SLICE };
        let slice = at_most.map_or(slice, |at_most| at_most.min(slice));
        patience.sleep(&Nap::on_bits(&self.state().watch, count, slice, nudge_bit()));
    }

    /// Wakes this process's watcher (and few others): it has nobody to watch for any more.
    pub fn nudge(&self) {
        futex::wake_those(&self.state().watch, ALL, nudge_bit());
    }

    /// An error where the segment was destroyed.
    fn is_gone(&self) -> Result<()> {
        // CRASH: who destroyed it may have died before he said so; the object knows.
        let unlinked = || self.with_file(|fd| object::status(fd)).is_ok_and(|s| s.is_ok_and(|s| s.nlink == 0));
        match self.state().gone.load(Ordering::SeqCst) {
            0 if !unlinked() => Ok(()),
            _ => Err(Error::NotFound(format!(
                "key {}: the segment was destroyed, so nobody new will change it: attach anew",
                self.identity.key
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn who_waits_for_another_lock_of_the_same_word_stays_marked() {
        let key = crate::key::Key::text(&format!("wake-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        let att = segment.attachment().unwrap();
        let hash = |number| Name::of_lock(&Index::Int(number)).hash(att.identity.hash_key);
        let one = hash(0);
        let of_one_word = |other: &u64| other % WAKE_WORDS == one % WAKE_WORDS && sleeper_of(*other) != sleeper_of(one);
        let other = (1..).map(hash).find(of_one_word).unwrap();
        let bell = &att.wake_word(one).unwrap().released;
        wake_word::mark(bell, sleeper_of(one));
        wake_word::mark(bell, sleeper_of(other));
        att.ring_released(other, false);
        assert_eq!(bell.waits.load(Ordering::SeqCst), sleeper_of(one));
        att.ring_released(one, false);
        assert_eq!(bell.waits.load(Ordering::SeqCst), 0);
        segment.destroy().unwrap();
    }
}
