//! From values to pickles. Exact scalars are encoded here, exact containers of them in `containers`, everything else by
//! the C pickler. No lock is held meanwhile, because the pickler runs user code.

use super::containers::containers;
use super::encoded::Encoded;
use super::pickler::pickle;
use crate::codec::buffers;
use crate::codec::scalar;
use crate::py::interpreter;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyString};

/// Pickles a value. What is neither a scalar nor a container of scalars is pickled by `_pickle.dumps` with protocol 5.
/// Its errors pass unchanged.
#[inline]
pub fn encode<'a, 'py>(value: &'a Bound<'py, PyAny>) -> PyResult<Encoded<'a, 'py>> {
    let py = value.py();
    if value.is_exact_instance_of::<PyInt>() {
        let mut overflow = 0;
        // SAFETY: it is an int, borrowed; the interpreter is attached.
        let number = unsafe { ffi::PyLong_AsLongAndOverflow(value.as_ptr(), &mut overflow) };
        if overflow == 0 {
            return Ok(Encoded::Short(scalar::int(number)));
        }
    } else if value.is_exact_instance_of::<PyString>() {
        let mut len = 0;
        // SAFETY: it is a str, borrowed. The bytes belong to the str and live as long as it does.
        let text = unsafe { ffi::PyUnicode_AsUTF8AndSize(value.as_ptr(), &mut len) };
        if !text.is_null() {
            let (head, tail) = scalar::str_frame(len as usize);
            // SAFETY: the str owns these bytes and does not change.
            let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len as usize) };
            return Ok(Encoded::Framed(head, bytes, tail));
        }
        // The str has lone surrogates, which the pickler handles.
        drop(PyErr::take(py));
    } else if value.is_exact_instance_of::<PyFloat>() {
        // SAFETY: it is a float, borrowed.
        return Ok(Encoded::Short(scalar::float(unsafe { ffi::PyFloat_AsDouble(value.as_ptr()) })));
    } else if value.is_exact_instance_of::<PyBytes>() {
        // SAFETY: its type was checked just now.
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
    interpreter::python_code_follows();
    match containers(value)? {
        Some(bytes) => Ok(Encoded::Containers(bytes)),
        None => pickle(value),
    }
}

/// The value of an exact bool.
fn truth(value: &Bound<'_, PyAny>) -> Option<bool> {
    // SAFETY: two constants of the interpreter are compared by address.
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
