//! The object behind `shmvar.php.Segment`: its lock, and its errors. The methods are in `methods`.

use crate::error::Error;
use crate::php::segment::Segment;
use crate::py::errors;
use crate::py::php::loads::LoadOptions;
use crate::py::php::semaphore::{Guard, PySemaphore};
use pyo3::prelude::*;

#[doc = stub!(php.Segment)]
#[pyclass(frozen, mapping, weakref, name = "Segment", module = "shmvar.php")]
pub struct PySegment {
    inner: Segment,
    lock: Option<Py<PySemaphore>>,
    options: LoadOptions,
}

impl PySegment {
    /// Wraps a handle of the core. Each call holds `lock`, which has one place.
    pub fn from_core(inner: Segment, lock: Option<Py<PySemaphore>>, options: LoadOptions) -> Self {
        PySegment { inner, lock, options }
    }

    /// The core's handle. Whoever looks into the segment through it calls [`PySegment::hold`] before.
    #[inline]
    pub fn inner(&self) -> &Segment {
        &self.inner
    }

    /// The semaphore that each call holds.
    pub fn lock(&self) -> Option<&Py<PySemaphore>> {
        self.lock.as_ref()
    }

    /// What values become.
    #[inline]
    pub fn options(&self) -> &LoadOptions {
        &self.options
    }

    /// Holds the lock, if there is one, until the result is dropped. A thread that holds it already does not wait.
    #[inline]
    pub fn hold<'a>(&'a self, py: Python<'a>) -> PyResult<Option<Guard<'a>>> {
        match &self.lock {
            None => Ok(None),
            Some(lock) => lock.get().hold(py).map(Some),
        }
    }

    /// Calls a function of the core with the lock held.
    pub fn call<R>(&self, py: Python<'_>, call: impl FnOnce(&Segment) -> Result<R, Error>) -> PyResult<R> {
        let _held = self.hold(py)?;
        call(&self.inner).map_err(|error| self.error(py, error))
    }

    /// The exception for an error about this segment.
    #[cold]
    pub fn error(&self, py: Python<'_>, error: Error) -> PyErr {
        error_of(py, self.inner.key(), error)
    }

    /// The exception for an error about a variable.
    #[cold]
    pub fn error_at(&self, py: Python<'_>, index: i64, error: Error) -> PyErr {
        if matches!(error, Error::Invalid(_)) {
            return errors::to_py(py, error); // It is about the index itself.
        }
        let text = self.named_at(index, &error.to_string());
        errors::with_text(py, error, text)
    }

    /// A text about a variable, with the key and the index before it.
    pub fn named_at(&self, index: i64, text: &str) -> String {
        named(self.inner.key(), &format!(", index {index}"), text)
    }
}

/// The exception for an error about the segment of this key.
#[cold]
pub fn error_of(py: Python<'_>, key: i32, error: Error) -> PyErr {
    if matches!(error, Error::Invalid(_) | Error::Interrupted) {
        return errors::to_py(py, error); // It is about an argument, not about the segment.
    }
    let text = named(key, "", &error.to_string());
    errors::with_text(py, error, text)
}

/// Puts the key, and the index, before an error text of the core, in place of the name that the core has put there. A
/// text that names the key elsewhere stays as it is.
fn named(key: i32, index: &str, text: &str) -> String {
    let name = format!("key {key} (0x{key:08x})");
    let rest = text.strip_prefix("the segment of PHP's with ").and_then(|text| text.strip_prefix(&name));
    match rest.and_then(|text| text.strip_prefix(": ")) {
        Some(rest) => format!("{name}{index}: {rest}"),
        None if text.contains(&name) => text.to_owned(),
        None => format!("{name}{index}: {text}"),
    }
}
