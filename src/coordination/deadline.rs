//! A wait policy with a deadline.

use crate::error::{Error, Result};
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use std::cell::Cell;
use std::time::Instant;

/// A wait that ends at a time, besides.
pub(super) struct Until<'a> {
    policy: &'a dyn WaitPolicy,
    pub deadline: Option<Instant>,
    up: Cell<bool>,
}

impl<'a> Until<'a> {
    pub(super) fn new(deadline: Option<Instant>, policy: &'a dyn WaitPolicy) -> Self {
        Until { policy, deadline, up: Cell::new(false) }
    }

    /// `None`: time was up.
    pub(super) fn outcome<T>(&self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Err(Error::Interrupted) if self.up.get() => Ok(None),
            other => other.map(Some),
        }
    }
}

impl WaitPolicy for Until<'_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.policy.allow_threads(slow);
    }
    fn sleep(&self, sleep: &Sleep<'_>) {
        self.policy.sleep(sleep);
    }
    fn interrupted(&self) -> Result<()> {
        self.policy.interrupted()?;
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.up.set(true);
            return Err(Error::Interrupted);
        }
        Ok(())
    }
}
