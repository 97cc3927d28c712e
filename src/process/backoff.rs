//! Trying again: what a call does between two attempts when other processes have changed what it works on, and when it
//! gives up. Waiting for a lock is not here: see `writer_wait.rs` and `registry_lock.rs`.

use crate::error::{Error, Result};
use crate::process::attachment::Attachment;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::{WAIT_LIMIT, WaitPolicy};
use std::time::{Duration, Instant};

/// So many attempts cost nothing. Then the caller is asked whether it was interrupted, and the clock is looked at.
const FREE_ATTEMPTS: u32 = 256;
/// Attempts of a call that reclaims memory. It loses so many only to a process that keeps to no protocol.
const RECLAIM_ATTEMPTS: u32 = 10_000;
/// The pause between two looks at something that only another process can repair.
const PAUSE: Duration = Duration::from_micros(200);

/// Why a call has to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Another process changed what was looked at. Processes that keep to the protocol let every reader through within
    /// a few attempts.
    Changed,
    /// A slot is half changed, and its writer does not go on. This process may not repair it.
    HalfChanged,
    /// A large value that this process cannot pin was replaced while it was being copied.
    Replaced,
    /// The variables of a `get_many` changed while they were being copied, and this process cannot keep writers out.
    ManyChanged,
    /// A batch is half made, and this process may not finish it.
    HalfMadeBatch,
    /// Other processes took the memory that this process had reclaimed.
    MemoryTaken,
}

/// Private to the process: the attempts of one call, with a deadline. The deadline is [`WAIT_LIMIT`] after the first
/// obstacle. If each attempt waits for the writer lock anyway, it is a number of attempts instead.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    /// When the deadline began to run.
    began: Option<Instant>,
    attempts: u32,
}

impl Backoff {
    /// Counts one more attempt, and pauses as the obstacle asks for. Called before the attempt.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the caller was interrupted, [`Error::Busy`] if the deadline has passed.
    #[cold]
    pub fn again(&mut self, obstacle: Obstacle, att: &Attachment, policy: &dyn WaitPolicy) -> Result<()> {
        self.attempts = self.attempts.wrapping_add(1);
        match obstacle {
            Obstacle::MemoryTaken if self.attempts <= RECLAIM_ATTEMPTS => return Ok(()),
            Obstacle::MemoryTaken => return Err(self.given_up(obstacle, att)),
            Obstacle::Changed if !self.attempts.is_multiple_of(FREE_ATTEMPTS) => return Ok(()),
            _ => policy.interrupted()?,
        }
        if self.began.get_or_insert_with(Instant::now).elapsed() >= WAIT_LIMIT {
            return Err(self.given_up(obstacle, att));
        }
        if matches!(obstacle, Obstacle::HalfChanged | Obstacle::HalfMadeBatch) {
            policy.sleep(&Sleep::pause(PAUSE).short());
            policy.interrupted()?;
        }
        Ok(())
    }

    #[cold]
    fn given_up(&self, obstacle: Obstacle, att: &Attachment) -> Error {
        let (name, key, seconds) = (&att.object.name, &att.identity.key, WAIT_LIMIT.as_secs());
        Error::Busy(match obstacle {
            Obstacle::Changed => format!(
                "{name}: other processes changed what was being read at each attempt, for {seconds} s: try again when \
                 they write less"
            ),
            Obstacle::HalfChanged => format!(
                "{name}: a variable has been half changed for {seconds} s and its writer does not go on: let it go on \
                 or end it; the next process that may write repairs the variable"
            ),
            Obstacle::Replaced => format!(
                "key {key}: a large value was replaced each time it was being copied, for {seconds} s: read it through \
                 a handle that may write, which can pin it"
            ),
            Obstacle::ManyChanged => format!(
                "key {key}: the variables were changed each time they were being read, for {seconds} s: read them \
                 through a handle that may write, which can keep writers out"
            ),
            Obstacle::HalfMadeBatch => format!(
                "key {key}: a batch was half made at each attempt, for {seconds} s: a handle that may write finishes \
                 it, or names the process that is at it"
            ),
            Obstacle::MemoryTaken => format!(
                "{name}: other processes took the memory that was reclaimed, each of {} times: try again when they \
                 write less",
                self.attempts
            ),
        })
    }
}
