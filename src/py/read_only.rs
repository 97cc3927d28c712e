//! Values of views: read-only, whether they are over the segment's memory or copies.

use crate::codec::arrays::{self, Whole};
use crate::py::calls;
use crate::py::errors;
use crate::py::pickle::{loads, names_numpy};
use crate::py::read_mode::ReadMode;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView};

/// The read-only value of a pickle: [`wrap`], and each of numpy's arrays in it read-only. Those over read-only buffers are;
/// this is about the short ones, whose memory is in the pickle, and about those that numpy rebuilds in memory of their own.
pub fn unpickle<'py>(pickle: Bound<'py, PyBytes>, named: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyAny>> {
    let py = pickle.py();
    let found = if names_numpy(pickle.as_bytes()) {
        arrays::sealing(pickle.as_bytes()).map_err(|error| errors::to_py(py, error))?
    } else {
        None
    };
    // None there, or damaged: for the unpickler to say.
    let Some(found) = found else { return wrap(calls::call(loads(py)?, [pickle.into_any()], named)?) };
    let pickle = match found.writable.is_empty() {
        true => pickle,
        false => PyBytes::new_with(py, pickle.as_bytes().len(), |copy| {
            copy.copy_from_slice(pickle.as_bytes());
            arrays::seal(copy, &found.writable);
            Ok(())
        })?,
    };
    match found.whole {
        Whole::Array => calls::call(loads(py)?, [pickle.into_any()], named),
        Whole::Rebuilt => {
            let value = calls::call(loads(py)?, [pickle.into_any()], named)?;
            static NDARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let ndarray = calls::cached_attribute(py, &NDARRAY, c"numpy", c"ndarray")?;
            if value.is_instance(ndarray)? {
                // A subclass may have a `setflags` of its own.
                ndarray.call_method1("setflags", (&value, false))?;
            }
            Ok(value)
        }
        Whole::Other { rebuilt: false } => wrap(calls::call(loads(py)?, [pickle.into_any()], named)?),
        Whole::Other { rebuilt: true } => {
            static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let loads = calls::cached_attribute(py, &LOADS, c"shmvar._read_only_arrays", c"loads")?;
            wrap(calls::call(loads, [pickle.into_any()], named)?)
        }
    }
}

/// A value that was copied, as the reader wants it.
#[inline]
pub fn in_mode(py: Python<'_>, value: Py<PyAny>, mode: ReadMode) -> PyResult<Py<PyAny>> {
    match mode {
        ReadMode::Own => Ok(value),
        ReadMode::View => Ok(wrap(value.into_bound(py))?.unbind()),
    }
}

/// The read-only form of a value that is not over the segment's memory: of what is bytes, a memoryview.
pub fn wrap<'py>(value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: an object, borrowed. Most have no buffer, and pass at the cost of this look.
    if unsafe { ffi::PyObject_CheckBuffer(value.as_ptr()) } == 0 {
        return Ok(value);
    }
    if value.is_exact_instance_of::<PyBytes>() {
        return Ok(PyMemoryView::from(&value)?.into_any());
    }
    let bytes = value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyByteArray>();
    if bytes || value.is_instance_of::<PyMemoryView>() || is_array(&value)? {
        return PyMemoryView::from(&value)?.call_method0("toreadonly");
    }
    Ok(value)
}

/// An `array.array`, or of a class derived from it.
fn is_array(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    static ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    value.is_instance(calls::cached_attribute(value.py(), &ARRAY, c"array", c"array")?)
}
