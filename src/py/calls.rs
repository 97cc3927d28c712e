//! Looks up names in Python modules and calls what they name, so that a lack of memory is a `MemoryError`.

use crate::py::create::{self, new_reference};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use std::ffi::CStr;

/// What a module has under a name.
pub fn attribute<'py>(py: Python<'py>, module: &CStr, name: &CStr) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the interpreter is attached; texts that end with 0.
    unsafe {
        let module: Bound<'py, PyAny> = new_reference(py, ffi::PyImport_ImportModule(module.as_ptr()))?;
        new_reference(py, ffi::PyObject_GetAttrString(module.as_ptr(), name.as_ptr()))
    }
}

/// The same, kept.
pub fn cached_attribute<'py>(
    py: Python<'py>,
    kept: &'static PyOnceLock<Py<PyAny>>,
    module: &CStr,
    name: &CStr,
) -> PyResult<&'py Bound<'py, PyAny>> {
    kept.get_or_try_init(py, || attribute(py, module, name).map(Bound::unbind)).map(|object| object.bind(py))
}

/// Calls a method with these arguments.
pub fn method<'py, const N: usize>(
    object: &Bound<'py, PyAny>,
    name: &CStr,
    arguments: [Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: an object, borrowed, and a text that ends with 0.
    let method = unsafe { new_reference(object.py(), ffi::PyObject_GetAttrString(object.as_ptr(), name.as_ptr()))? };
    call(&method, arguments, None)
}

/// Calls something with these arguments.
pub fn call<'py, const N: usize>(
    callable: &Bound<'py, PyAny>,
    arguments: [Bound<'py, PyAny>; N],
    named: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = create::tuple(callable.py(), arguments.into_iter().map(Ok))?;
    callable.call(arguments, named)
}
