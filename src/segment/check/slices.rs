//! A check in slices: a little of it at a time under the writer lock, which is let go in between.
//!
//! docs/protocol.md, "Check", says what is proved where others change the segment meanwhile, and what is not.

use super::arena::Tile;
use super::closing::Closing;
use super::named::{Named, Suspects};
use super::table::Sums;
use super::{Report, hold};
use crate::error::Result;
use crate::format::{PARTICIPANTS, WAITERS};
use crate::os::object;
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::segment::check::{check_identity, check_participant, check_state, check_unused_records};
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
enum Next {
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
pub(super) struct Check<'a> {
    /// What is verified: the segment itself, or a private copy of it.
    pub att: &'a Attachment,
    /// The segment itself.
    pub live: &'a Attachment,
    pub report: Report,
    pub named: Named,
    pub sums: Sums,
    pub suspects: Suspects,
    /// The last change when the last hold ended.
    serial: Option<u64>,
    /// Nobody has changed anything since the first hold: then what was seen in any is so.
    pub still: bool,
    /// Granules that are retired.
    pub retired: u64,
    /// What covers the beginning of the next zone.
    pub tile: Tile,
    /// The doomed table when its leaves were last looked at.
    pub doomed: u64,
    next: Next,
    closing: Closing,
    /// Holds so far.
    pub holds: u64,
}

impl<'a> Check<'a> {
    pub fn new(att: &'a Attachment, live: &'a Attachment) -> Self {
        Check {
            att,
            live,
            report: Report::default(),
            named: Named::default(),
            sums: Sums::default(),
            suspects: Suspects::default(),
            serial: None,
            still: true,
            retired: 0,
            tile: Tile::default(),
            doomed: 0,
            // First of all who takes part: what the others say of him is compared with it.
            next: Next::Participant(0),
            closing: Closing::default(),
            holds: 0,
        }
    }

    /// As much as takes so long. Nothing changes meanwhile. True: all is done.
    pub fn hold(&mut self, most: Option<Duration>) -> Result<bool> {
        let began = Instant::now();
        self.begin_hold()?;
        loop {
            let before = self.next;
            self.unit()?;
            if self.next == Next::Done {
                return Ok(true);
            }
            // What compares sums has a whole hold for it.
            let closes = self.next == Next::Closing && (before != Next::Closing || self.closing.begins());
            let most = most.map(|most| if before == Next::Closing { most.saturating_mul(CLOSING) } else { most });
            if most.is_some_and(|most| closes && !self.still || began.elapsed() >= most) {
                return Ok(false);
            }
        }
    }

    fn begin_hold(&mut self) -> Result<()> {
        let serial = self.att.mem.intent().serial.load(Ordering::Relaxed);
        let same = self.serial.replace(serial).is_none_or(|before| before == serial);
        self.still &= same;
        self.closing.still &= same;
        self.holds += 1;
        let status = self.att.with_file(|fd| object::status(fd))?;
        let status = status.map_err(|e| crate::error::Error::system("fstat", e))?;
        // First what the rest relies on.
        check_identity(self.att, &status)?;
        check_state(self.att, &status)
    }

    /// One step: no longer than a leaf, a zone or a participant takes.
    fn unit(&mut self) -> Result<()> {
        self.next = match self.next {
            Next::Leaf(of, hash) => match (self.check_leaf_of(of, hash)?, of) {
                (Some(hash), _) => Next::Leaf(of, hash),
                (None, TableOf::Variables) => Next::Leaf(TableOf::Names, 0),
                (None, TableOf::Names) => Next::Doomed(0, 0),
            },
            Next::Doomed(number, turns) => match self.check_doomed(number, turns)? {
                Some((number, turns)) => Next::Doomed(number, turns),
                None => Next::Zone(0),
            },
            Next::Zone(zone) if zone < self.att.arena().zones() => {
                self.check_zone(zone)?;
                Next::Zone(zone + 1)
            }
            Next::Zone(_) => {
                self.report.zones = self.att.arena().zones();
                Next::Closing
            }
            Next::Participant(number) => {
                // Who lives is asked of the kernel, so what they say of themselves must be of now, too: they come and go without a
                // change.
                let top = self.live.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
                if number < top {
                    check_participant(self.live, number, &mut self.report)?;
                    Next::Participant(number + 1)
                } else {
                    check_unused_records(self.live, top)?;
                    Next::Leaf(TableOf::Variables, 0)
                }
            }
            Next::Closing => {
                let mut closing = std::mem::take(&mut self.closing);
                let ended = closing.unit(self)?;
                self.closing = closing;
                if ended { Next::Done } else { Next::Closing }
            }
            Next::Done => Next::Done,
        };
        Ok(())
    }

    /// Compares a sum that was made while nothing changed with what the state says.
    pub fn compare_sums(&self, sums: &Sums) -> Result<()> {
        let state = self.att.state();
        let (count, used) = (state.count.load(Ordering::Relaxed), state.used.load(Ordering::Relaxed));
        hold!(sums.variables == count, 1, "count is {count}, there are {} variables", sums.variables);
        hold!(sums.used == used, 1, "used is {used}, {} bytes are charged", sums.used);
        let (expires, expiring) = (state.expiring.load(Ordering::Relaxed), sums.expiring);
        hold!(expiring == expires, 1, "expiring is {expires}, {expiring} variables expire");
        Ok(())
    }

    pub fn compare_retired(&self, retired: u64) -> Result<()> {
        let counted = self.att.state().retired.load(Ordering::Relaxed);
        hold!(retired == counted, 4, "{retired} granules are retired, the state says {counted}");
        Ok(())
    }
}

/// Verifies the segment, in slices of the writer lock that are so long or a little more.
pub(super) fn check_in_slices(att: &Attachment, most: Duration, policy: &dyn WaitPolicy) -> Result<(Report, u64)> {
    let mut check = Check::new(att, att);
    loop {
        let mut writer = Some(att.write(policy)?);
        let mut done = Ok(false);
        policy.allow_threads(&mut || {
            done = check.hold(Some(most));
            let waited_for = att.state().lock.load(Ordering::Relaxed) & WAITERS != 0;
            // Let go before the caller's interpreter is waited for.
            drop(writer.take());
            if waited_for && matches!(done, Ok(false)) {
                // Whoever sleeps has to wake up first: we would always be sooner.
                std::thread::sleep(PAUSE);
            }
        });
        if done? {
            return Ok((check.report, check.holds));
        }
        policy.interrupted()?;
    }
}

/// The doomed table is looked at anew so often where it became another meanwhile.
pub(super) const DOOMED_TURNS: u32 = 3;
