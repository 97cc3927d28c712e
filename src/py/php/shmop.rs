//! `shmvar.php.Shmop`: a raw segment, as PHP's `shmop_*` functions use it.

use crate::error::Error;
use crate::php::shmop::{Mode, Shmop};
use crate::py::errors;
use crate::py::php::arguments;
use crate::py::php::message_text::own_bytes;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use std::cmp::Ordering;

#[doc = stub!(php.Shmop)]
#[pyclass(frozen, weakref, name = "Shmop", module = "shmvar.php")]
pub struct PyShmop {
    inner: Shmop,
    mode: String,
}

/// A number of bytes, at least 0.
fn bytes(object: Option<&Bound<'_, PyAny>>, name: &str) -> PyResult<u64> {
    let Some(object) = object else { return Ok(0) };
    match arguments::wide_int(object, name)? {
        Ok(number @ 0..) => Ok(number as u64),
        Err(Ordering::Greater) => Err(errors::builtin::<PyValueError>(format!(
            "{name} must be at most 2**63 - 1, not {}",
            arguments::shown(object)?
        ))),
        _ => Err(errors::builtin::<PyValueError>(format!(
            "{name} must be at least 0, not {}",
            arguments::shown(object)?
        ))),
    }
}

impl PyShmop {
    #[cold]
    fn error(&self, py: Python<'_>, error: Error) -> PyErr {
        let key = self.inner.key();
        let named = |text: &str| format!("key {key} (0x{key:08x}): {text}");
        match error {
            Error::Detached => {
                let text = named("this handle of shmop was closed: open another one");
                errors::raise_text(py, c"DetachedError", &text)
            }
            Error::ReadOnly => {
                let text = named("the segment was opened with mode \"a\", for reading alone: open it with \"w\"");
                errors::raise_text(py, c"ReadOnlyError", &text)
            }
            Error::Invalid(text) => errors::builtin::<PyValueError>(named(&text)),
            error => errors::to_py(py, error),
        }
    }
}

#[pymethods]
impl PyShmop {
    #[new]
    #[pyo3(
        signature = (key, mode, permissions = None, size = None),
        text_signature = "(key, mode, permissions=0o666, size=0)"
    )]
    fn new(
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        mode: &Bound<'_, PyAny>,
        permissions: Option<&Bound<'_, PyAny>>,
        size: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let key = arguments::key(key, "segment")?;
        let Ok(letter) = mode.cast::<PyString>() else {
            let text = format!("mode must be a str, not {}", arguments::class_of(mode));
            return Err(errors::builtin::<PyTypeError>(text));
        };
        let letter = letter.to_str()?;
        let Some(parsed) = Mode::of(letter) else {
            return Err(errors::builtin::<PyValueError>(format!(
                "mode must be \"a\" (read), \"w\" (read and write), \"c\" (open or make) or \"n\" (make), not {}",
                arguments::shown(mode)?
            )));
        };
        let (permissions, size) = (arguments::permissions(permissions)?, bytes(size, "size")?);
        if parsed.creates() && size == 0 {
            let text = format!("mode {letter:?} needs a size of at least 1 byte");
            return Err(errors::builtin::<PyValueError>(text));
        }
        let inner = Shmop::open(key, parsed, permissions, size).map_err(|error| errors::to_py(py, error))?;
        Ok(PyShmop { inner, mode: letter.to_owned() })
    }

    #[doc = stub!(php.Shmop.key)]
    #[getter]
    fn key(&self) -> i32 {
        self.inner.key()
    }

    #[doc = stub!(php.Shmop.id)]
    #[getter]
    fn id(&self) -> i32 {
        self.inner.id()
    }

    #[doc = stub!(php.Shmop.size)]
    #[getter]
    fn size(&self) -> u64 {
        self.inner.size()
    }

    #[doc = stub!(php.Shmop.readonly)]
    #[getter]
    fn readonly(&self) -> bool {
        self.inner.is_readonly()
    }

    #[doc = stub!(php.Shmop.closed)]
    #[getter]
    fn closed(&self) -> bool {
        self.inner.is_closed()
    }

    #[doc = stub!(php.Shmop.read)]
    #[pyo3(signature = (offset = None, size = None), text_signature = "($self, offset=0, size=0)")]
    fn read<'py>(
        &self,
        py: Python<'py>,
        offset: Option<&Bound<'py, PyAny>>,
        size: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (offset, asked) = (bytes(offset, "offset")?, bytes(size, "size")?);
        let map = self.inner.map().map_err(|error| self.error(py, error))?;
        let left = map.size().checked_sub(offset);
        let Some(left) = left.filter(|left| asked <= *left) else {
            let text = format!("{asked} bytes at offset {offset} reach beyond its {} bytes", map.size());
            return Err(self.error(py, Error::Invalid(text)));
        };
        let size = if asked == 0 { left } else { asked };
        PyBytes::new_with(py, size as usize, |to| map.read(offset, to).map_err(|error| self.error(py, error)))
    }

    #[doc = stub!(php.Shmop.write)]
    #[pyo3(signature = (data, offset = None), text_signature = "($self, data, offset=0)")]
    fn write(&self, data: &Bound<'_, PyAny>, offset: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
        let (py, offset) = (data.py(), bytes(offset, "offset")?);
        let map = self.inner.map().map_err(|error| self.error(py, error))?;
        own_bytes(data, "data", |data| {
            map.write(offset, data).map_err(|error| self.error(py, error))?;
            Ok(data.len())
        })
    }

    #[doc = stub!(php.Shmop.delete)]
    fn delete(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.delete().map_err(|error| self.error(py, error))
    }

    #[doc = stub!(php.Shmop.close)]
    fn close(&self) {
        self.inner.close();
    }

    #[doc = stub!(php.Shmop.__enter__)]
    fn __enter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Self>> {
        slf.get().inner.map().map_err(|error| slf.get().error(py, error))?;
        Ok(slf)
    }

    #[doc = stub!(php.Shmop.__exit__)]
    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.inner.close();
    }

    #[doc = stub!(php.Shmop.__len__)]
    fn __len__(&self) -> usize {
        self.inner.size() as usize
    }

    // What is there when it is unpickled is opened; nothing is made then.
    #[doc = stub!(php.Shmop.__reduce__)]
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (i32, &'static str))> {
        let this = slf.get();
        this.inner.map().map_err(|error| this.error(slf.py(), error))?;
        Ok((slf.get_type().into_any(), (this.inner.key(), if this.inner.is_readonly() { "a" } else { "w" })))
    }

    fn __repr__(&self) -> String {
        let (closed, size) = (if self.inner.is_closed() { ", closed" } else { "" }, self.inner.size());
        format!("<shmvar.php.Shmop 0x{:08x}, mode {:?}, {size} bytes{closed}>", self.inner.key(), self.mode)
    }
}
