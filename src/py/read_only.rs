//! Makes values read-only for `Segment.view`, whether they lie over the segment's memory or are copies.

use crate::codec::arrays::{self, ValueShape};
use crate::py::calls;
use crate::py::errors;
use crate::py::pickle::{loads, names_numpy};
use crate::py::read_mode::ReadMode;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView};

/// The read-only value of a pickle, as by [`wrap`], with each of numpy's arrays in it read-only. Arrays over read-only
/// buffers are so already. What needs work are short arrays, whose memory is in the pickle, and arrays that numpy
/// rebuilds in memory of their own.
pub fn unpickle<'py>(pickle: Bound<'py, PyBytes>, named: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyAny>> {
    let py = pickle.py();
    let found = if names_numpy(pickle.as_bytes()) {
        arrays::read_only_plan(pickle.as_bytes()).map_err(|error| errors::to_py(py, error))?
    } else {
        None
    };
    // There are no arrays, or the pickle is damaged: the unpickler will say which.
    let Some(found) = found else { return wrap(calls::call(loads(py)?, [pickle.into_any()], named)?) };
    let pickle = match found.writable.is_empty() {
        true => pickle,
        false => PyBytes::new_with(py, pickle.as_bytes().len(), |copy| {
            copy.copy_from_slice(pickle.as_bytes());
            arrays::make_read_only(copy, &found.writable);
            Ok(())
        })?,
    };
    match found.shape {
        ValueShape::Array => calls::call(loads(py)?, [pickle.into_any()], named),
        ValueShape::Rebuilt => {
            let value = calls::call(loads(py)?, [pickle.into_any()], named)?;
            static NDARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let ndarray = calls::cached_attribute(py, &NDARRAY, c"numpy", c"ndarray")?;
            if value.is_instance(ndarray)? {
                // The base class's method is called, because a subclass may have a `setflags` of its own.
                ndarray.call_method1("setflags", (&value, false))?;
            }
            Ok(value)
        }
        ValueShape::Other { rebuilt: false } => wrap(calls::call(loads(py)?, [pickle.into_any()], named)?),
        ValueShape::Other { rebuilt: true } => {
            static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let loads = calls::cached_attribute(py, &LOADS, c"shmvar._read_only_arrays", c"loads")?;
            wrap(calls::call(loads, [pickle.into_any()], named)?)
        }
    }
}

/// A value that was copied out of the segment, in the form for this mode.
#[inline]
pub fn in_mode(py: Python<'_>, value: Py<PyAny>, mode: ReadMode) -> PyResult<Py<PyAny>> {
    match mode {
        ReadMode::Own => Ok(value),
        ReadMode::View => Ok(wrap(value.into_bound(py))?.unbind()),
    }
}

/// The read-only form of a value that does not lie over the segment's memory. A bytes-like value becomes a read-only
/// memoryview, other values stay as they are.
pub fn wrap<'py>(value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the object is borrowed. Most values have no buffer and cost only this check.
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

/// Whether it is an `array.array`, or of a class derived from that.
fn is_array(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    static ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    value.is_instance(calls::cached_attribute(value.py(), &ARRAY, c"array", c"array")?)
}
