//! Waiting as a Python program wants it: other threads go on, Ctrl-C gets through.

use crate::error::{Error, Result};
use crate::key::{Index, Key};
use crate::py::errors;
use crate::segment::{Patience, Segment};
use pyo3::prelude::*;
use std::cell::RefCell;

/// For one call on a segment.
pub struct PyPatience<'py> {
    py: Python<'py>,
    /// The segment's, for messages.
    key: &'py Key,
    /// What the signal handler raised.
    raised: RefCell<Option<PyErr>>,
}

impl<'py> PyPatience<'py> {
    /// Costs nothing until something waits.
    #[inline(always)]
    pub fn new(py: Python<'py>, key: &'py Key) -> Self {
        PyPatience { py, key, raised: RefCell::new(None) }
    }

    /// The exception for an error of a call that waited with this.
    #[cold]
    pub fn error(&self, error: Error) -> PyErr {
        match (error, self.raised.take()) {
            (Error::Interrupted, Some(raised)) => raised,
            (error, _) => errors::of(self.py, self.key, error),
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

impl Patience for PyPatience<'_> {
    fn outside(&self, slow: &mut (dyn FnMut() + Send)) {
        self.py.detach(slow);
    }

    fn interrupted(&self) -> Result<()> {
        self.py.check_signals().map_err(|raised| {
            *self.raised.borrow_mut() = Some(raised);
            Error::Interrupted
        })
    }
}

/// The same for what must come to its end: Ctrl-C is for afterwards.
pub struct Determined<'py>(pub Python<'py>);

impl Patience for Determined<'_> {
    fn outside(&self, slow: &mut (dyn FnMut() + Send)) {
        self.0.detach(slow);
    }

    fn interrupted(&self) -> Result<()> {
        Ok(())
    }
}

/// For a call that may wait without end: it ends with an error when the handle is detached meanwhile.
pub struct Attached<'a, 'py>(pub &'a PyPatience<'py>, pub &'a Segment);

impl Patience for Attached<'_, '_> {
    fn outside(&self, slow: &mut (dyn FnMut() + Send)) {
        self.0.outside(slow);
    }

    fn interrupted(&self) -> Result<()> {
        self.0.interrupted()?;
        self.1.attachment().map(drop)
    }
}
