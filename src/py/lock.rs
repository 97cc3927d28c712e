//! `shmvar.Lock`: a named lock of a segment, for threads, greenlets and, through `shmvar._task_queue`, asyncio's tasks.
//!
//! How a lock is taken and handed over is in [`crate::coordination`]; who owns it is decided in `lock_owner`.

use crate::coordination::AsCoordination;
use crate::coordination::lock_turn::LockTurn;
use crate::error::Error;
use crate::key::IndexBuf;
use crate::process::held_locks::LockOwner;
use crate::py::calls;
use crate::py::convert;
use crate::py::displays;
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
    /// The task that took the lock last through this object.
    last_task: AtomicU64,
}

/// The place of a task that waits for a lock: what the lock's waiters know of it.
#[pyclass(frozen, name = "_Turn", module = "shmvar._core")]
pub struct TaskTurn(Mutex<LockTurn>);

impl PyLock {
    /// `seg.lock(name, timeout=...)`
    pub fn new(
        segment: Py<PySegment>,
        name: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let name = name.map(convert::index).transpose()?.map_or(IndexBuf::Int(0), |name| name.to_owned());
        Ok(PyLock { segment, name, timeout: convert::timeout(timeout)?, last_task: AtomicU64::new(0) })
    }

    fn inner(&self) -> &Segment {
        self.segment.get().inner()
    }

    fn error(&self, py: Python<'_>, error: Error) -> PyErr {
        errors::of_segment(py, self.inner().key(), error)
    }

    /// Takes the lock within a time. Returns whether it did.
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
            // Another thread detached the handle meanwhile. Detaching had already released what was taken before, so
            // nobody else would release this lock.
            let _ = att.coordination().release_lock(&name, owner, &UninterruptibleWait::new(py));
            left?;
            return Err(self.error(py, Error::Detached));
        }
        left?;
        Ok(taken)
    }

    /// Releases the lock for its owner.
    fn release_for(&self, py: Python<'_>, owner: LockOwner) -> PyResult<()> {
        // A detached handle holds nothing: detaching released all locks that were taken through it.
        let att = self.inner().attachment().map_err(|error| self.error(py, error))?;
        let waits = UninterruptibleWait::new(py);
        let released = att.coordination().release_lock(&self.name.as_index(), owner, &waits);
        if waits.end(released.map_err(|error| self.error(py, error)))? {
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
        self.release_for(py, lock_owner::releasing_owner(py, self.inner())?)
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
        self.release_for(py, lock_owner::releasing_owner(py, self.inner())?)
    }

    #[doc = stub!(Lock.__aenter__)]
    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        calls::attribute(slf.py(), c"shmvar._task_queue", c"enter")?.call1((slf,))
    }

    #[doc = stub!(Lock.__aexit__)]
    #[pyo3(signature = (*_exception))]
    fn __aexit__<'py>(slf: &Bound<'py, Self>, _exception: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let reason = _exception.iter().next();
        calls::attribute(slf.py(), c"shmvar._task_queue", c"leave")?.call1((slf, reason))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let key = convert::key_object(py, self.inner().key())?;
        Ok(format!("<shmvar.Lock {} of segment {}>", self.name.as_index(), key.bind(py).repr()?))
    }

    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        displays::html(slf.as_any())
    }

    #[pyo3(signature = (include = None, exclude = None))]
    fn _repr_mimebundle_<'py>(
        slf: &Bound<'py, Self>,
        include: Option<&Bound<'py, PyAny>>,
        exclude: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        displays::mimebundle(slf.as_any(), include, exclude)
    }

    /// The place of a task that begins to wait.
    fn _turn(&self) -> TaskTurn {
        TaskTurn(Mutex::default())
    }

    /// The segment's id and the lock's name. They are the same through all handles on the segment.
    fn _what(&self, py: Python<'_>) -> PyResult<(Py<PyBytes>, Py<PyAny>)> {
        Ok((PyBytes::new(py, &self.inner().id()).unbind(), convert::index_object(py, &self.name)?))
    }

    /// Tries to take the lock for a task. With `again`, only if the task holds it already.
    #[pyo3(signature = (task, turn, again = false))]
    fn _try(&self, py: Python<'_>, task: u64, turn: &TaskTurn, again: bool) -> PyResult<bool> {
        let (policy, segment) = (PyWait::new(py, self.inner().key()), self.inner());
        let att = segment.for_change().map_err(|error| self.error(py, error))?;
        if again {
            return Ok(att.coordination().reacquire_lock(&self.name.as_index(), segment.task(task)));
        }
        // The thread that holds this mutex may be waiting for the interpreter.
        let mut turn = turn.0.lock_py_attached(py).unwrap_or_else(|e| e.into_inner());
        let taken = att.coordination().try_acquire_lock(&self.name.as_index(), segment.task(task), &mut turn, &policy);
        let taken = taken.map_err(|error| policy.error(error))?;
        if taken {
            self.last_task.store(task, Ordering::Relaxed);
        }
        Ok(taken)
    }

    /// Ends the place of a task that waits no more.
    fn _end(&self, py: Python<'_>, turn: &TaskTurn) {
        let turn = turn.0.lock_py_attached(py).unwrap_or_else(|e| e.into_inner());
        if let Ok(att) = self.inner().attachment() {
            att.coordination().end_lock_turn(&self.name.as_index(), &turn);
        }
    }

    /// Releases the lock for a task; without one, for the task that took it last through this object.
    #[pyo3(signature = (task))]
    fn _release(&self, py: Python<'_>, task: Option<u64>) -> PyResult<()> {
        let task = task.unwrap_or_else(|| self.last_task.load(Ordering::Relaxed));
        self.release_for(py, self.inner().task(task))
    }
}
