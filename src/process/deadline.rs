//! A wait policy that also ends at a deadline.

use crate::error::{Error, Result};
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use std::cell::Cell;
use std::time::Instant;

/// Private to the process: waits as another policy does, and interrupts the call when the deadline has passed.
pub struct WithDeadline<'a> {
    /// The policy that decides everything else.
    policy: &'a dyn WaitPolicy,
    /// When the wait ends. `None`: there is no deadline.
    pub deadline: Option<Instant>,
    /// Whether the deadline has interrupted the call.
    expired: Cell<bool>,
}

impl<'a> WithDeadline<'a> {
    /// Adds a deadline to a policy.
    pub fn new(deadline: Option<Instant>, policy: &'a dyn WaitPolicy) -> Self {
        WithDeadline { policy, deadline, expired: Cell::new(false) }
    }

    /// Turns an interruption by the deadline into `None`.
    pub fn outcome<T>(&self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Err(Error::Interrupted) if self.expired.get() => Ok(None),
            other => other.map(Some),
        }
    }
}

impl WaitPolicy for WithDeadline<'_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.policy.allow_threads(slow);
    }
    fn sleep(&self, sleep: &Sleep<'_>) {
        self.policy.sleep(sleep);
    }
    fn interrupted(&self) -> Result<()> {
        self.policy.interrupted()?;
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.expired.set(true);
            return Err(Error::Interrupted);
        }
        Ok(())
    }
}
