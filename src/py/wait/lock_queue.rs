//! Waiting for a named lock, where the greenlets of one thread stand in line.

use super::stop_when_detached::StopWhenDetached;
use crate::error::Result;
use crate::key::Index;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::py::greenlets;
use pyo3::prelude::*;
use std::cell::RefCell;

/// The same for a named lock: those of one thread's greenlets that wait for it stand in line, and only the first one looks.
pub struct LockQueueWait<'a, 'py> {
    attached: StopWhenDetached<'a, 'py>,
    name: Index<'a>,
    place: RefCell<Option<Py<PyAny>>>,
}

impl<'a, 'py> LockQueueWait<'a, 'py> {
    /// For one call.
    pub fn new(attached: StopWhenDetached<'a, 'py>, name: Index<'a>) -> Self {
        LockQueueWait { attached, name, place: RefCell::new(None) }
    }

    fn place(&self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.attached.0.py;
        if let Some(place) = &*self.place.borrow() {
            return Ok(Some(place.bind(py).clone()));
        }
        let place = greenlets::queue_place(py, self.attached.1, &self.name)?;
        *self.place.borrow_mut() = place.clone().map(Bound::unbind);
        Ok(place)
    }

    /// Leaves the line. An error: what a signal handler raised; it has left all the same.
    #[inline]
    pub fn leave(&self) -> PyResult<()> {
        match self.place.take() {
            Some(place) => {
                let (place, py) = (place, self.attached.0.py);
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
        self.attached.allow_threads(slow);
    }

    fn sleep(&self, sleep: &Sleep<'_>) {
        if sleep.is_short() {
            return self.attached.sleep(sleep);
        }
        let policy = self.attached.0;
        match self.place() {
            Ok(Some(place)) => policy.sleeper.wait_in_line(policy.py, sleep, &place),
            Ok(None) => self.attached.sleep(sleep),
            Err(error) => policy.sleeper.raise(policy.py, error),
        }
    }

    fn interrupted(&self) -> Result<()> {
        self.attached.interrupted()
    }
}
