//! Putting a value into a queue, or a pickle.

use super::handle::{PyQueue, timeout_of_task};
use crate::coordination::AsCoordination;
use crate::coordination::queue_put::{NewItem, PutOutcome};
use crate::error::Result;
use crate::fallible;
use crate::py::create;
use crate::py::encode;
use crate::py::errors;
use crate::py::wait::{PyWait, StopWhenDetached};
use crate::variables::stored::{Layout, Stored, ValueSource};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

impl PyQueue {
    /// Puts a value. `Ok(None)`: it is in the queue; else why it is not.
    pub(super) fn put_within(
        &self,
        value: &Bound<'_, PyAny>,
        timeout: Option<Duration>,
        next_collection: &AtomicU64,
    ) -> PyResult<Option<PutOutcome>> {
        let (py, segment) = (value.py(), self.inner());
        segment.for_change().map_err(|error| errors::of_segment(py, segment.key(), error))?;
        // Encoding runs user code, which may even detach this handle. It is therefore looked at again afterwards.
        let encoded = encode::encode(value)?;
        let policy = PyWait::new(py, segment.key());
        let att = segment.for_change().map_err(|error| policy.error(error))?;
        let outcome = encoded.with(|stored| {
            let item = NewItem { stored, source: encoded.source(), most: self.most(), next_collection };
            att.coordination().queue_put(&self.name.as_index(), item, timeout, &StopWhenDetached(&policy, segment))
        });
        self.unless_put(py, &policy, outcome)
    }

    /// Puts a value that is a pickle already, if there is room now. `Ok(None)`: it is in the queue; else why it is not.
    pub(super) fn put_pickle(
        &self,
        py: Python<'_>,
        pickle: &[u8],
        most: u64,
        next_collection: &AtomicU64,
    ) -> PyResult<Option<PutOutcome>> {
        let (policy, segment) = (PyWait::new(py, self.inner().key()), self.inner());
        let att = segment.for_change().map_err(|error| policy.error(error))?;
        let stored = Stored { parts: &[pickle], layout: Layout::Pickle, expiry: None };
        let item = NewItem { stored, source: ValueSource::OwnMemory, most, next_collection };
        let waits = StopWhenDetached(&policy, segment);
        let outcome = att.coordination().queue_put(&self.name.as_index(), item, Some(Duration::ZERO), &waits);
        self.unless_put(py, &policy, outcome)
    }

    fn unless_put(
        &self,
        py: Python<'_>,
        policy: &PyWait<'_>,
        outcome: Result<PutOutcome>,
    ) -> PyResult<Option<PutOutcome>> {
        let outcome = outcome.map_err(|error| self.error(py, policy, error))?;
        Ok(Some(outcome).filter(|outcome| !matches!(outcome, PutOutcome::Put)))
    }

    /// How a task's try to put ended. Returns whether the item is in the queue; the last try raises `QueueFullError`.
    pub(super) fn tried_put(
        &self,
        py: Python<'_>,
        full: Option<PutOutcome>,
        last: bool,
        seconds: Option<f64>,
    ) -> PyResult<bool> {
        match full {
            Some(full) if last => Err(self.full_error(py, full, timeout_of_task(seconds))),
            full => Ok(full.is_none()),
        }
    }

    /// The exception for an item of a dump that was not put: it was tried once, so an error of the segment is that.
    #[cold]
    pub(super) fn loading_error(&self, py: Python<'_>, full: PutOutcome) -> PyErr {
        match full {
            PutOutcome::SegmentFull(error) => self.error(py, &PyWait::new(py, self.inner().key()), error),
            full => self.full_error(py, full, None),
        }
    }
}

/// The pickle of a value, for a task that waits for room: it is made once, and what is put is the value as it was at
/// the call. `None`: the value has buffers, which are not copied before there is room.
pub(super) fn encode_once<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let encoded = encode::encode(value)?;
    if !encoded.is_whole() {
        return Ok(None);
    }
    let parts = encoded.whole_parts();
    let parts = parts.as_slice();
    let len = parts.iter().map(|part| part.len()).sum();
    let mut whole = Vec::new();
    fallible::reserve(&mut whole, len, "an item").map_err(|error| errors::to_py(value.py(), error))?;
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    create::bytes(value.py(), &whole).map(Some)
}
