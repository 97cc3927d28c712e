//! Waiting for a variable to change, and waking who waits.

use crate::coordination::Coordination;
use crate::error::{Error, Result};
use crate::format::{SLEEPER, WAKE_WORDS, WATCHER};
use crate::key::{Index, Name};
use crate::os::{self, futex, object};
use crate::process::notify::ALL_SLEEPERS;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::wake_word;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A waiter looks again this often: who should have woken it may have died before he did.
const SLICE: Duration = Duration::from_millis(500);
/// One who may not write looks so often: nobody can know that he waits.
const UNMARKED_SLICE: Duration = Duration::from_millis(50);
/// So often in vain, and a waiter sleeps unmarked for a while.
const VAIN_WAKES: u32 = 3;

fn nudge_bit() -> u32 {
    1 << (os::pid() % 32)
}

impl Coordination {
    /// Waits until a variable's version differs from `newer_than` (`None`: from now's): the version then, 0 where it is
    /// missing. `None`: time is up.
    pub fn wait(
        &self,
        index: &Index<'_>,
        newer_than: Option<u64>,
        timeout: Option<Duration>,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<u64>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let hash = Name::from(index).hash(self.identity.hash_key);
        let Some(word) = self.wake_word(hash) else { return Err(Error::corrupt("the wake words")) };
        let (mut base, mut vain_wakes) = (newer_than, 0_u32);
        loop {
            let (count, longest) = match self.mem.writable() {
                true => (wake_word::mark(&word.changed, SLEEPER), SLICE),
                false => (word.changed.count.load(Ordering::SeqCst), UNMARKED_SLICE),
            };
            let (version, expiry) = self.version(index, policy)?;
            if version != *base.get_or_insert(version) {
                return Ok(Some(version));
            }
            self.is_gone()?;
            let left = deadline.map_or(longest, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            let lives = expiry.map_or(longest, |at| Duration::from_nanos(at.saturating_sub(os::boottime_ns()) + 1));
            policy.sleep(&Sleep::on(&word.changed.count, count, longest.min(lives)).at_most(left.min(lives)));
            policy.interrupted()?;
            // Rung for another index of this word: who changes that all the time shall not pay for each change.
            let woken = self.mem.writable() && word.changed.count.load(Ordering::Relaxed) != count;
            vain_wakes = if woken { vain_wakes + 1 } else { 0 };
            if vain_wakes >= VAIN_WAKES && self.version(index, policy)?.0 == version {
                let pause = Duration::from_millis(1 << (vain_wakes - VAIN_WAKES).min(5)).min(Duration::from_millis(20));
                policy.sleep(&Sleep::pause(pause).at_most(left.min(lives)));
                policy.interrupted()?;
            }
        }
    }

    /// For a watcher: marks the variable's wake word (`lock`: the lock's), then reads the version (of a lock: nothing) and the
    /// time to live in nanoseconds.
    pub fn mark_watched(&self, index: &Index<'_>, lock: bool, policy: &dyn WaitPolicy) -> Result<(u64, Option<u64>)> {
        let hash = Name { index: *index, lock }.hash(self.identity.hash_key);
        if let (true, Some(word)) = (self.mem.writable(), self.wake_word(hash)) {
            wake_word::mark(if lock { &word.released } else { &word.changed }, WATCHER);
        }
        if lock {
            return Ok((0, None));
        }
        let (version, expiry) = self.version(index, policy)?;
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
    pub fn watch(&self, count: u32, at_most: Option<Duration>, policy: &dyn WaitPolicy) {
        let slice = if self.mem.writable() { SLICE } else { UNMARKED_SLICE };
        let slice = at_most.map_or(slice, |at_most| at_most.min(slice));
        policy.sleep(&Sleep::on_bits(&self.state().watch, count, slice, nudge_bit()));
    }

    /// Wakes this process's watcher (and few others): it has nobody to watch for any more.
    pub fn nudge(&self) {
        futex::wake_those(&self.state().watch, ALL_SLEEPERS, nudge_bit());
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
