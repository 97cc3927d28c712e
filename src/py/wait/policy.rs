//! The usual way to wait, and the exceptions of a call that waited.

use super::sleeper::Sleeper;
use crate::error::{Error, Result};
use crate::key::{Index, Key};
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::py::errors;
use pyo3::prelude::*;

/// Waits for one call on a segment: other threads and greenlets run meanwhile, and Ctrl-C ends the call.
pub struct PyWait<'py> {
    pub(super) py: Python<'py>,
    /// The segment's key, for messages.
    key: &'py Key,
    pub(super) sleeper: Sleeper,
}

impl<'py> PyWait<'py> {
    /// For one call. It costs nothing until the call waits.
    #[inline(always)]
    pub fn new(py: Python<'py>, key: &'py Key) -> Self {
        PyWait { py, key, sleeper: Sleeper::new() }
    }

    /// Raises what was raised while the call waited, for a call that otherwise cannot fail.
    pub fn raised(&self) -> PyResult<()> {
        self.sleeper.take_raised().map_or(Ok(()), Err)
    }

    /// The exception for an error of the call: what a signal handler raised, if that interrupted the call.
    #[cold]
    pub fn error(&self, error: Error) -> PyErr {
        match (error, self.sleeper.take_raised()) {
            (Error::Interrupted, Some(raised)) => raised,
            (error, _) => errors::of_segment(self.py, self.key, error),
        }
    }

    /// The same for a call on one variable, whose index the text then names.
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
