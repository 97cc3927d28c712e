//! Creates Python objects, and Rust vectors, so that a lack of memory raises `MemoryError`.
//!
//! PyO3's own constructors panic when there is no memory. The core has `crate::fallible` for the same purpose.

use crate::fallible;
use crate::os::mem::CopyTarget;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use std::cmp::Ordering;

/// Converts what a function of the C API returned.
///
/// # Safety
/// `object` is a new reference to an object of type `T`, or null with an exception set.
#[inline]
pub(super) unsafe fn new_reference<'py, T>(py: Python<'py>, object: *mut ffi::PyObject) -> PyResult<Bound<'py, T>> {
    // SAFETY: the caller says that it is one of the two.
    unsafe { Bound::from_owned_ptr_or_err(py, object).map(|object| object.cast_into_unchecked()) }
}

/// An `int`. The function for C's `long`, which has 64 bits on every system that this runs on, is the quickest one.
#[inline]
pub fn int(py: Python<'_>, number: i64) -> PyResult<Bound<'_, PyInt>> {
    // SAFETY: the interpreter is attached.
    unsafe { new_reference(py, ffi::PyLong_FromLong(number)) }
}

/// An `int` that is not negative.
#[inline]
pub fn uint(py: Python<'_>, number: u64) -> PyResult<Bound<'_, PyInt>> {
    // SAFETY: the interpreter is attached.
    unsafe { new_reference(py, ffi::PyLong_FromUnsignedLongLong(number)) }
}

/// The number of an object whose class is exactly `int`. `None` if it needs more than 64 bits.
#[inline]
pub fn number_of(object: &Bound<'_, PyAny>) -> Option<i64> {
    debug_assert!(object.is_exact_instance_of::<PyInt>());
    // SAFETY: the caller says that it is an `int`.
    number_or_side(unsafe { object.cast_unchecked::<PyInt>() }).ok()
}

/// The number of an `int`. Of one that needs more than 64 bits the error says whether it is greater or less than those
/// that do not.
#[inline]
pub fn number_or_side(object: &Bound<'_, PyInt>) -> Result<i64, Ordering> {
    let mut overflow = 0;
    // SAFETY: the object is borrowed; the interpreter is attached. Of an `int` the function raises nothing.
    let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(object.as_ptr(), &mut overflow) };
    if overflow == 0 { Ok(number) } else { Err(overflow.cmp(&0)) }
}

/// The same number as an object whose class is exactly `int`. It runs no code of a derived class.
pub fn exact_int<'py>(number: &Bound<'py, PyInt>) -> PyResult<Bound<'py, PyInt>> {
    if number.is_exact_instance_of::<PyInt>() {
        return Ok(number.clone());
    }
    // SAFETY: the interpreter is attached; the object is borrowed. The function returns an exact `int`.
    unsafe { new_reference(number.py(), ffi::PyNumber_Index(number.as_ptr())) }
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
    // SAFETY: the interpreter is attached; the text has this length.
    unsafe { new_reference(py, ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as ffi::Py_ssize_t)) }
}

/// A `bytes`.
#[inline]
pub fn bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: the interpreter is attached; the bytes have this length.
    unsafe { new_reference(py, ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as ffi::Py_ssize_t)) }
}

/// A `bytes` of `len` bytes, which `fill` fills, or fails. Nobody else sees the object before.
#[inline]
pub fn bytes_with<'py>(
    py: Python<'py>,
    len: usize,
    fill: impl FnOnce(&mut CopyTarget<'_>) -> PyResult<()>,
) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: the interpreter is attached. The object's bytes may be written as long as nobody else has a reference to
    // it, and are not read before they were.
    unsafe {
        let bytes: Bound<'py, PyBytes> =
            new_reference(py, ffi::PyBytes_FromStringAndSize(std::ptr::null(), len as ffi::Py_ssize_t))?;
        fill(&mut CopyTarget::new(ffi::PyBytes_AsString(bytes.as_ptr()).cast(), len))?;
        Ok(bytes)
    }
}

/// A `bytearray` of `len` bytes, which `fill` fills, or fails. Nobody else sees the object before.
pub fn bytearray_with<'py>(
    py: Python<'py>,
    len: usize,
    fill: impl FnOnce(&mut CopyTarget<'_>) -> PyResult<()>,
) -> PyResult<Bound<'py, PyByteArray>> {
    // SAFETY: as in `bytes_with`.
    unsafe {
        let bytes: Bound<'py, PyByteArray> =
            new_reference(py, ffi::PyByteArray_FromStringAndSize(std::ptr::null(), len as ffi::Py_ssize_t))?;
        fill(&mut CopyTarget::new(ffi::PyByteArray_AsString(bytes.as_ptr()).cast(), len))?;
        Ok(bytes)
    }
}

/// An empty `dict`.
#[inline]
pub fn dict(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    // SAFETY: the interpreter is attached.
    unsafe { new_reference(py, ffi::PyDict_New()) }
}

/// Sets an item of a `dict`.
#[inline]
pub fn insert(dict: &Bound<'_, PyDict>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: the interpreter is attached; the function borrows all three.
    match unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(dict.py())),
    }
}

/// A `list` of the items of an iterator, or the iterator's first error.
pub fn list<'py>(
    py: Python<'py>,
    items: impl ExactSizeIterator<Item = PyResult<Bound<'py, PyAny>>>,
) -> PyResult<Bound<'py, PyList>> {
    let len = items.len();
    // SAFETY: the interpreter is attached. Nobody else sees the list until all of its places are filled or it is
    // dropped, and dropping a list with empty places is allowed.
    let list: Bound<'py, PyList> = unsafe { new_reference(py, ffi::PyList_New(len as ffi::Py_ssize_t))? };
    for (at, item) in items.take(len).enumerate() {
        // SAFETY: the place is empty. The function takes the reference even if it fails.
        if unsafe { ffi::PyList_SetItem(list.as_ptr(), at as ffi::Py_ssize_t, item?.into_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
    }
    debug_assert_eq!(list.len(), len);
    Ok(list)
}

/// A `tuple` of the items of an iterator, or the iterator's first error.
pub fn tuple<'py>(
    py: Python<'py>,
    items: impl ExactSizeIterator<Item = PyResult<Bound<'py, PyAny>>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let len = items.len();
    // SAFETY: as in `list`.
    let tuple: Bound<'py, PyTuple> = unsafe { new_reference(py, ffi::PyTuple_New(len as ffi::Py_ssize_t))? };
    for (at, item) in items.take(len).enumerate() {
        // SAFETY: as in `list`.
        if unsafe { ffi::PyTuple_SetItem(tuple.as_ptr(), at as ffi::Py_ssize_t, item?.into_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
    }
    Ok(tuple)
}

/// A `tuple` of the items of an iterable.
pub fn tuple_of<'py>(iterable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    // SAFETY: the interpreter is attached. The function returns an exact tuple.
    unsafe { new_reference(iterable.py(), ffi::PySequence_Tuple(iterable.as_ptr())) }
}

/// A vector of the items of an iterator, or the iterator's first error.
pub fn collect<T>(items: impl Iterator<Item = PyResult<T>>) -> PyResult<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(items.size_hint().0).map_err(|_| no_memory())?;
    for item in items {
        push(&mut all, item?)?;
    }
    Ok(all)
}

/// A place for so many items, which are `filler` at first: in `few`, on the caller's stack, or else in `many`.
#[inline(always)]
pub fn few_or_many<'a, T: Copy>(
    few: &'a mut [T],
    many: &'a mut Vec<T>,
    len: usize,
    filler: T,
) -> PyResult<&'a mut [T]> {
    fallible::few_or_many(few, many, len, filler, "").map_err(|_| no_memory())
}

/// Reserves room for so many more items in a vector.
pub fn reserve<T>(all: &mut Vec<T>, more: usize) -> PyResult<()> {
    all.try_reserve_exact(more).map_err(|_| no_memory())
}

/// Appends an item to a vector.
#[inline]
pub fn push<T>(all: &mut Vec<T>, item: T) -> PyResult<()> {
    if all.len() == all.capacity() {
        all.try_reserve(1).map_err(|_| no_memory())?;
    }
    all.push(item);
    Ok(())
}

/// The interpreter's `MemoryError`. The interpreter keeps a few instances ready; they have no text, which would need
/// memory.
#[cold]
pub fn no_memory() -> PyErr {
    // SAFETY: the interpreter is attached. The first call sets the exception that the second one takes.
    Python::attach(|py| unsafe {
        ffi::PyErr_NoMemory();
        PyErr::fetch(py)
    })
}
