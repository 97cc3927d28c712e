//! Trying again: what a call does between two attempts when others have changed what it works on, and when it gives up.

use crate::error::{Error, Result};
use crate::process::attachment::Attachment;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::{WAIT_LIMIT, WaitPolicy};
use std::time::{Duration, Instant};

/// Attempts at no cost, before the caller is asked whether it was interrupted and the clock is looked at.
const FREE_ATTEMPTS: u32 = 256;
/// Attempts of a call that makes room. So many are lost only to a process that keeps to no protocol.
const ROOM_ATTEMPTS: u32 = 10_000;
/// Between two looks at what only another process can put right.
const PAUSE: Duration = Duration::from_micros(200);

/// Why a call has to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Another process changed what was looked at. Processes that keep to the protocol let every reader through within a few
    /// attempts.
    Changed,
    /// A slot is half changed, and its writer does not go on. This process may not repair it.
    HalfChanged,
    /// A large value that this process cannot pin was replaced while it was being copied.
    Replaced,
    /// The variables of a `get_many` changed while they were being copied, and this process cannot keep writers out.
    ManyChanged,
    /// A batch is half made, and this process may not bring it to its end.
    HalfMadeBatch,
    /// Other processes took the room that this process had made.
    RoomTaken,
}

/// The attempts of one call, with a deadline: [`WAIT_LIMIT`] after the first obstacle, or a number of attempts where each of
/// them already waits for the writer lock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    /// When the deadline began to run.
    began: Option<Instant>,
    attempts: u32,
}

impl Backoff {
    /// Before another attempt: pauses as the obstacle asks for.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or [`Error::Busy`] where the deadline has passed.
    pub fn again(&mut self, obstacle: Obstacle, att: &Attachment, policy: &dyn WaitPolicy) -> Result<()> {
        self.attempts = self.attempts.wrapping_add(1);
        match obstacle {
            Obstacle::RoomTaken if self.attempts <= ROOM_ATTEMPTS => return Ok(()),
            Obstacle::RoomTaken => return Err(self.given_up(obstacle, att)),
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
                "{name}: what was looked at was changed each time, for {seconds} s: try again when others write less"
            ),
            Obstacle::HalfChanged => format!(
                "{name}: a variable has been half changed for {seconds} s and its writer does not go on: let it go on or end \
                 it; the next process that may write repairs the variable"
            ),
            Obstacle::Replaced => format!(
                "key {key}: a large value was replaced each time it was being copied, for {seconds} s: a handle that may \
                 write holds it still"
            ),
            Obstacle::ManyChanged => format!(
                "key {key}: what was read was changed each time meanwhile, for {seconds} s: a handle that may write holds it \
                 still"
            ),
            Obstacle::HalfMadeBatch => format!(
                "key {key}: a batch was half made each time, for {seconds} s: a handle that may write brings it to its end, \
                 or names who is at it"
            ),
            Obstacle::RoomTaken => format!(
                "{name}: the room that was made was gone each of {} times: others take it as fast, try again",
                self.attempts
            ),
        })
    }
}
