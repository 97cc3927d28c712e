//! The usual way to wait: other threads and greenlets go on, Ctrl-C ends the call.

use super::sleeper::Sleeper;
use crate::error::{Error, Result};
use crate::key::{Index, Key};
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::py::errors;
use pyo3::prelude::*;

/// For one call on a segment.
pub struct PyWait<'py> {
    pub(super) py: Python<'py>,
    /// The segment's, for messages.
    key: &'py Key,
    pub(super) sleeper: Sleeper,
}

impl<'py> PyWait<'py> {
    /// Costs nothing until something waits.
    #[inline(always)]
    pub fn new(py: Python<'py>, key: &'py Key) -> Self {
        PyWait { py, key, sleeper: Sleeper::new() }
    }

    /// What was raised meanwhile, for a call that asks for it when it is over.
    pub fn raised(&self) -> PyResult<()> {
        self.sleeper.take_raised().map_or(Ok(()), Err)
    }

    /// The exception for an error of a call that waited with this.
    #[cold]
    pub fn error(&self, error: Error) -> PyErr {
        match (error, self.sleeper.take_raised()) {
            (Error::Interrupted, Some(raised)) => raised,
            (error, _) => errors::of_segment(self.py, self.key, error),
        }
    }

    /// The same, for a call on one variable.
    #[cold]
    pub fn error_at(&self, index: &Index<'_>, error: Error) -> PyErr {
        match error {
            Error::Full { .. } | Error::Corrupt(_) => errors::of_variable(self.py, self.key, index, error),
            error => self.error(error),
        }
    }
}

impl WaitPolicy for PyWait<'_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.py.detach(slow);
    }

    fn sleep(&self, sleep: &Sleep<'_>) {
        self.sleeper.sleep(self.py, sleep, false);
    }

    fn interrupted(&self) -> Result<()> {
        if let Err(raised) = self.py.check_signals() {
            self.sleeper.raise(self.py, raised);
        }
        if self.sleeper.has_raised() { Err(Error::Interrupted) } else { Ok(()) }
    }
}
