//! `shmvar.Lock`: a named lock of a segment.

use crate::coordination::AsCoordination;
use crate::coordination::locks::Turn;
use crate::error::Error;
use crate::key::IndexBuf;
use crate::process::held_locks::LockOwner;
use crate::py::convert;
use crate::py::errors;
use crate::py::greenlets;
use crate::py::lock_owner;
use crate::py::segment::PySegment;
use crate::py::wait::{LockQueueWait, PyWait, StopWhenDetached, UninterruptibleWait};
use crate::segment::Segment;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyTuple};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[doc = stub!(Lock)]
#[pyclass(frozen, weakref, name = "Lock", module = "shmvar")]
pub struct PyLock {
    segment: Py<PySegment>,
    name: IndexBuf,
    timeout: Option<Duration>,
    /// The task that took it last, through this object.
    taker: AtomicU64,
}

/// The turn of a task that waits for a lock.
#[pyclass(frozen, name = "TaskTurn", module = "shmvar._core")]
pub struct TaskTurn(Mutex<Turn>);

impl PyLock {
    /// `seg.lock(name, timeout=...)`
    pub fn new(
        segment: Py<PySegment>,
        name: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let name = name.map(convert::index).transpose()?.map_or(IndexBuf::Int(0), |name| name.to_owned());
        Ok(PyLock { segment, name, timeout: convert::timeout(timeout)?, taker: AtomicU64::new(0) })
    }

    fn inner(&self) -> &Segment {
        self.segment.get().inner()
    }

    fn error(&self, py: Python<'_>, error: Error) -> PyErr {
        errors::of_segment(py, self.inner().key(), error)
    }

    fn take(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<bool> {
        let (policy, segment) = (PyWait::new(py, self.inner().key()), self.inner());
        let att = segment.for_change().map_err(|error| self.error(py, error))?;
        let (name, owner) = (self.name.as_index(), lock_owner::current_owner(py, segment)?);
        if owner.greenlet != 0 {
            lock_owner::release_at_greenlet_end(py, owner, &att)?;
        }
        let waits = LockQueueWait::new(StopWhenDetached(&policy, segment), name);
        let taken = att.coordination().acquire_lock(&name, owner, timeout, &waits);
        let left = waits.leave();
        let taken = taken.map_err(|error| policy.error(error))?;
        if taken && (left.is_err() || segment.detached()) {
            // Detached by another thread after it let go of what had been taken: nobody else would let go of this.
            let _ = att.coordination().release_lock(&name, owner, &UninterruptibleWait::new(py));
            left?;
            return Err(self.error(py, Error::Detached));
        }
        left?;
        Ok(taken)
    }

    fn let_go(&self, py: Python<'_>, owner: LockOwner) -> PyResult<()> {
        // Detaching let go of what was taken through this handle.
        let att = self.inner().attachment().map_err(|error| self.error(py, error))?;
        let determined = UninterruptibleWait::new(py);
        let released = att.coordination().release_lock(&self.name.as_index(), owner, &determined);
        if determined.end(released.map_err(|error| self.error(py, error)))? {
            return greenlets::released(py, self.inner(), &self.name.as_index());
        }
        let text = format!("cannot release lock {}: this thread or task does not hold it", self.name.as_index());
        Err(errors::builtin::<PyRuntimeError>(text))
    }
}

#[pymethods]
impl PyLock {
    #[doc = stub!(Lock.name)]
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        convert::index_object(py, &self.name)
    }

    #[doc = stub!(Lock.segment)]
    #[getter]
    fn segment(&self, py: Python<'_>) -> Py<PySegment> {
        self.segment.clone_ref(py)
    }

    #[doc = stub!(Lock.timeout)]
    #[getter]
    fn timeout(&self) -> Option<f64> {
        self.timeout.map(|timeout| timeout.as_secs_f64())
    }

    #[doc = stub!(Lock.acquire)]
    #[pyo3(signature = (timeout = None))]
    fn acquire(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let timeout = if timeout.is_some() { convert::timeout(timeout)? } else { self.timeout };
        self.take(py, timeout)
    }

    #[doc = stub!(Lock.release)]
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.let_go(py, lock_owner::releasing_owner(py, self.inner())?)
    }

    #[doc = stub!(Lock.locked)]
    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        let policy = PyWait::new(py, self.inner().key());
        let locked =
            self.inner().attachment().and_then(|att| att.coordination().is_locked(&self.name.as_index(), &policy));
        locked.map_err(|error| policy.error(error))
    }

    #[doc = stub!(Lock.__enter__)]
    fn __enter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Self>> {
        let lock = slf.get();
        if lock.take(py, lock.timeout)? {
            return Ok(slf);
        }
        let seconds = lock.timeout.map_or(0.0, |timeout| timeout.as_secs_f64());
        Err(errors::lock_timeout(py, &lock.name.as_index(), seconds))
    }

    #[doc = stub!(Lock.__exit__)]
    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.let_go(py, lock_owner::releasing_owner(py, self.inner())?)
    }

    #[doc = stub!(Lock.__aenter__)]
    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("shmvar._task_queue")?.call_method1("enter", (slf,))
    }

    #[doc = stub!(Lock.__aexit__)]
    #[pyo3(signature = (*_exception))]
    fn __aexit__<'py>(slf: &Bound<'py, Self>, _exception: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let reason = _exception.iter().next();
        slf.py().import("shmvar._task_queue")?.call_method1("leave", (slf, reason))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let key = convert::key_object(py, self.inner().key())?;
        Ok(format!("<shmvar.Lock {} of segment {}>", self.name.as_index(), key.bind(py).repr()?))
    }

    fn _turn(&self) -> TaskTurn {
        TaskTurn(Mutex::default())
    }

    /// The segment's id and the lock's name: the same through whatever handle.
    fn _what(&self, py: Python<'_>) -> PyResult<(Py<PyBytes>, Py<PyAny>)> {
        Ok((PyBytes::new(py, &self.inner().id()).unbind(), convert::index_object(py, &self.name)?))
    }

    /// `again`: only where the task holds it already.
    #[pyo3(signature = (task, turn, again = false))]
    fn _try(&self, py: Python<'_>, task: u64, turn: &TaskTurn, again: bool) -> PyResult<bool> {
        let (policy, segment) = (PyWait::new(py, self.inner().key()), self.inner());
        let att = segment.for_change().map_err(|error| self.error(py, error))?;
        if again {
            return Ok(att.coordination().take_again(&self.name.as_index(), segment.task(task)));
        }
        // Who holds it may wait for the interpreter.
        let mut turn = turn.0.lock_py_attached(py).unwrap_or_else(|e| e.into_inner());
        let taken = att.coordination().try_lock_of(&self.name.as_index(), segment.task(task), &mut turn, &policy);
        let taken = taken.map_err(|error| policy.error(error))?;
        if taken {
            self.taker.store(task, Ordering::Relaxed);
        }
        Ok(taken)
    }

    fn _end(&self, py: Python<'_>, turn: &TaskTurn) {
        let turn = turn.0.lock_py_attached(py).unwrap_or_else(|e| e.into_inner());
        if let Ok(att) = self.inner().attachment() {
            att.coordination().end_turn(&self.name.as_index(), &turn);
        }
    }

    /// For a task, or for the one that took it.
    #[pyo3(signature = (task))]
    fn _release(&self, py: Python<'_>, task: Option<u64>) -> PyResult<()> {
        let task = task.unwrap_or_else(|| self.taker.load(Ordering::Relaxed));
        self.let_go(py, self.inner().task(task))
    }
}
