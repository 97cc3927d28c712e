//! The order of a check's steps, and its holds of the writer lock: a check works for some milliseconds under the lock,
//! lets it go, and goes on. What the steps look at is in the other files of this folder. Protocol: docs/protocol.md,
//! "Check", which also says what is proved if others change the segment between two holds, and what is not.

use super::checker::Checker;
use super::closing::Closing;
use super::fixed::{check_identity, check_state};
use super::participants::{check_participant, check_unused_records};
use super::report::Report;
use crate::error::{Error, Result};
use crate::format::{PARTICIPANTS, WAITERS};
use crate::os::object;
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::variables::leaf::TableOf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The check lets the writer lock go after the step at which this much time has gone by. So a hold may be longer by one
/// step: a leaf, a zone, or a participant.
pub(super) const HOLD: Duration = Duration::from_millis(4);
/// A pass that compares sums may hold the lock this many times as long: if it ends within one hold, its result is
/// certain.
const CLOSING: u32 = 3;
/// A process that waits for the lock when the check lets it go has this long to take it.
const PAUSE: Duration = Duration::from_millis(1);

/// What the check looks at next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckStep {
    Participant(u32),
    /// The leaf of a table that serves this hash.
    Leaf(TableOf, u64),
    /// The leaf that this word of the doomed directory names; and how often the walk over the doomed table has begun
    /// again.
    Doomed(u64, u32),
    Zone(u64),
    Closing,
    Done,
}

/// A check under way: what it has seen, and where it goes on.
struct SlicedCheck<'a> {
    check: Checker<'a>,
    next: CheckStep,
    closing: Closing,
    /// The serial of the last change when the last hold began.
    serial: Option<u64>,
    /// Holds so far.
    holds: u64,
}

impl<'a> SlicedCheck<'a> {
    fn new(att: &'a Attachment, live: &'a Attachment) -> Self {
        SlicedCheck {
            check: Checker::new(att, live),
            // Participants come first, since spans and locks that name a participant are compared with its record.
            next: CheckStep::Participant(0),
            closing: Closing::default(),
            serial: None,
            holds: 0,
        }
    }

    /// Works for about as long as `most`, or to the end if there is none. The caller sees to it that nothing changes
    /// meanwhile. Returns `true` if the check has ended.
    fn hold(&mut self, most: Option<Duration>) -> Result<bool> {
        let began = Instant::now();
        self.begin_hold()?;
        loop {
            let before = self.next;
            self.step()?;
            if self.next == CheckStep::Done {
                return Ok(true);
            }
            // A pass that compares sums begins with a fresh hold, so that it may end within it.
            let closes = self.next == CheckStep::Closing && (before != CheckStep::Closing || self.closing.begins());
            let most = most.map(|most| if before == CheckStep::Closing { most.saturating_mul(CLOSING) } else { most });
            if most.is_some_and(|most| closes && !self.check.unchanged || began.elapsed() >= most) {
                return Ok(false);
            }
        }
    }

    /// Asks whether anything has changed since the last hold, and verifies first what all other looks rely on.
    fn begin_hold(&mut self) -> Result<()> {
        let serial = self.check.att.mem.intent().serial.load(Ordering::Relaxed);
        let same = self.serial.replace(serial).is_none_or(|before| before == serial);
        self.check.unchanged &= same;
        self.closing.unchanged &= same;
        self.holds += 1;
        let status = self.check.att.with_file(|fd| object::status(fd))?;
        let status = status.map_err(|e| Error::system("fstat", e))?;
        check_identity(self.check.att, &status)?;
        check_state(self.check.att, &status)
    }

    /// Makes one step. It takes no longer than a leaf, a zone or a participant does.
    fn step(&mut self) -> Result<()> {
        let check = &mut self.check;
        self.next = match self.next {
            CheckStep::Participant(number) => {
                // The kernel says whether a participant lives now. So its record must be of now, too, and is read from
                // the segment itself also where a copy is verified: participants come and go without a change.
                let top = check.live.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
                if number < top {
                    check_participant(check.live, number, &mut check.report)?;
                    CheckStep::Participant(number + 1)
                } else {
                    check_unused_records(check.live, top)?;
                    CheckStep::Leaf(TableOf::Variables, 0)
                }
            }
            CheckStep::Leaf(of, hash) => match (check.check_leaf_of(of, hash)?, of) {
                (Some(hash), _) => CheckStep::Leaf(of, hash),
                (None, TableOf::Variables) => CheckStep::Leaf(TableOf::Names, 0),
                (None, TableOf::Names) => CheckStep::Doomed(0, 0),
            },
            CheckStep::Doomed(number, restarts) => match check.check_doomed(number, restarts)? {
                Some((number, restarts)) => CheckStep::Doomed(number, restarts),
                None => CheckStep::Zone(0),
            },
            CheckStep::Zone(zone) if zone < check.att.arena().zones() => {
                check.check_zone(zone)?;
                CheckStep::Zone(zone + 1)
            }
            CheckStep::Zone(_) => {
                check.report.zones = check.att.arena().zones();
                CheckStep::Closing
            }
            CheckStep::Closing => match self.closing.step(check)? {
                true => CheckStep::Done,
                false => CheckStep::Closing,
            },
            CheckStep::Done => CheckStep::Done,
        };
        Ok(())
    }
}

/// Verifies the segment in holds of the writer lock that are each about as long as `most`. Returns also how many there
/// were.
pub(super) fn check_in_slices(att: &Attachment, most: Duration, policy: &dyn WaitPolicy) -> Result<(Report, u64)> {
    let mut sliced = SlicedCheck::new(att, att);
    loop {
        let mut writer = Some(att.write(policy)?);
        let mut done = Ok(false);
        policy.allow_threads(&mut || {
            done = sliced.hold(Some(most));
            let waited_for = att.state().lock.load(Ordering::Relaxed) & WAITERS != 0;
            // The lock goes before this thread waits for the caller's interpreter.
            drop(writer.take());
            if waited_for && matches!(done, Ok(false)) {
                // The waiter sleeps and has to wake up first: without the pause this thread would always take the lock
                // again sooner.
                std::thread::sleep(PAUSE);
            }
        });
        if done? {
            return Ok((sliced.check.report, sliced.holds));
        }
        policy.interrupted()?;
    }
}

/// Verifies a private copy, which nobody changes, all at once. `live` is the segment itself.
pub(super) fn check_at_once(att: &Attachment, live: &Attachment, policy: &dyn WaitPolicy) -> Result<Report> {
    let (mut sliced, mut verified) = (SlicedCheck::new(att, live), Ok(false));
    policy.allow_threads(&mut || verified = sliced.hold(None));
    verified.map(|_| sliced.check.report)
}
