//! Values to pickles: exact scalars here, everything else by the C pickler. Never under a lock.

use super::encoded::Encoded;
use super::pickler::pickle;
use crate::codec::buffers;
use crate::codec::scalar;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyString};

/// Pickles a value: exact scalars here, everything else by `_pickle.dumps` at protocol 5, whose errors come through
/// unchanged.
#[inline]
pub fn encode<'a, 'py>(value: &'a Bound<'py, PyAny>) -> PyResult<Encoded<'a, 'py>> {
    let py = value.py();
    if value.is_exact_instance_of::<PyInt>() {
        let mut overflow = 0;
        // SAFETY: an int, borrowed; the interpreter is attached.
        let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(value.as_ptr(), &mut overflow) };
        if overflow == 0 {
            return Ok(Encoded::Short(scalar::int(number)));
        }
    } else if value.is_exact_instance_of::<PyString>() {
        let mut len = 0;
        // SAFETY: a str, borrowed. The bytes belong to it and live as long as it does.
        let text = unsafe { ffi::PyUnicode_AsUTF8AndSize(value.as_ptr(), &mut len) };
        if !text.is_null() {
            let (head, tail) = scalar::str_frame(len as usize);
            // SAFETY: as above; a str does not change.
            let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len as usize) };
            return Ok(Encoded::Framed(head, bytes, tail));
        }
        // Lone surrogates: the pickler knows what to do.
        drop(PyErr::take(py));
    } else if value.is_exact_instance_of::<PyFloat>() {
        // SAFETY: a float, borrowed.
        return Ok(Encoded::Short(scalar::float(unsafe { ffi::PyFloat_AsDouble(value.as_ptr()) })));
    } else if value.is_exact_instance_of::<PyBytes>() {
        // SAFETY: just looked at.
        let bytes = unsafe { value.cast_unchecked::<PyBytes>() }.as_bytes();
        if bytes.len() >= buffers::LARGE_BYTES {
            return Ok(Encoded::Bytes(bytes));
        }
        let (head, tail) = scalar::bytes_frame(bytes.len());
        return Ok(Encoded::Framed(head, bytes, tail));
    } else if value.is_none() {
        return Ok(Encoded::Short(scalar::constant(None)));
    } else if let Some(truth) = truth(value) {
        return Ok(Encoded::Short(scalar::constant(Some(truth))));
    }
    pickle(value)
}

fn truth(value: &Bound<'_, PyAny>) -> Option<bool> {
    // SAFETY: the two constants of the interpreter, compared by address.
    unsafe {
        if value.as_ptr() == ffi::Py_True() {
            Some(true)
        } else if value.as_ptr() == ffi::Py_False() {
            Some(false)
        } else {
            None
        }
    }
}
