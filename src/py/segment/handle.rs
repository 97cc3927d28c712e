//! `shmvar.Segment`: the object itself. What its methods do is in the other files.

use crate::error::Error;
use crate::process::wait_policy::WaitPolicy;
use crate::py::errors;
use crate::py::wait::PyWait;
use crate::segment::Segment;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

#[doc = stub!(Segment)]
#[pyclass(frozen, mapping, weakref, name = "Segment", module = "shmvar")]
pub struct PySegment {
    inner: Segment,
    /// Of asyncio's waiters, made when the first one comes.
    watcher: PyOnceLock<Py<PyAny>>,
}

impl PySegment {
    /// A handle of the core, as Python sees it.
    pub fn from_core(inner: Segment) -> Self {
        PySegment { inner, watcher: PyOnceLock::new() }
    }

    /// The core's handle.
    pub fn inner(&self) -> &Segment {
        &self.inner
    }

    #[inline]
    pub fn policy<'a>(&'a self, py: Python<'a>) -> PyWait<'a> {
        PyWait::new(py, self.inner.key())
    }

    pub fn error(&self, py: Python<'_>, error: Error) -> PyErr {
        errors::of_segment(py, self.inner.key(), error)
    }

    /// Runs a call of the core that may wait.
    pub fn call<R>(&self, py: Python<'_>, call: impl FnOnce(&dyn WaitPolicy) -> Result<R, Error>) -> PyResult<R> {
        let policy = self.policy(py);
        call(&policy).map_err(|error| policy.error(error))
    }

    /// What waits for asyncio's tasks on this handle.
    pub fn watcher(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = || Ok::<_, PyErr>(py.import("shmvar._task_watcher")?.getattr("Watcher")?.call0()?.unbind());
        self.watcher.get_or_try_init(py, make).map(|watcher| watcher.clone_ref(py))
    }
}
