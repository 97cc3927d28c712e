//! `shmvar.TakenItem`: the context manager that `Queue.take` returns.

use super::handle::{PyQueue, timeout_of_task};
use crate::coordination::AsCoordination;
use crate::process::attachment::Attachment;
use crate::process::deadline::WithDeadline;
use crate::process::queue_holds::{HoldEnd, QueueHold};
use crate::process::wait_policy::Blocking;
use crate::py::calls;
use crate::py::errors;
use crate::py::kept_error::KeptError;
use crate::py::wait::UninterruptibleWait;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyTuple;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long the end of a task's block may keep its event loop from everything else. Then a thread ends the block.
const LEAVE_LIMIT: Duration = Duration::from_millis(10);

#[doc = stub!(TakenItem)]
#[pyclass(frozen, weakref, name = "TakenItem", module = "shmvar")]
pub struct PyTakenItem {
    queue: Py<PyQueue>,
    timeout: Option<Duration>,
    attempts: AtomicU32,
    /// What this process holds between entry and exit.
    hold: Mutex<Option<QueueHold>>,
    /// Which entry has taken that.
    entry: AtomicU64,
}

impl PyTakenItem {
    /// What `Queue.take` returns.
    pub(super) fn new(queue: Py<PyQueue>, timeout: Option<Duration>) -> Self {
        PyTakenItem { queue, timeout, attempts: AtomicU32::new(0), hold: Mutex::default(), entry: AtomicU64::new(0) }
    }

    /// Takes the first item, if one comes in time. `entry`: the number of this entry, for [`Self::_held`].
    #[inline]
    fn enter_within(&self, py: Python<'_>, timeout: Option<Duration>, entry: u64) -> PyResult<Option<Py<PyAny>>> {
        let taken_already =
            || errors::builtin::<PyRuntimeError>("the item is taken already: call take() for another one");
        if self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner()).is_some() {
            return Err(taken_already());
        }
        let attempts = AtomicU32::new(0);
        let taken = self.queue.get().take_within(py, Some(&attempts), timeout);
        let mut place = self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner());
        if place.is_none() && attempts.load(Ordering::Relaxed) > 0 {
            self.attempts.store(attempts.into_inner(), Ordering::Relaxed);
        }
        let Some((value, hold)) = taken? else { return Ok(None) };
        if place.is_none() {
            *place = hold;
            // SYNC: written and read only by who has locked the place.
            self.entry.store(entry, Ordering::Relaxed);
            return Ok(Some(value));
        }
        drop(place);
        // Another thread entered through the same object meanwhile, and its block works on what it took. So what came
        // second is given back.
        if let Some(hold) = hold {
            self.give_back(py, &hold)?;
        }
        Err(taken_already())
    }

    /// Gives an item back. Errors of that are nobody's concern: if need be, it is done later.
    fn give_back(&self, py: Python<'_>, hold: &QueueHold) -> PyResult<()> {
        let Ok(att) = self.queue.get().inner().attachment() else { return Ok(()) };
        let waits = UninterruptibleWait::new(py);
        if !att.coordination().give_back_or_put_off(hold, &waits) {
            self.queue.get().end_later(py);
        }
        waits.end(Ok(()))
    }

    /// Ends the block of a task, if that can be done without a wait. Returns whether it did.
    fn leave_now(&self, py: Python<'_>, failed: bool) -> PyResult<bool> {
        let hold = self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner()).clone();
        let (Some(hold), Ok(att)) = (hold, self.queue.get().inner().attachment()) else { return Ok(false) };
        let waits = UninterruptibleWait::new(py);
        let until = WithDeadline::new(Instant::now().checked_add(LEAVE_LIMIT), &waits);
        let end = if failed { HoldEnd::GivenBack } else { HoldEnd::Done };
        // After an error the item is still held, and `leave` says why.
        let ended = matches!(att.coordination().end_hold(&hold, end, &until), Ok(true));
        if ended {
            self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner()).take();
        }
        waits.end(Ok(ended))
    }

    /// Ends the `with` block. `failed`: an exception ends it.
    fn leave(&self, py: Python<'_>, failed: bool) -> PyResult<()> {
        let hold = self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner()).take();
        let Some(hold) = hold else {
            return Err(errors::builtin::<PyRuntimeError>("the item was not taken: it is taken by `with`"));
        };
        if failed {
            return self.give_back(py, &hold);
        }
        let segment = self.queue.get().inner();
        // Detaching has given back what was taken through the handle.
        let att = segment.attachment().map_err(|error| errors::of_segment(py, segment.key(), error))?;
        let waits = UninterruptibleWait::new(py);
        let done = att.coordination().end_hold(&hold, HoldEnd::Done, &waits);
        let done = done.map_err(|error| {
            // The work is done, so nobody is to begin it again: the item stays this process's until it can be finished.
            att.coordination().put_off_end(&hold, HoldEnd::Done);
            self.queue.get().end_later(py);
            self.queue.get().unfinished_error(py, error)
        });
        let held = waits.end(done)?;
        if held {
            return Ok(());
        }
        let name = self.queue.get().name.as_index();
        let text = format!("the item of queue {name} is not done: this process does not hold it (was it forked?)");
        Err(errors::builtin::<PyRuntimeError>(text))
    }
}

impl Drop for PyTakenItem {
    fn drop(&mut self) {
        let Some(hold) = self.hold.get_mut().unwrap_or_else(|e| e.into_inner()).take() else { return };
        // The block never ended: the task was never finished, or nobody called `__exit__`. This fails while the
        // interpreter is shutting down; then the item is given back when the process has ended.
        let queue = self.queue.get();
        Python::try_attach(|py| {
            // The object may go while an exception is on its way, which code of Python must not meet.
            let _kept = KeptError::new(py);
            // SYNC: the use of the attachment begins and ends with the interpreter's lock held (`Revocable`).
            let Ok(att) = queue.inner().attachment() else { return };
            let att: &Attachment = &att;
            if !py.detach(|| att.coordination().give_back_or_put_off(&hold, &Blocking)) {
                queue.end_later(py);
            }
        });
    }
}

#[pymethods]
impl PyTakenItem {
    #[doc = stub!(TakenItem.attempts)]
    #[getter]
    fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    #[doc = stub!(TakenItem.queue)]
    #[getter]
    fn queue(&self, py: Python<'_>) -> Py<PyQueue> {
        self.queue.clone_ref(py)
    }

    #[doc = stub!(TakenItem.__enter__)]
    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.enter_within(py, self.timeout, 0)? {
            Some(value) => Ok(value),
            None => Err(self.queue.get().empty_error(py, self.timeout)),
        }
    }

    #[doc = stub!(TakenItem.__exit__)]
    #[pyo3(signature = (exception = None, *_rest))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exception: Option<&Bound<'_, PyAny>>,
        _rest: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        self.leave(py, exception.is_some())
    }

    #[doc = stub!(TakenItem.__aenter__)]
    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let timeout = slf.get().timeout.map(|timeout| timeout.as_secs_f64());
        calls::attribute(slf.py(), c"shmvar._queue", c"enter")?.call1((slf, timeout))
    }

    #[doc = stub!(TakenItem.__aexit__)]
    #[pyo3(signature = (exception = None, *_rest))]
    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        exception: Option<&Bound<'py, PyAny>>,
        _rest: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        calls::attribute(slf.py(), c"shmvar._queue", c"leave")?.call1((slf, exception))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let held = self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner()).is_some();
        let name = self.queue.get().name.as_index();
        Ok(format!("<shmvar.TakenItem of queue {name}, {}>", if held { "taken" } else { "not taken" }))
    }

    // The methods from here on are for `shmvar._queue`.

    /// Takes the first item, if one waits: its value in a tuple. The `last` try of a task that waited `seconds` raises
    /// `QueueEmptyError`. `entry`: the number of the task's entry, which is not 0.
    fn _try(&self, py: Python<'_>, last: bool, seconds: Option<f64>, entry: u64) -> PyResult<Option<(Py<PyAny>,)>> {
        match self.enter_within(py, Some(Duration::ZERO), entry)? {
            None if last => Err(self.queue.get().empty_error(py, timeout_of_task(seconds))),
            got => Ok(got.map(|value| (value,))),
        }
    }

    /// Whether this entry has taken the item that this process holds.
    fn _held(&self, py: Python<'_>, entry: u64) -> bool {
        let place = self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner());
        place.is_some() && self.entry.load(Ordering::Relaxed) == entry
    }

    /// Ends the block if that needs no wait. Returns whether it did.
    fn _leave_now(&self, py: Python<'_>, failed: bool) -> PyResult<bool> {
        self.leave_now(py, failed)
    }

    /// Ends the block.
    fn _leave(&self, py: Python<'_>, failed: bool) -> PyResult<()> {
        self.leave(py, failed)
    }
}
