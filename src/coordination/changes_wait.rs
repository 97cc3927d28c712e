//! How a call waits for the next change of any variable: looks, and the sleeps between them.
//!
//! The protocol is "Changes" in docs/protocol.md; the sleep is that of "Wake words", **Wait for any**.

use crate::coordination::Coordination;
use crate::coordination::changes::Changes;
use crate::coordination::wait::{SLICE, UNMARKED_SLICE, VAIN_WAKES};
use crate::error::Result;
use crate::format::WAKE_WORDS;
use crate::format::WATCHER;
use crate::key::IndexBuf;
use crate::os;
use crate::process::deadline::WithDeadline;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::wake_word;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// After a round the next one is not begun for at least so many times what the round took.
const REST_TIMES: u32 = 20;
/// A round that begins so soon after the pause behind the last one follows it at once.
const AT_ONCE: Duration = Duration::from_millis(1);
/// What changes no more often than so many times between two rounds is told at once, also if the rounds follow each other:
/// each of these changes pays for a wake, as beside [`Coordination::wait`].
const SELDOM: u64 = 8;
/// The parts of a pause: as short as this where more than so many removals come in one, else up to the longest.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(20);
const FEW: usize = 32;
/// A change that is under way for so long is taken for one whose writer may be dead.
const STANDS_STILL: Duration = Duration::from_millis(400);
/// How long a reader waits for the writer lock where a writer does not go on: enough to take it over from a dead one.
const REPAIR: Duration = Duration::from_millis(50);

/// Private to the process: how an iterator over changes goes on.
#[derive(Debug)]
pub enum Step {
    /// The next change.
    Change(IndexBuf, u64),
    /// There is none. The caller sleeps while `watch` has this count, at most so long.
    Sleep(u32, Duration),
    /// The last look was a moment ago. The caller pauses for so long.
    Pause(Duration),
    /// A round is due, and the segment is larger than the caller wants to look at now.
    Due,
}

impl Coordination {
    /// Returns the next change, or how long to sleep before this is called again. `at_once`: without a pause after the
    /// last round. `most`: if there are more variables than that, or were, the round is left to the caller, and so
    /// is a writer that does not go on.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if the segment was destroyed, and those of a look at all variables.
    pub fn step_changes(
        &self,
        changes: &mut Changes,
        at_once: bool,
        most: Option<u64>,
        policy: &dyn WaitPolicy,
    ) -> Result<Step> {
        // The ring holds few removals, so it is read at each step.
        let before = changes.heard.len();
        changes.heard.listen(self.ring()?)?;
        if let Some((index, version)) = changes.take() {
            return Ok(Step::Change(index, version));
        }
        let now = Instant::now();
        let rest = changes.rest_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        if !rest.is_zero() && !at_once {
            // A pause has parts in which the ring is not overwritten.
            let many = changes.heard.len() - before.min(changes.heard.len()) > FEW;
            changes.part = if many { SHORTEST } else { (changes.part * 2).clamp(SHORTEST, LONGEST) };
            return Ok(Step::Pause(rest.min(changes.part)));
        }
        // SYNC: the count is read before the marks are set, and the marks are set before the look.
        let count = self.watch_count();
        self.mark_all_changes();
        if self.is_due(changes) {
            // After a clear it is what was there that is gone through.
            let variables = self.state().count.load(Ordering::Relaxed).max(changes.known() as u64);
            if most.is_some_and(|most| variables > most) {
                return Ok(Step::Due);
            }
            self.timed_round(changes, policy)?;
            if let Some((index, version)) = changes.take() {
                return Ok(Step::Change(index, version));
            }
        }
        self.check_not_gone()?;
        if self.stands_still(changes) {
            if most.is_some() {
                return Ok(Step::Due);
            }
            self.help_a_dead_writer(changes, policy)?;
        }
        let slice = if self.mem.writable() { SLICE } else { UNMARKED_SLICE };
        let left = |at: u64| Duration::from_nanos(at.saturating_sub(os::boottime_ns()).saturating_add(1));
        Ok(Step::Sleep(count, changes.expires().map_or(slice, left).min(slice)))
    }

    /// Makes the round that a step has left to its caller. Nothing is handed out: the next step does.
    ///
    /// # Errors
    /// Those of a look at all variables.
    #[cfg(feature = "python")]
    pub fn fill_changes(&self, changes: &mut Changes, policy: &dyn WaitPolicy) -> Result<()> {
        if changes.has_some() {
            return Ok(());
        }
        if self.stands_still(changes) {
            self.help_a_dead_writer(changes, policy)?;
        }
        self.mark_all_changes();
        self.timed_round(changes, policy)
    }

    fn timed_round(&self, changes: &mut Changes, policy: &dyn WaitPolicy) -> Result<()> {
        let began = Instant::now();
        let follows = changes.rest_until.is_some_and(|until| began.saturating_duration_since(until) < AT_ONCE);
        let seen = changes.seen;
        self.round(changes, policy)?;
        let often = changes.seen - seen > SELDOM;
        changes.in_a_row = if follows && often { changes.in_a_row + 1 } else { 0 };
        // As in `wait_any`: a process that changes something all the time must not pay for a wake with each change.
        let least = changes
            .in_a_row
            .checked_sub(VAIN_WAKES)
            .map_or(Duration::ZERO, |more| Duration::from_millis(1 << more.min(5)).min(Duration::from_millis(20)));
        changes.rest_until = Some(Instant::now() + (began.elapsed() * REST_TIMES).min(SLICE).max(least));
        Ok(())
    }

    /// Sleeps between two steps: while `watch` has this count, at most so long, and not longer than the caller's time
    /// that is left.
    pub fn sleep_for_changes(&self, step: &Step, left: Option<Duration>, policy: &dyn WaitPolicy) -> Result<()> {
        let sleep = match step {
            Step::Sleep(count, slice) => Sleep::on(&self.state().watch, *count, *slice),
            Step::Pause(rest) => Sleep::pause(*rest),
            Step::Change(..) | Step::Due => return Ok(()),
        };
        policy.sleep(&sleep.at_most(left.unwrap_or(Duration::MAX)));
        policy.interrupted()
    }

    /// Marks the wake words of all variables, and returns whether a round is due. A watcher of asyncio's tasks calls
    /// this. While the iterator pauses nothing is marked: its task pauses, and marks them before its next look.
    #[cfg(feature = "python")]
    pub fn mark_and_ask_changes(&self, changes: &Changes) -> bool {
        if changes.rest_until.is_some_and(|until| until > Instant::now()) {
            return true;
        }
        self.mark_all_changes();
        self.is_due(changes)
    }

    /// Marks the wake words of all variables.
    fn mark_all_changes(&self) {
        if self.mem.writable() {
            for word in (0..WAKE_WORDS).filter_map(|number| self.wake_word(number)) {
                wake_word::mark(&word.changed, WATCHER);
            }
        }
    }

    /// Returns whether the same change, or the same entry of a batch, has been under way for a while.
    fn stands_still(&self, changes: &mut Changes) -> bool {
        let (state, relaxed) = (self.state(), Ordering::Relaxed);
        let now = [self.mem.intent().valid.load(relaxed), state.batch.load(relaxed), state.cursor.load(relaxed)];
        if now[0] == 0 && now[1] == 0 {
            changes.under_way = None;
            return false;
        }
        let since = changes.under_way.filter(|(then, _)| *then == now).map_or_else(Instant::now, |(_, since)| since);
        changes.under_way = Some((now, since));
        self.mem.writable() && since.elapsed() >= STANDS_STILL
    }

    /// Takes the writer lock once: if the writer of the change under way is dead, that finishes it.
    fn help_a_dead_writer(&self, changes: &mut Changes, policy: &dyn WaitPolicy) -> Result<()> {
        changes.under_way = None;
        // An error is that of a writer that stands still. What it has begun is nobody's to finish.
        let within = WithDeadline::new(Instant::now().checked_add(REPAIR), policy);
        drop(self.write(&within));
        policy.interrupted()
    }
}
