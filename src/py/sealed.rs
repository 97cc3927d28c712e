//! Values of views: read-only, whether they are over the segment's memory or copies.

use crate::codec::arrays::{self, ValueShape};
use crate::py::decode::loads;
use crate::py::errors;
use crate::py::made;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView};

/// The read-only value of a pickle: [`sealed`], and each of numpy's arrays in it read-only. Those over read-only buffers are;
/// this is about the short ones, whose memory is in the pickle, and about those that numpy rebuilds in memory of their own.
pub fn unpickle<'py>(pickle: Bound<'py, PyBytes>, named: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyAny>> {
    let py = pickle.py();
    let found = if names_numpy(pickle.as_bytes()) {
        arrays::read_only_plan(pickle.as_bytes()).map_err(|error| errors::to_py(py, error))?
    } else {
        None
    };
    // None there, or damaged: for the unpickler to say.
    let Some(found) = found else { return sealed(made::call(loads(py)?, [pickle.into_any()], named)?) };
    let pickle = match found.writable.is_empty() {
        true => pickle,
        false => PyBytes::new_with(py, pickle.as_bytes().len(), |copy| {
            copy.copy_from_slice(pickle.as_bytes());
            arrays::make_read_only(copy, &found.writable);
            Ok(())
        })?,
    };
    match found.shape {
        ValueShape::Array => made::call(loads(py)?, [pickle.into_any()], named),
        ValueShape::Rebuilt => {
            let value = made::call(loads(py)?, [pickle.into_any()], named)?;
            static NDARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let ndarray = made::imported(py, &NDARRAY, c"numpy", c"ndarray")?;
            if value.is_instance(ndarray)? {
                // A subclass may have a `setflags` of its own.
                ndarray.call_method1("setflags", (&value, false))?;
            }
            Ok(value)
        }
        ValueShape::Other { rebuilt: false } => sealed(made::call(loads(py)?, [pickle.into_any()], named)?),
        ValueShape::Other { rebuilt: true } => {
            static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let loads = made::imported(py, &LOADS, c"shmvar._read_only_arrays", c"loads")?;
            sealed(made::call(loads, [pickle.into_any()], named)?)
        }
    }
}

/// Is there one of numpy's names in the pickle? By the C library, for a pickle may be long.
pub fn names_numpy(pickle: &[u8]) -> bool {
    let name = arrays::NUMPY;
    // SAFETY: two slices with their lengths, read only.
    unsafe { !libc::memmem(pickle.as_ptr().cast(), pickle.len(), name.as_ptr().cast(), name.len()).is_null() }
}

/// The read-only form of a value that is not over the segment's memory: of what is bytes, a memoryview.
pub fn sealed<'py>(value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
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
    value.is_instance(made::imported(value.py(), &ARRAY, c"array", c"array")?)
}
