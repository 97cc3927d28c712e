//! Waiting for a variable to change, and what watchers need for that.
//!
//! The protocol is "Wake words" in docs/protocol.md. Waiting for one of several variables is in `wait_any.rs`, waiting for
//! a named lock in `lock_acquire.rs`.

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

/// How often a waiter looks again: the process that should have woken it may have died before it did.
pub(super) const SLICE: Duration = Duration::from_millis(500);
/// How often a process that may not write looks again: it cannot leave a mark, so no process can know that it waits.
pub(super) const UNMARKED_SLICE: Duration = Duration::from_millis(50);
/// After this many wakes in vain a waiter sleeps for a while without a mark.
pub(super) const VAIN_WAKES: u32 = 3;

/// The bit by which a process's watcher is told from most others.
pub(super) fn nudge_bit() -> u32 {
    1 << (os::pid() % 32)
}

impl Coordination {
    /// Waits until a variable's version differs from `newer_than` (`None`: from the present one). Returns the version
    /// then, 0 if the variable is missing. `None`: the time is over.
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
        let (mut known, mut vain_wakes) = (newer_than, 0_u32);
        loop {
            let (count, longest) = match self.mem.writable() {
                true => (wake_word::mark(&word.changed, SLEEPER), SLICE),
                false => (word.changed.count.load(Ordering::SeqCst), UNMARKED_SLICE),
            };
            let (version, expiry) = self.version(index, policy)?;
            if version != *known.get_or_insert(version) {
                return Ok(Some(version));
            }
            self.check_not_gone()?;
            let left = deadline.map_or(longest, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            let time_to_live =
                expiry.map_or(longest, |at| Duration::from_nanos(at.saturating_sub(os::boottime_ns()) + 1));
            policy.sleep(
                &Sleep::on(&word.changed.count, count, longest.min(time_to_live)).at_most(left.min(time_to_live)),
            );
            policy.interrupted()?;
            // The waiter was woken for another index of the same wake word. A process that changes that index all the
            // time must not pay for a wake with each change.
            let woken = self.mem.writable() && word.changed.count.load(Ordering::Relaxed) != count;
            vain_wakes = if woken { vain_wakes + 1 } else { 0 };
            if vain_wakes >= VAIN_WAKES && self.version(index, policy)?.0 == version {
                let pause = Duration::from_millis(1 << (vain_wakes - VAIN_WAKES).min(5)).min(Duration::from_millis(20));
                policy.sleep(&Sleep::pause(pause).at_most(left.min(time_to_live)));
                policy.interrupted()?;
            }
        }
    }

    /// Marks the wake word of a variable (or of a lock, if `lock` is set), then reads the version and the time to live
    /// in nanoseconds. For a lock it reads neither. Watchers call this.
    pub fn mark_watched(&self, index: &Index<'_>, lock: bool, policy: &dyn WaitPolicy) -> Result<(u64, Option<u64>)> {
        let name = if lock { Name::of_lock(index) } else { Name::from(index) };
        let hash = name.hash(self.identity.hash_key);
        if let (true, Some(word)) = (self.mem.writable(), self.wake_word(hash)) {
            wake_word::mark(if lock { &word.released } else { &word.changed }, WATCHER);
        }
        if lock {
            return Ok((0, None));
        }
        let (version, expiry) = self.version(index, policy)?;
        self.check_not_gone()?;
        Ok((version, expiry.map(|at| at.saturating_sub(os::boottime_ns()))))
    }

    /// Marks the wake words of all variables, also of those that will be stored. A watcher of the whole segment calls
    /// this.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the segment was destroyed.
    pub fn mark_all_watched(&self) -> Result<()> {
        if self.mem.writable() {
            for word in (0..WAKE_WORDS).filter_map(|number| self.wake_word(number)) {
                wake_word::mark(&word.changed, WATCHER);
            }
        }
        self.check_not_gone()
    }

    /// Returns the count that a watcher sleeps on. The watcher reads it before it sets its marks.
    pub fn watch_count(&self) -> u32 {
        self.state().watch.load(Ordering::SeqCst)
    }

    /// Sleeps until a marked word is notified, or it is time to look again, or `at_most` is over. Watchers call this.
    pub fn watch(&self, count: u32, at_most: Option<Duration>, policy: &dyn WaitPolicy) {
        let slice = if self.mem.writable() { SLICE } else { UNMARKED_SLICE };
        let slice = at_most.map_or(slice, |at_most| at_most.min(slice));
        policy.sleep(&Sleep::on_bits(&self.state().watch, count, slice, nudge_bit()));
    }

    /// Wakes the watcher of this process (and few others) when it has nothing more to watch for.
    pub fn nudge(&self) {
        futex::wake_bits(&self.state().watch, ALL_SLEEPERS, nudge_bit());
    }

    /// Returns an error if the segment was destroyed.
    pub fn check_not_gone(&self) -> Result<()> {
        // CRASH: the process that destroyed the segment may have died before it stored `gone`. The kernel knows the
        // number of links.
        let unlinked = || self.with_file(|fd| object::status(fd)).is_ok_and(|s| s.is_ok_and(|s| s.nlink == 0));
        match self.state().gone.load(Ordering::SeqCst) {
            0 if !unlinked() => Ok(()),
            _ => Err(Error::NotFound(format!(
                "key {}: the segment was destroyed, so no process can attach to it any more: attach anew",
                self.identity.key
            ))),
        }
    }
}
