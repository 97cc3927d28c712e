//! The object behind `shmvar.Segment`, and what all of its methods need. The methods are in `methods`.

use crate::error::Error;
use crate::process::wait_policy::WaitPolicy;
use crate::py::calls;
use crate::py::errors;
use crate::py::interpreter;
use crate::py::wait::PyWait;
use crate::segment::Segment;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

#[doc = stub!(Segment)]
#[pyclass(frozen, mapping, weakref, name = "Segment", module = "shmvar")]
pub struct PySegment {
    inner: Segment,
    /// The watcher for asyncio's tasks, created for the first task that waits.
    watcher: PyOnceLock<Py<PyAny>>,
}

impl PySegment {
    /// Wraps a handle of the core.
    pub fn from_core(inner: Segment) -> Self {
        PySegment { inner, watcher: PyOnceLock::new() }
    }

    /// The core's handle.
    #[inline]
    pub fn inner(&self) -> &Segment {
        interpreter::python_code_follows();
        &self.inner
    }

    /// How a call on this segment waits.
    #[inline]
    pub fn policy<'a>(&'a self, py: Python<'a>) -> PyWait<'a> {
        PyWait::new(py, self.inner.key())
    }

    /// The exception for an error about this segment.
    pub fn error(&self, py: Python<'_>, error: Error) -> PyErr {
        errors::of_segment(py, self.inner.key(), error)
    }

    /// Calls a function of the core that may wait.
    pub fn call<R>(&self, py: Python<'_>, call: impl FnOnce(&dyn WaitPolicy) -> Result<R, Error>) -> PyResult<R> {
        let policy = self.policy(py);
        call(&policy).map_err(|error| policy.error(error))
    }

    /// The watcher for asyncio's tasks that wait through this handle.
    pub fn watcher(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = || calls::attribute(py, c"shmvar._task_watcher", c"Watcher")?.call0().map(Bound::unbind);
        calls::once(py, &self.watcher, make).map(|watcher| watcher.clone_ref(py))
    }
}
