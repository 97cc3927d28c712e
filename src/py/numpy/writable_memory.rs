//! The memory of an array as the pickler gets it.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;

/// The bytes of an array. For the pickle they are writable whether the array is or not: what a reader makes of them is for
/// the reader to say. Nobody but the pickler gets to see it, which does not write.
#[pyclass(frozen)]
pub(super) struct WritableMemory(pub PyBuffer<u8>);

#[pymethods]
impl WritableMemory {
    /// # Safety
    /// Called by the interpreter.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        let held = &slf.get().0;
        // SAFETY: `view` is the interpreter's; the memory is exported for as long as this object lives, of which the view
        // holds a reference.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), held.buf_ptr(), held.len_bytes() as ffi::Py_ssize_t, 0, flags)
        };
        if filled == -1 { Err(PyErr::fetch(slf.py())) } else { Ok(()) }
    }

    /// Nothing to give back: the view's reference is all there is.
    ///
    /// # Safety
    /// Called by the interpreter.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}
