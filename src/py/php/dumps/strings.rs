//! The bytes of `str`, `bytes`, `bytearray` and `memoryview`.

use super::stop::Stop;
use crate::py::create::{self, new_reference};
use crate::py::errors;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};

/// The bytes of a `str` in UTF-8. `None` if it has lone surrogates.
///
/// # Safety
/// `object` is a `str`, and lives for as long as the bytes are used.
#[inline(always)]
pub(super) unsafe fn utf8<'a>(object: *mut ffi::PyObject) -> Option<&'a [u8]> {
    let mut len = 0;
    // SAFETY: the caller says that it is a `str`. Its bytes belong to it.
    unsafe {
        let text = ffi::PyUnicode_AsUTF8AndSize(object, &mut len);
        if text.is_null() { None } else { Some(std::slice::from_raw_parts(text.cast::<u8>(), len as usize)) }
    }
}

/// The bytes of a `str` whose UTF-8 could not be had, because of lone surrogates or a lack of memory: an exception is
/// set. Surrogates that `surrogateescape` has made of bytes become these bytes again; others are refused.
#[cold]
pub(super) fn escaped<'py>(object: &Bound<'py, PyAny>) -> Result<Bound<'py, PyBytes>, Stop> {
    let py = object.py();
    let first = PyErr::fetch(py);
    if !first.is_instance_of::<pyo3::exceptions::PyUnicodeEncodeError>(py) {
        return Err(Stop::Raised(first));
    }
    let (codec, errors) = (c"utf-8".as_ptr(), c"surrogateescape".as_ptr());
    // SAFETY: it is a `str`; both names end with 0.
    let bytes = unsafe { new_reference(py, ffi::PyUnicode_AsEncodedString(object.as_ptr(), codec, errors)) };
    bytes.map_err(|error: PyErr| {
        if !error.is_instance_of::<pyo3::exceptions::PyUnicodeEncodeError>(py) {
            return Stop::Raised(error);
        }
        let at = error.value(py).getattr("start").and_then(|start| start.extract::<usize>()).unwrap_or(0);
        Stop::Refused(format!(
            "the str has a lone surrogate at index {at}, which is no text. Remedy: bytes, as \
             value.encode('utf-8', 'surrogatepass')"
        ))
    })
}

/// Calls `act` with the bytes of a `str` that is no part of a value. `what` names it in the error.
pub fn with_str<T>(text: &Bound<'_, PyString>, what: &str, act: impl FnOnce(&[u8]) -> PyResult<T>) -> PyResult<T> {
    // SAFETY: it is a `str`, which is borrowed for as long.
    if let Some(bytes) = unsafe { utf8(text.as_ptr()) } {
        return act(bytes);
    }
    match escaped(text.as_any()) {
        Ok(bytes) => act(bytes.as_bytes()),
        Err(Stop::Refused(why)) => Err(errors::builtin::<PyValueError>(format!("{what}: {why}"))),
        Err(Stop::Raised(error)) => Err(error),
        Err(_) => Err(create::no_memory()),
    }
}

/// The bytes of a `bytes`.
///
/// # Safety
/// `object` is a `bytes`, and lives for as long as the bytes are used.
#[inline(always)]
pub(super) unsafe fn bytes_of<'a>(object: *mut ffi::PyObject) -> &'a [u8] {
    // SAFETY: the caller says that it is a `bytes`.
    unsafe {
        let len = ffi::PyBytes_Size(object) as usize;
        std::slice::from_raw_parts(ffi::PyBytes_AsString(object).cast::<u8>(), len)
    }
}

/// A `bytes` with the bytes of a `bytearray` or `memoryview`. `None` for any other object.
#[cold]
pub(super) fn copied<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    if !object.is_instance_of::<PyByteArray>() && !object.is_instance_of::<PyMemoryView>() {
        return Ok(None);
    }
    // SAFETY: the object is borrowed. The function returns a new `bytes`.
    unsafe { new_reference(object.py(), ffi::PyBytes_FromObject(object.as_ptr())).map(Some) }
}
