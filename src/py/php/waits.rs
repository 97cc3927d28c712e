//! How calls on PHP's semaphores and message queues wait: other threads and greenlets run meanwhile, and Ctrl-C ends
//! the call.

use crate::error::{Error, Result};
use crate::php::waiting::Waits;
use crate::py::errors;
use crate::py::greenlets;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::time::Duration;

/// Waits for one call. It costs nothing until the call waits.
pub struct PyWaits<'py> {
    py: Python<'py>,
    /// What a signal handler raised, or what killed the greenlet.
    raised: RefCell<Option<PyErr>>,
}

impl<'py> PyWaits<'py> {
    /// For one call.
    #[inline]
    pub fn new(py: Python<'py>) -> Self {
        PyWaits { py, raised: RefCell::new(None) }
    }

    /// The exception for an error of the call: what a signal handler raised, if that interrupted the call.
    #[cold]
    pub fn error(&self, error: Error) -> PyErr {
        match (error, self.raised.take()) {
            (Error::Interrupted, Some(raised)) => raised,
            (error, _) => errors::to_py(self.py, error),
        }
    }

    fn or_interrupted<T>(&self, outcome: PyResult<T>) -> Result<T> {
        outcome.map_err(|error| {
            *self.raised.borrow_mut() = Some(error);
            Error::Interrupted
        })
    }
}

impl Waits for PyWaits<'_> {
    fn block(&self, call: &mut (dyn FnMut() + Send)) {
        self.py.detach(call);
    }

    fn interrupted(&self) -> Result<()> {
        self.or_interrupted(self.py.check_signals())
    }

    /// What is waited for may have to be done by a greenlet of this thread, so among greenlets the thread does not
    /// block.
    fn pause(&self, pause: Duration) -> Result<bool> {
        let slept = || -> PyResult<bool> {
            let Some(sleep) = greenlets::sleeper(self.py, true)? else { return Ok(false) };
            sleep.call1((pause.as_secs_f64(),))?;
            Ok(true)
        };
        self.or_interrupted(slept())
    }
}
