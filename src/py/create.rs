//! Creates objects of the interpreter, and Rust lists, so that a lack of memory is a `MemoryError`: PyO3's own constructors
//! panic there.
//!
//! Not for the core, which has `crate::fallible` for the same.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// What a call of the interpreter returned: a new reference to an object of that type, or null with an exception set.
///
/// # Safety
/// It is one of these.
#[inline]
pub(super) unsafe fn new_reference<'py, T>(py: Python<'py>, object: *mut ffi::PyObject) -> PyResult<Bound<'py, T>> {
    // SAFETY: the caller's promise.
    unsafe { Bound::from_owned_ptr_or_err(py, object).map(|object| object.cast_into_unchecked()) }
}

/// An `int`.
#[inline]
pub fn int(py: Python<'_>, number: i64) -> PyResult<Bound<'_, PyInt>> {
    // SAFETY: the interpreter is attached.
    unsafe { new_reference(py, ffi::PyLong_FromLongLong(number)) }
}

/// An `int` that is not negative.
#[inline]
pub fn uint(py: Python<'_>, number: u64) -> PyResult<Bound<'_, PyInt>> {
    // SAFETY: the interpreter is attached.
    unsafe { new_reference(py, ffi::PyLong_FromUnsignedLongLong(number)) }
}

/// A `float`.
#[inline]
pub fn float(py: Python<'_>, number: f64) -> PyResult<Bound<'_, PyFloat>> {
    // SAFETY: the interpreter is attached.
    unsafe { new_reference(py, ffi::PyFloat_FromDouble(number)) }
}

/// A `str`.
#[inline]
pub fn text<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: the interpreter is attached; so many bytes are read there.
    unsafe { new_reference(py, ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as ffi::Py_ssize_t)) }
}

/// A `bytes`.
#[inline]
pub fn bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: as above.
    unsafe { new_reference(py, ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as ffi::Py_ssize_t)) }
}

/// An empty `dict`.
#[inline]
pub fn dict(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    // SAFETY: the interpreter is attached.
    unsafe { new_reference(py, ffi::PyDict_New()) }
}

/// A `list` of what an iterator gives, or its first error.
pub fn list<'py>(
    py: Python<'py>,
    items: impl ExactSizeIterator<Item = PyResult<Bound<'py, PyAny>>>,
) -> PyResult<Bound<'py, PyList>> {
    let len = items.len();
    // SAFETY: the interpreter is attached. Nobody else sees the list before each of its places is filled or it is dropped,
    // which empty places stand.
    let list: Bound<'py, PyList> = unsafe { new_reference(py, ffi::PyList_New(len as ffi::Py_ssize_t))? };
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
    let tuple: Bound<'py, PyTuple> = unsafe { new_reference(py, ffi::PyTuple_New(len as ffi::Py_ssize_t))? };
    for (at, item) in items.take(len).enumerate() {
        // SAFETY: as of a list.
        if unsafe { ffi::PyTuple_SetItem(tuple.as_ptr(), at as ffi::Py_ssize_t, item?.into_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
    }
    Ok(tuple)
}

/// A list of Rust's with room for so many, for what an iterator gives, or its first error.
pub fn collect<T>(items: impl Iterator<Item = PyResult<T>>) -> PyResult<Vec<T>> {
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
