//! Checks quickly whether a value may hold an array that numpy would copy into the pickle.
//!
//! The check must cost little next to pickling a small dict, so it gives up early and then says "maybe".

use super::imported::Numpy;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyFrozenSet, PySet};

/// Number of items that are looked at. A value with more items may hold arrays; to pickle it takes long anyway.
const LOOKS: usize = 64;
/// Number of containers inside each other that are looked into.
const DEEPEST: usize = 8;

/// Whether the value may hold an array that numpy would copy into the pickle. `false` only if it is certain that it
/// does not.
#[inline]
pub fn may_hold_arrays(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    // This comes before the check whether numpy is imported, which takes longer.
    let fetched = Numpy::if_fetched(value.py());
    if is_free_of_arrays(fetched, value, &mut { LOOKS }, DEEPEST) {
        return Ok(false);
    }
    let Some(numpy) = Numpy::get(value.py())? else { return Ok(false) };
    Ok(fetched.is_some() || !is_free_of_arrays(Some(numpy), value, &mut { LOOKS }, DEEPEST))
}

/// Whether it is one of the built-in scalars, by the address of its class.
///
/// # Safety
/// `object` is a valid object.
#[inline(always)]
unsafe fn is_scalar(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller says that it is an object. The most frequent classes come first.
    let class = unsafe { ffi::Py_TYPE(object) };
    let same = |scalar: *mut ffi::PyTypeObject| class == scalar;
    same(&raw mut ffi::PyUnicode_Type)
        || same(&raw mut ffi::PyLong_Type)
        || same(&raw mut ffi::PyFloat_Type)
        || same(&raw mut ffi::PyBool_Type)
        || same(&raw mut ffi::PyBytes_Type)
        || same(&raw mut ffi::PyByteArray_Type)
}

/// Whether the value consists only of built-in containers, scalars, and arrays whose memory numpy hands over. `false`
/// also if there were no looks left, or the containers are too deep inside each other.
fn is_free_of_arrays(numpy: Option<&Numpy>, value: &Bound<'_, PyAny>, looks: &mut usize, deep: usize) -> bool {
    let py = value.py();
    let object = value.as_ptr();
    // SAFETY: the object is borrowed.
    let class = unsafe { ffi::Py_TYPE(object) };
    let mut each = |item: *mut ffi::PyObject| {
        *looks = looks.saturating_sub(1);
        // SAFETY: the item was borrowed from a container that did not change since; from here on it is owned.
        unsafe {
            *looks > 0
                && (is_scalar(item) || is_free_of_arrays(numpy, &Bound::from_borrowed_ptr(py, item), looks, deep - 1))
        }
    };
    if deep == 0 {
        false
    } else if class == &raw mut ffi::PyDict_Type {
        with_critical_section(value, || {
            let (mut at, mut key, mut item) = (0, std::ptr::null_mut(), std::ptr::null_mut());
            // SAFETY: it is a dict that does not change while this asks for its next item. It may change while a look
            // at an item waits for another container, whose lock is then held instead of this one; `at` fits any dict.
            // Keys need no look: no array is a key, nor in one, unless a class hashes it by its address.
            while unsafe { ffi::PyDict_Next(object, &mut at, &mut key, &mut item) } != 0 {
                if !each(item) {
                    return false;
                }
            }
            true
        })
    } else if class == &raw mut ffi::PyList_Type {
        with_critical_section(value, || {
            let mut at = 0;
            // SAFETY: it is a list that may become shorter during a look at an item, as the dict above. So its length
            // is read each time.
            unsafe {
                while at < ffi::PyList_Size(object) {
                    if !each(ffi::PyList_GetItem(object, at)) {
                        return false;
                    }
                    at += 1;
                }
                true
            }
        })
    } else if class == &raw mut ffi::PyTuple_Type {
        // SAFETY: it is a tuple, which never changes.
        unsafe { (0..ffi::PyTuple_Size(object)).all(|at| each(ffi::PyTuple_GetItem(object, at))) }
    } else {
        // SAFETY: the object is borrowed.
        value.is_none() || unsafe { is_scalar(object) } || numpy.is_some_and(|numpy| is_array_free_other(numpy, value))
    }
}

/// The same for values of other classes.
#[cold]
#[inline(never)]
fn is_array_free_other(numpy: &Numpy, value: &Bound<'_, PyAny>) -> bool {
    let class = value.get_type();
    if class.is(&numpy.ndarray) {
        return numpy.gives_memory(value).unwrap_or(false);
    }
    // Members of a set can be hashed, so they hold no arrays, as keys of a dict.
    value.is_exact_instance_of::<PySet>()
        || value.is_exact_instance_of::<PyFrozenSet>()
        || numpy.leaf_classes.iter().any(|single| class.is(single))
        || class.is_subclass(numpy.generic.bind(value.py())).unwrap_or(false)
}
