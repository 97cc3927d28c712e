//! How a call waits for a named lock.

use super::stop_when_detached::StopWhenDetached;
use crate::error::Result;
use crate::key::Index;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::py::greenlets;
use pyo3::prelude::*;
use std::cell::RefCell;

/// Waits like [`StopWhenDetached`]. The greenlets of one thread that wait for the same lock form a queue, and only the
/// first one polls.
pub struct LockQueueWait<'a, 'py> {
    inner: StopWhenDetached<'a, 'py>,
    name: Index<'a>,
    place: RefCell<Option<Py<PyAny>>>,
}

impl<'a, 'py> LockQueueWait<'a, 'py> {
    /// For one call.
    pub fn new(inner: StopWhenDetached<'a, 'py>, name: Index<'a>) -> Self {
        LockQueueWait { inner, name, place: RefCell::new(None) }
    }

    /// The place in the queue, taken at the first call. `None` if there are no greenlets.
    fn place(&self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.inner.0.py;
        if let Some(place) = &*self.place.borrow() {
            return Ok(Some(place.bind(py).clone()));
        }
        let place = greenlets::queue_place(py, self.inner.1, &self.name)?;
        *self.place.borrow_mut() = place.clone().map(Bound::unbind);
        if let Some(place) = &place {
            // Only now, when `leave` knows of the place: what a signal handler raises may come at any moment within
            // `join`, and a place that nobody takes out of the queue would be the first one for ever.
            place.call_method0("join")?;
        }
        Ok(place)
    }

    /// Leaves the queue. It has left the queue even if this fails with what a signal handler raised.
    #[inline]
    pub fn leave(&self) -> PyResult<()> {
        match self.place.take() {
            Some(place) => {
                let (place, py) = (place, self.inner.0.py);
                place
                    .call_method0(py, "leave")
                    .or_else(|error| place.call_method0(py, "leave").and(Err(error)))
                    .map(drop)
            }
            None => Ok(()),
        }
    }
}

impl WaitPolicy for LockQueueWait<'_, '_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.inner.allow_threads(slow);
    }

    fn sleep(&self, sleep: &Sleep<'_>) {
        if sleep.is_short() {
            return self.inner.sleep(sleep);
        }
        let policy = self.inner.0;
        match self.place() {
            Ok(Some(place)) => policy.sleeper.sleep_in_queue(policy.py, sleep, &place),
            Ok(None) => self.inner.sleep(sleep),
            Err(error) => policy.sleeper.raise(policy.py, error),
        }
    }

    fn interrupted(&self) -> Result<()> {
        self.inner.interrupted()
    }
}
