//! The memory of an array, as the pickler gets it.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;

/// The bytes of an array, exported as writable even if the array is read-only, because the reader decides whether its
/// array is read-only. Only the pickler gets this object, and the pickler does not write.
#[pyclass(frozen)]
pub(super) struct WritableMemory(pub PyBuffer<u8>);

#[pymethods]
impl WritableMemory {
    /// # Safety
    /// Only the interpreter calls it.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        let held = &slf.get().0;
        // SAFETY: `view` is the interpreter's. The memory is exported as long as this object lives, and the view holds
        // a reference to it.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), held.buf_ptr(), held.len_bytes() as ffi::Py_ssize_t, 0, flags)
        };
        if filled == -1 { Err(PyErr::fetch(slf.py())) } else { Ok(()) }
    }

    /// Does nothing: a view holds nothing but its reference to this object.
    ///
    /// # Safety
    /// Only the interpreter calls it.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}
