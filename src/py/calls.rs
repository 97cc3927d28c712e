//! Looks up names in Python modules and calls Python objects, so that a lack of memory raises `MemoryError`.
//!
//! Only for fixed names: nothing here is called with a name from a segment.

use crate::py::create::{self, new_reference};
use crate::py::interpreter;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyMapping};
use std::ffi::CStr;

/// `Py_TPFLAGS_IMMUTABLETYPE`. No class that a program defines has this flag.
pub const IMMUTABLE: std::ffi::c_ulong = 1 << 8;

/// An attribute of a module, which is imported if necessary.
///
/// In place of `py.import`, which does not prepare the thread for its end ([`interpreter::python_code_follows`]).
pub fn attribute<'py>(py: Python<'py>, module: &CStr, name: &CStr) -> PyResult<Bound<'py, PyAny>> {
    interpreter::python_code_follows();
    // SAFETY: the interpreter is attached; both texts end with 0.
    unsafe {
        let module: Bound<'py, PyAny> = new_reference(py, ffi::PyImport_ImportModule(module.as_ptr()))?;
        new_reference(py, ffi::PyObject_GetAttrString(module.as_ptr(), name.as_ptr()))
    }
}

/// The same, looked up once and then kept in a static.
#[inline]
pub fn cached_attribute<'py>(
    py: Python<'py>,
    cache: &'static PyOnceLock<Py<PyAny>>,
    module: &CStr,
    name: &CStr,
) -> PyResult<&'py Bound<'py, PyAny>> {
    once(py, cache, || attribute(py, module, name).map(Bound::unbind)).map(|object| object.bind(py))
}

/// What is made once and then kept. Where several make it, what the first of them has made counts.
///
/// `PyOnceLock::get_or_try_init` and `import` would let the second one wait for the first. That may be for ever: a
/// signal handler or a finalizer that runs in the middle of `make`, and comes here too, would wait for its own thread,
/// and a forked child for a thread that it does not have.
#[inline]
pub fn once<'a, T>(py: Python<'_>, cache: &'a PyOnceLock<T>, make: impl FnOnce() -> PyResult<T>) -> PyResult<&'a T> {
    if let Some(found) = cache.get(py) {
        return Ok(found);
    }
    let made = make()?;
    // Nobody runs code of Python while the cell is filled. Where another one was faster, what was made here is dropped.
    Ok(cache.get_or_init(py, || made))
}

/// The object as a mapping: an instance of `collections.abc.Mapping`. `None`: it is none.
///
/// `cast::<PyMapping>()` would do the same, but it panics where the class cannot be imported (no descriptor is left, the
/// stack is at its limit, or a signal handler raises just then), and takes an object for no mapping whose class raises
/// when it is asked, whatever it raises. The class is taken from the module that every interpreter has loaded already.
pub fn mapping<'a, 'py>(object: &'a Bound<'py, PyAny>) -> PyResult<Option<&'a Bound<'py, PyMapping>>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    interpreter::python_code_follows();
    let is_one = object.is_instance_of::<PyDict>()
        || object.is_instance(cached_attribute(object.py(), &CLASS, c"_collections_abc", c"Mapping")?)?;
    // SAFETY: `PyMapping` stands for any object, and this is a mapping.
    Ok(is_one.then(|| unsafe { object.cast_unchecked::<PyMapping>() }))
}

/// Calls a method with these arguments.
pub fn method<'py, const N: usize>(
    object: &Bound<'py, PyAny>,
    name: &CStr,
    arguments: [Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    interpreter::python_code_follows();
    // SAFETY: the object is borrowed; the text ends with 0.
    let method = unsafe { new_reference(object.py(), ffi::PyObject_GetAttrString(object.as_ptr(), name.as_ptr()))? };
    call(&method, arguments, None)
}

/// Calls an object with these positional and named arguments.
pub fn call<'py, const N: usize>(
    callable: &Bound<'py, PyAny>,
    arguments: [Bound<'py, PyAny>; N],
    named: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    interpreter::python_code_follows();
    let arguments = create::tuple(callable.py(), arguments.into_iter().map(Ok))?;
    callable.call(arguments, named)
}
