//! What a `Queue` of Python is, and the exceptions of its calls.

use crate::coordination::queue_put::PutOutcome;
use crate::coordination::queue_take::Taker;
use crate::coordination::{AsCoordination, Coordination};
use crate::error::{Error, Result};
use crate::key::IndexBuf;
use crate::process::wait_policy::WaitPolicy;
use crate::py::calls;
use crate::py::convert;
use crate::py::create;
use crate::py::errors;
use crate::py::segment::PySegment;
use crate::py::wait::PyWait;
use crate::segment::Segment;
use pyo3::prelude::*;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

#[doc = stub!(Queue)]
#[pyclass(frozen, weakref, name = "Queue", module = "shmvar")]
pub struct PyQueue {
    pub(super) segment: Py<PySegment>,
    pub(super) name: IndexBuf,
    pub(super) maxsize: i64,
    /// What `get` and `take` remember from one call to the next.
    pub(super) taker: Taker,
    /// When it is time to collect again what has expired, for tasks that wait for room.
    pub(super) next_collection: AtomicU64,
}

impl PyQueue {
    /// `segment.queue(name, maxsize=...)`
    pub fn new(
        py: Python<'_>,
        segment: Py<PySegment>,
        name: Option<&Bound<'_, PyAny>>,
        maxsize: i64,
    ) -> PyResult<Self> {
        let name = name.map(convert::index).transpose()?.map_or(IndexBuf::Int(0), |name| name.to_owned());
        errors::import_those_of_queues(py)?;
        Ok(PyQueue { segment, name, maxsize, taker: Taker::default(), next_collection: AtomicU64::new(0) })
    }

    pub(super) fn inner(&self) -> &Segment {
        self.segment.get().inner()
    }

    /// The most items that may wait.
    pub(super) fn most(&self) -> u64 {
        if self.maxsize > 0 { self.maxsize as u64 } else { u64::MAX }
    }

    pub(super) fn look<T>(
        &self,
        py: Python<'_>,
        look: impl FnOnce(&Coordination, &dyn WaitPolicy) -> Result<T>,
    ) -> PyResult<T> {
        let policy = PyWait::new(py, self.inner().key());
        let att = self.inner().attachment().map_err(|error| policy.error(error))?;
        look(att.coordination(), &policy).map_err(|error| policy.error(error))
    }

    /// How many items wait, for the text of an error.
    fn waiting(&self, py: Python<'_>) -> u64 {
        self.look(py, |att, policy| att.queue_len(&self.name.as_index(), policy)).unwrap_or(0)
    }

    /// The exception for an error about an item. Its text names the queue.
    #[cold]
    pub(super) fn error(&self, py: Python<'_>, policy: &PyWait<'_>, error: Error) -> PyErr {
        match error {
            Error::Interrupted => policy.error(error),
            error => errors::of_queue(py, self.inner().key(), &self.name.as_index(), error),
        }
    }

    /// The exception for an item that could not be finished, which is done later.
    #[cold]
    pub(super) fn unfinished_error(&self, py: Python<'_>, error: Error) -> PyErr {
        let error = errors::of_queue(py, self.inner().key(), &self.name.as_index(), error);
        let note = "the item stays taken, and is finished as soon as that is possible, unless this process ends before";
        let _ = create::text(py, note).and_then(|note| calls::method(error.value(py), c"add_note", [note.into_any()]));
        error
    }

    /// `QueueFullError`.
    #[cold]
    pub(super) fn full_error(&self, py: Python<'_>, full: PutOutcome, timeout: Option<Duration>) -> PyErr {
        let (name, within) = (self.name.as_index(), within(timeout));
        let text = match full {
            PutOutcome::SegmentFull(error) => {
                format!("queue {name}: the segment had no room for the item{within}: {error}")
            }
            PutOutcome::Busy => {
                format!(
                    "queue {name}: no item could be put{within}, for another process held the segment's writer lock"
                )
            }
            // How many wait is asked only now, so it may be fewer again.
            _ => {
                let (most, waiting) = (self.maxsize, self.waiting(py));
                format!("queue {name} had no room{within}: at most {most} items may wait in it, and now {waiting} do")
            }
        };
        errors::raise_text(py, c"QueueFullError", &text)
    }

    /// `QueueEmptyError`.
    #[cold]
    pub(super) fn empty_error(&self, py: Python<'_>, timeout: Option<Duration>) -> PyErr {
        let (name, within) = (self.name.as_index(), within(timeout));
        let text = match self.waiting(py) {
            0 => format!("queue {name} had no item{within}"),
            // The writer lock was held by another process, say.
            waiting => format!("queue {name}: no item could be taken{within}; now {waiting} items wait in it"),
        };
        errors::raise_text(py, c"QueueEmptyError", &text)
    }
}

/// " within 3 s", or nothing where the call did not wait.
fn within(timeout: Option<Duration>) -> String {
    match timeout {
        Some(timeout) if !timeout.is_zero() => format!(" within {} s", timeout.as_secs_f64()),
        _ => String::new(),
    }
}

/// How long a task has waited, as `shmvar._queue` says it.
pub(super) fn timeout_of_task(seconds: Option<f64>) -> Option<Duration> {
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}
