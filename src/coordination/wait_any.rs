//! Waiting for the first of several variables to change.
//!
//! The protocol is "Wake words", **Wait for any**, in docs/protocol.md: the thread marks all of the wake words as watched
//! and sleeps on the watch count alone, so that what it waits for costs nothing while it sleeps.

use crate::coordination::Coordination;
use crate::coordination::wait::{SLICE, UNMARKED_SLICE, VAIN_WAKES, nudge_bit};
use crate::error::{Error, Result};
use crate::format::WATCHER;
use crate::key::{Index, Name};
use crate::os;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::{bound, wake_word};
use std::time::{Duration, Instant};

/// After looks in vain a waiter pauses for at least so many times what a look takes.
const PAUSE_TIMES: u32 = 20;

/// Private to the process: a variable that a call waits for.
#[derive(Clone, Copy)]
pub struct Awaited<'a> {
    /// Which variable.
    pub index: Index<'a>,
    /// The version that the caller knows. `None`: that of the first look.
    pub seen: Option<u64>,
}

/// Private to the process: what a look at several variables has found.
pub struct Looked {
    /// The first variable, by its place in the caller's order, whose version is another one, with that version.
    pub changed: Option<(usize, u64)>,
    /// If none has changed: when the first of them expires, on the clock of expiries.
    pub expiry: Option<u64>,
}

impl Coordination {
    /// Waits until the version of one of the variables differs from the one that is known. Returns the place of the
    /// variable and its version then, 0 if it is missing. `None`: the time is over.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are no variables, [`Error::NotFound`] if the segment was destroyed.
    pub fn wait_any(
        &self,
        awaited: &mut [Awaited<'_>],
        timeout: Option<Duration>,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<(usize, u64)>> {
        if awaited.is_empty() {
            return Err(Error::Invalid("there is no index to wait for".into()));
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let longest = if self.mem.writable() { SLICE } else { UNMARKED_SLICE };
        let (mut last_count, mut vain_looks) = (self.watch_count(), 0_u32);
        let mut last = None::<(u64, Looked)>;
        loop {
            // SYNC: the count is read before the marks are set: whoever clears one of them moves it afterwards.
            let (count, began) = (self.watch_count(), Instant::now());
            // A look at many variables takes long, and that of a process that may not write is calls to the kernel. While
            // nothing at all changes in the segment, one look says what the last one said.
            let quiet = bound::quiet(self.state(), self.mem.intent());
            // SYNC: who has cleared a mark since the last look has moved the count, or will: then the sleep ends at once.
            let marked = count == last_count || !self.mem.writable();
            let same = last.take().filter(|(serial, looked)| {
                let over = looked.expiry.is_some_and(|expiry| expiry <= os::boottime_ns());
                marked && Some(*serial) == quiet && !over
            });
            let looked = match same {
                Some((_, looked)) => looked,
                None => self.mark_and_look(awaited, policy)?,
            };
            if looked.changed.is_some() {
                return Ok(looked.changed);
            }
            self.check_not_gone()?;
            let now = Instant::now();
            let left = deadline.map_or(longest, |deadline| deadline.saturating_duration_since(now));
            if left.is_zero() {
                return Ok(None);
            }
            let time_to_live =
                looked.expiry.map_or(longest, |at| Duration::from_nanos(at.saturating_sub(os::boottime_ns()) + 1));
            // Something else that is watched has changed. A process that changes that all the time must neither pay for
            // a wake with each change nor keep this thread busy.
            vain_looks = if count == last_count { 0 } else { vain_looks + 1 };
            last_count = count;
            let sleep = if vain_looks < VAIN_WAKES {
                // The nudges of this process are for its tasks' watcher.
                let not_nudged = !nudge_bit();
                Sleep::on_bits(&self.state().watch, count, longest.min(time_to_live), not_nudged)
            } else {
                let pause = Duration::from_millis(1 << (vain_looks - VAIN_WAKES).min(5)).min(Duration::from_millis(20));
                let pause = pause.max((now - began) * PAUSE_TIMES).min(SLICE);
                Sleep::pause(pause.min(time_to_live))
            };
            policy.sleep(&sleep.at_most(left.min(time_to_live)));
            policy.interrupted()?;
            last = quiet.map(|serial| (serial, looked));
        }
    }

    /// Marks the wake words of the variables as watched, and looks whether one has changed. What is not known of a
    /// variable is known afterwards, unless an earlier one has changed.
    pub fn mark_and_look(&self, awaited: &mut [Awaited<'_>], policy: &dyn WaitPolicy) -> Result<Looked> {
        let (mut changed, mut expiry) = (None, None);
        let mut end = awaited.len();
        loop {
            let mut found = None;
            for (place, one) in awaited[..end].iter_mut().enumerate() {
                if self.mem.writable() {
                    let hash = Name::from(&one.index).hash(self.identity.hash_key);
                    let Some(word) = self.wake_word(hash) else { return Err(Error::corrupt("the wake words")) };
                    // SYNC: a mark before the look at its variable.
                    wake_word::mark(&word.changed, WATCHER);
                }
                let (version, expires) = self.version(&one.index, policy)?;
                if version != *one.seen.get_or_insert(version) {
                    found = Some((place, version));
                    break;
                }
                expiry = [expiry, expires].into_iter().flatten().min();
            }
            // SYNC: one before it may have changed earlier than it, and after the look at that one. There are fewer of
            // them each time, so this ends.
            let Some((place, _)) = found else { return Ok(Looked { changed, expiry }) };
            (changed, end) = (found, place);
        }
    }
}
