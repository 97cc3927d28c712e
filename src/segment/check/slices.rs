//! A check in slices: a little of it at a time under the writer lock, which is let go in between.
//!
//! docs/protocol.md, "Check", says what is proved where others change the segment meanwhile, and what is not.

use super::checker::Check;
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

/// The writer lock is let go after so long. One unit of work more may have been begun before that: a leaf, a zone, a participant.
pub(super) const HOLD: Duration = Duration::from_millis(4);
/// So many times as long for a pass that compares sums: for certain, where it ends within one hold.
const CLOSING: u32 = 3;
/// Whoever waits for the lock when it is let go has so long to take it.
const PAUSE: Duration = Duration::from_millis(1);

/// What is looked at next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckStep {
    /// The leaf of this hash.
    Leaf(TableOf, u64),
    /// The leaf of this word of the doomed table; how often that was another one.
    Doomed(u64, u32),
    Zone(u64),
    Participant(u32),
    Closing,
    Done,
}

/// A check under way.
struct SlicedCheck<'a> {
    check: Check<'a>,
    next: CheckStep,
    closing: Closing,
    /// The last change when the last hold ended.
    serial: Option<u64>,
    /// Holds so far.
    holds: u64,
}

impl<'a> SlicedCheck<'a> {
    fn new(att: &'a Attachment, live: &'a Attachment) -> Self {
        SlicedCheck {
            check: Check::new(att, live),
            // First of all who takes part: what the others say of him is compared with it.
            next: CheckStep::Participant(0),
            closing: Closing::default(),
            serial: None,
            holds: 0,
        }
    }

    /// As much as takes so long. Nothing changes meanwhile. True: all is done.
    fn hold(&mut self, most: Option<Duration>) -> Result<bool> {
        let began = Instant::now();
        self.begin_hold()?;
        loop {
            let before = self.next;
            self.unit()?;
            if self.next == CheckStep::Done {
                return Ok(true);
            }
            // What compares sums has a whole hold for it.
            let closes = self.next == CheckStep::Closing && (before != CheckStep::Closing || self.closing.begins());
            let most = most.map(|most| if before == CheckStep::Closing { most.saturating_mul(CLOSING) } else { most });
            if most.is_some_and(|most| closes && !self.check.still || began.elapsed() >= most) {
                return Ok(false);
            }
        }
    }

    fn begin_hold(&mut self) -> Result<()> {
        let serial = self.check.att.mem.intent().serial.load(Ordering::Relaxed);
        let same = self.serial.replace(serial).is_none_or(|before| before == serial);
        self.check.still &= same;
        self.closing.still &= same;
        self.holds += 1;
        let status = self.check.att.with_file(|fd| object::status(fd))?;
        let status = status.map_err(|e| Error::system("fstat", e))?;
        // First what the rest relies on.
        check_identity(self.check.att, &status)?;
        check_state(self.check.att, &status)
    }

    /// One step: no longer than a leaf, a zone or a participant takes.
    fn unit(&mut self) -> Result<()> {
        self.next = match self.next {
            CheckStep::Leaf(of, hash) => match (self.check.check_leaf_of(of, hash)?, of) {
                (Some(hash), _) => CheckStep::Leaf(of, hash),
                (None, TableOf::Variables) => CheckStep::Leaf(TableOf::Names, 0),
                (None, TableOf::Names) => CheckStep::Doomed(0, 0),
            },
            CheckStep::Doomed(number, turns) => match self.check.check_doomed(number, turns)? {
                Some((number, turns)) => CheckStep::Doomed(number, turns),
                None => CheckStep::Zone(0),
            },
            CheckStep::Zone(zone) if zone < self.check.att.arena().zones() => {
                self.check.check_zone(zone)?;
                CheckStep::Zone(zone + 1)
            }
            CheckStep::Zone(_) => {
                self.check.report.zones = self.check.att.arena().zones();
                CheckStep::Closing
            }
            CheckStep::Participant(number) => {
                // Who lives is asked of the kernel, so what they say of themselves must be of now, too: they come and go without a
                // change.
                let top = self.check.live.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
                if number < top {
                    check_participant(self.check.live, number, &mut self.check.report)?;
                    CheckStep::Participant(number + 1)
                } else {
                    check_unused_records(self.check.live, top)?;
                    CheckStep::Leaf(TableOf::Variables, 0)
                }
            }
            CheckStep::Closing => {
                if self.closing.unit(&mut self.check)? {
                    CheckStep::Done
                } else {
                    CheckStep::Closing
                }
            }
            CheckStep::Done => CheckStep::Done,
        };
        Ok(())
    }
}

/// Verifies the segment, in slices of the writer lock that are so long or a little more.
pub(super) fn check_in_slices(att: &Attachment, most: Duration, policy: &dyn WaitPolicy) -> Result<(Report, u64)> {
    let mut sliced = SlicedCheck::new(att, att);
    loop {
        let mut writer = Some(att.write(policy)?);
        let mut done = Ok(false);
        policy.allow_threads(&mut || {
            done = sliced.hold(Some(most));
            let waited_for = att.state().lock.load(Ordering::Relaxed) & WAITERS != 0;
            // Let go before the caller's interpreter is waited for.
            drop(writer.take());
            if waited_for && matches!(done, Ok(false)) {
                // Whoever sleeps has to wake up first: we would always be sooner.
                std::thread::sleep(PAUSE);
            }
        });
        if done? {
            return Ok((sliced.check.report, sliced.holds));
        }
        policy.interrupted()?;
    }
}

/// A private copy, of which nothing changes. `live`: the segment itself.
pub(super) fn check_at_once(att: &Attachment, live: &Attachment, policy: &dyn WaitPolicy) -> Result<Report> {
    let (mut sliced, mut verified) = (SlicedCheck::new(att, live), Ok(false));
    policy.allow_threads(&mut || verified = sliced.hold(None));
    verified.map(|_| sliced.check.report)
}
