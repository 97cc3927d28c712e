//! Objects of the interpreter, made so that no memory for one is its `MemoryError`: PyO3's own constructors panic there.

use pyo3::PyTypeInfo;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use std::ffi::CStr;

/// What a call of the interpreter returned: a new reference to an object of that type, or null with an exception set.
///
/// # Safety
/// It is one of these.
#[inline]
unsafe fn made<'py, T>(py: Python<'py>, object: *mut ffi::PyObject) -> PyResult<Bound<'py, T>> {
    // SAFETY: the caller's promise.
    unsafe { Bound::from_owned_ptr_or_err(py, object).map(|object| object.cast_into_unchecked()) }
}

/// An `int`.
#[inline]
pub fn int(py: Python<'_>, number: i64) -> PyResult<Bound<'_, PyInt>> {
    // SAFETY: the interpreter is attached.
    unsafe { made(py, ffi::PyLong_FromLongLong(number)) }
}

/// An `int` that is not negative.
#[inline]
pub fn uint(py: Python<'_>, number: u64) -> PyResult<Bound<'_, PyInt>> {
    // SAFETY: the interpreter is attached.
    unsafe { made(py, ffi::PyLong_FromUnsignedLongLong(number)) }
}

/// A `float`.
#[inline]
pub fn float(py: Python<'_>, number: f64) -> PyResult<Bound<'_, PyFloat>> {
    // SAFETY: the interpreter is attached.
    unsafe { made(py, ffi::PyFloat_FromDouble(number)) }
}

/// A `str`.
#[inline]
pub fn text<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: the interpreter is attached; so many bytes are read there.
    unsafe { made(py, ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as ffi::Py_ssize_t)) }
}

/// A `bytes`.
#[inline]
pub fn bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: as above.
    unsafe { made(py, ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as ffi::Py_ssize_t)) }
}

/// An empty `dict`.
#[inline]
pub fn dict(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    // SAFETY: the interpreter is attached.
    unsafe { made(py, ffi::PyDict_New()) }
}

/// A `list` of what an iterator gives, or its first error.
pub fn list<'py>(
    py: Python<'py>,
    items: impl ExactSizeIterator<Item = PyResult<Bound<'py, PyAny>>>,
) -> PyResult<Bound<'py, PyList>> {
    let len = items.len();
    // SAFETY: the interpreter is attached. Nobody else sees the list before each of its places is filled or it is dropped,
    // which empty places stand.
    let list: Bound<'py, PyList> = unsafe { made(py, ffi::PyList_New(len as ffi::Py_ssize_t))? };
    for (at, item) in items.take(len).enumerate() {
        // SAFETY: a place that is empty; the reference is taken whatever comes of it.
        if unsafe { ffi::PyList_SetItem(list.as_ptr(), at as ffi::Py_ssize_t, item?.into_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
    }
    debug_assert_eq!(list.len(), len);
    Ok(list)
}

/// A `tuple` of what an iterator gives, or its first error.
pub fn tuple<'py>(
    py: Python<'py>,
    items: impl ExactSizeIterator<Item = PyResult<Bound<'py, PyAny>>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let len = items.len();
    // SAFETY: as of a list.
    let tuple: Bound<'py, PyTuple> = unsafe { made(py, ffi::PyTuple_New(len as ffi::Py_ssize_t))? };
    for (at, item) in items.take(len).enumerate() {
        // SAFETY: as of a list.
        if unsafe { ffi::PyTuple_SetItem(tuple.as_ptr(), at as ffi::Py_ssize_t, item?.into_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
    }
    Ok(tuple)
}

/// An exception with a text, made at once: what PyO3 makes of one later panics where there is no memory for it. Then it is the
/// interpreter's `MemoryError`.
#[cold]
pub fn error<T: PyTypeInfo>(said: impl AsRef<str>) -> PyErr {
    Python::attach(|py| {
        let made = text(py, said.as_ref()).and_then(|said| call(&py.get_type::<T>(), [said.into_any()], None));
        made.map_or_else(|error| error, PyErr::from_value)
    })
}

/// What a module has under a name.
pub fn attribute<'py>(py: Python<'py>, module: &CStr, name: &CStr) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the interpreter is attached; texts that end with 0.
    unsafe {
        let module: Bound<'py, PyAny> = made(py, ffi::PyImport_ImportModule(module.as_ptr()))?;
        made(py, ffi::PyObject_GetAttrString(module.as_ptr(), name.as_ptr()))
    }
}

/// The same, kept.
pub fn imported<'py>(
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
    let method = unsafe { made(object.py(), ffi::PyObject_GetAttrString(object.as_ptr(), name.as_ptr()))? };
    call(&method, arguments, None)
}

/// Calls something with these arguments.
pub fn call<'py, const N: usize>(
    callable: &Bound<'py, PyAny>,
    arguments: [Bound<'py, PyAny>; N],
    named: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = tuple(callable.py(), arguments.into_iter().map(Ok))?;
    callable.call(arguments, named)
}

/// A list of Rust's with room for so many, for what an iterator gives, or its first error.
pub fn collected<T>(items: impl Iterator<Item = PyResult<T>>) -> PyResult<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(items.size_hint().0).map_err(|_| no_memory())?;
    for item in items {
        push(&mut all, item?)?;
    }
    Ok(all)
}

/// One more in such a list.
#[inline]
pub fn push<T>(all: &mut Vec<T>, one: T) -> PyResult<()> {
    if all.len() == all.capacity() {
        all.try_reserve(1).map_err(|_| no_memory())?;
    }
    all.push(one);
    Ok(())
}

/// The interpreter's own `MemoryError`, of which it keeps some: without a text, which would need memory.
#[cold]
pub fn no_memory() -> PyErr {
    // SAFETY: whoever makes objects has the interpreter; it sets the exception that is then taken.
    Python::attach(|py| unsafe {
        ffi::PyErr_NoMemory();
        PyErr::fetch(py)
    })
}
