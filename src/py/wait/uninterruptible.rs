//! Waiting for what must come to its end, as the release of a lock.

use super::sleeper::Sleeper;
use crate::error::Result;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use pyo3::prelude::*;

/// The same for what must come to its end: Ctrl-C is for afterwards, and so is what kills a greenlet.
pub struct UninterruptibleWait<'py> {
    py: Python<'py>,
    sleeper: Sleeper,
}

impl<'py> UninterruptibleWait<'py> {
    /// For one call.
    pub fn new(py: Python<'py>) -> Self {
        UninterruptibleWait { py, sleeper: Sleeper::new() }
    }

    /// It has come to its end: now what was raised meanwhile, or what became of it.
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
