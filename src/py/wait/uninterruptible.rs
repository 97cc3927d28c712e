//! How a call waits for something that must be finished, such as the release of a lock.

use super::sleeper::Sleeper;
use crate::error::Result;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use pyo3::prelude::*;

/// Waits without being interrupted. What a signal handler raises, or what kills the greenlet, is raised after the call.
pub struct UninterruptibleWait<'py> {
    py: Python<'py>,
    sleeper: Sleeper,
}

impl<'py> UninterruptibleWait<'py> {
    /// For one call.
    pub fn new(py: Python<'py>) -> Self {
        UninterruptibleWait { py, sleeper: Sleeper::new() }
    }

    /// Ends the call: raises what was raised meanwhile, or returns the call's own outcome.
    pub fn end<T>(self, outcome: PyResult<T>) -> PyResult<T> {
        let Some(raised) = self.sleeper.take_raised() else { return outcome };
        if let Err(error) = outcome {
            self.sleeper.raise(self.py, raised);
            self.sleeper.raise(self.py, error);
            return Err(self.sleeper.take_raised().expect("just raised"));
        }
        Err(raised)
    }
}

impl WaitPolicy for UninterruptibleWait<'_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.py.detach(slow);
    }

    fn sleep(&self, sleep: &Sleep<'_>) {
        self.sleeper.sleep(self.py, sleep, false);
    }

    fn interrupted(&self) -> Result<()> {
        Ok(())
    }
}
