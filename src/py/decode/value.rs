//! From pickles to values: scalars are decoded here, everything else by the C unpickler or, if the segment is not
//! trusted, by `data_only`.

use super::containers::containers;
use super::failure::{ValueOf, damage, explain, refused};
use super::text::new_text;
use crate::codec::buffers;
use crate::codec::scalar::{self, Scalar};
use crate::codec::writer::may_be_containers;
use crate::py::calls;
use crate::py::create;
use crate::py::data_only::{self, Limits};
use crate::py::interpreter;
use crate::py::pickle::loads;
use crate::py::read_mode::ReadMode;
use crate::py::read_only;
use pyo3::exceptions::PyUnicodeDecodeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

/// The value of a pickle that was copied out of the segment.
#[inline]
pub fn decode<'a>(
    py: Python<'_>,
    of: impl Into<ValueOf<'a>>,
    pickle: &[u8],
    trusted: bool,
    mode: ReadMode,
) -> PyResult<Py<PyAny>> {
    let of = of.into();
    // SAFETY: the interpreter is attached, and each call returns a new reference or null with an exception set.
    let object = unsafe {
        let object = match scalar::decode(pickle) {
            Some(Scalar::Int(number)) => ffi::PyLong_FromLong(number),
            Some(Scalar::Str(text)) => new_text(py, text),
            Some(Scalar::Float(number)) => ffi::PyFloat_FromDouble(number),
            Some(Scalar::Bytes(bytes)) => {
                ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as ffi::Py_ssize_t)
            }
            Some(Scalar::None) => return Ok(py.None()),
            Some(Scalar::Bool(truth)) => return Ok(truth.into_pyobject(py)?.to_owned().into_any().unbind()),
            None => return decode_containers(py, of, pickle, trusted, mode),
        };
        Bound::from_owned_ptr_or_opt(py, object)
    };
    match object {
        Some(object) => read_only::in_mode(py, object.unbind(), mode),
        None => {
            let error = PyErr::fetch(py);
            // No pickler writes a str that is not UTF-8, so the value is damaged.
            let damaged = error.is_instance_of::<PyUnicodeDecodeError>(py);
            Err(if damaged { damage(py, error, of, pickle.len()) } else { explain(py, error, of, pickle) })
        }
    }
}

/// The value of a pickle that is not one scalar.
fn decode_containers(
    py: Python<'_>,
    of: ValueOf<'_>,
    pickle: &[u8],
    trusted: bool,
    mode: ReadMode,
) -> PyResult<Py<PyAny>> {
    interpreter::python_code_follows();
    match read_containers(py, of, pickle, trusted, mode)? {
        Some(value) => Ok(value),
        None => decode_pickle(py, of, create::bytes(py, pickle)?, trusted, mode),
    }
}

/// The value of a pickle that is not one scalar. The pickle is a bytes object already.
pub fn decode_object(
    py: Python<'_>,
    of: ValueOf<'_>,
    pickle: Bound<'_, PyBytes>,
    trusted: bool,
    mode: ReadMode,
) -> PyResult<Py<PyAny>> {
    interpreter::python_code_follows();
    match read_containers(py, of, pickle.as_bytes(), trusted, mode)? {
        Some(value) => Ok(value),
        None => decode_pickle(py, of, pickle, trusted, mode),
    }
}

/// The value of a pickle that consists of containers of scalars. `None` for any other pickle.
#[inline(always)]
fn read_containers(
    py: Python<'_>,
    of: ValueOf<'_>,
    pickle: &[u8],
    trusted: bool,
    mode: ReadMode,
) -> PyResult<Option<Py<PyAny>>> {
    if !trusted || !may_be_containers(pickle) {
        return Ok(None);
    }
    let value = containers(py, pickle).map_err(|error| explain(py, error, of, pickle))?;
    value.map(|value| read_only::in_mode(py, value.unbind(), mode)).transpose()
}

/// The value of a pickle that may describe any object.
fn decode_pickle(
    py: Python<'_>,
    of: ValueOf<'_>,
    pickle: Bound<'_, PyBytes>,
    trusted: bool,
    mode: ReadMode,
) -> PyResult<Py<PyAny>> {
    if !trusted {
        let value = data_only::decode(py, pickle.as_bytes(), Vec::new(), mode, &Limits::default());
        let value = value.map_err(|error| refused(py, error, of, pickle.as_bytes().len()))?;
        return read_only::in_mode(py, value, mode);
    }
    let value = match mode {
        ReadMode::Own => calls::call(loads(py)?, [pickle.clone().into_any()], None),
        ReadMode::View => read_only::unpickle(pickle.clone(), None),
    };
    match value {
        Ok(value) => Ok(value.unbind()),
        Err(error) => Err(explain(py, error, of, pickle.as_bytes())),
    }
}

/// The value of a pickle with buffers, in a segment that is not trusted. The buffers were copied and become part of the
/// value.
pub fn decode_data_only_buffers<'py>(
    py: Python<'py>,
    of: ValueOf<'_>,
    stream: &[u8],
    mut copies: Vec<Bound<'py, PyByteArray>>,
    mode: ReadMode,
) -> PyResult<Py<PyAny>> {
    if let ([_], true, _) | ([_], _, true) = (&copies[..], stream == buffers::BYTEARRAY, stream == buffers::MEMORYVIEW)
    {
        let buffer = copies.remove(0).into_any();
        return match stream == buffers::BYTEARRAY {
            true => Ok(buffer.unbind()),
            false => Ok(PyMemoryView::from(&buffer)?.into_any().unbind()),
        };
    }
    let len = copies.iter().fold(stream.len(), |sum, copy| sum + copy.len());
    data_only::decode(py, stream, copies, mode, &Limits::default()).map_err(|error| refused(py, error, of, len))
}

/// The value of a pickle with one buffer, in a segment that is trusted, over this memory.
pub fn decode_over(py: Python<'_>, of: ValueOf<'_>, stream: &[u8], memory: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let named = create::dict(py)?;
    let buffers = create::list(py, [Ok(PyMemoryView::from(memory)?.into_any())].into_iter())?;
    named.set_item(create::text(py, "buffers")?, buffers)?;
    let value = calls::call(loads(py)?, [create::bytes(py, stream)?.into_any()], Some(&named));
    value.map(Bound::unbind).map_err(|error| explain(py, error, of, stream))
}

/// A memoryview of the items of an `array.array` with this typecode, over their bytes.
pub fn array_items<'py>(bytes: &Bound<'py, PyAny>, code: u8) -> PyResult<Bound<'py, PyAny>> {
    PyMemoryView::from(bytes)?.call_method1("cast", (char::from(code).to_string(),))
}
