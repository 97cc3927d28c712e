//! A quick look into a value: may there be an array in it that numpy would copy into the pickle?

use super::imported::Numpy;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyFrozenSet, PySet};

/// So many items of builtin containers are looked at; whatever has more may hold arrays. To pickle these takes long enough.
const LOOKS: usize = 64;
/// Containers inside each other.
const DEEPEST: usize = 8;

/// Is there, or may there be, an array in the value that numpy would copy into the pickle? A quick look: false only where
/// it is certain.
#[inline]
pub fn may_hold_arrays(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    // Before it is known whether there is numpy: to see that takes longer.
    let known = Numpy::known_by_now(value.py());
    if is_free_of_arrays(known, value, &mut { LOOKS }, DEEPEST) {
        return Ok(false);
    }
    let Some(numpy) = Numpy::get(value.py())? else { return Ok(false) };
    Ok(known.is_some() || !is_free_of_arrays(Some(numpy), value, &mut { LOOKS }, DEEPEST))
}

/// Is it one of the builtin scalars, by the address of its class?
///
/// # Safety
/// An object, borrowed.
#[inline(always)]
unsafe fn is_scalar(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller's. The most frequent ones come first.
    let class = unsafe { ffi::Py_TYPE(object) };
    let same = |scalar: *mut ffi::PyTypeObject| class == scalar;
    same(&raw mut ffi::PyUnicode_Type)
        || same(&raw mut ffi::PyLong_Type)
        || same(&raw mut ffi::PyFloat_Type)
        || same(&raw mut ffi::PyBool_Type)
        || same(&raw mut ffi::PyBytes_Type)
        || same(&raw mut ffi::PyByteArray_Type)
}

/// Of builtin containers, scalars and arrays whose memory numpy hands over, as far as there were looks.
fn is_free_of_arrays(numpy: Option<&Numpy>, value: &Bound<'_, PyAny>, looks: &mut usize, deep: usize) -> bool {
    let py = value.py();
    let object = value.as_ptr();
    // SAFETY: an object, borrowed.
    let class = unsafe { ffi::Py_TYPE(object) };
    let mut each = |item: *mut ffi::PyObject| {
        *looks = looks.saturating_sub(1);
        // SAFETY: borrowed from a container that nobody changes meanwhile.
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
            // SAFETY: a dict, which stays as it is: nothing in the loop runs code, and other threads wait. No array is
            // a key, nor in one but by way of a class that hashes it by its address.
            while unsafe { ffi::PyDict_Next(object, &mut at, &mut key, &mut item) } != 0 {
                if !each(item) {
                    return false;
                }
            }
            true
        })
    } else if class == &raw mut ffi::PyList_Type {
        with_critical_section(value, || {
            // SAFETY: a list, which stays as it is, as above.
            unsafe { (0..ffi::PyList_Size(object)).all(|at| each(ffi::PyList_GetItem(object, at))) }
        })
    } else if class == &raw mut ffi::PyTuple_Type {
        // SAFETY: a tuple, which does not change.
        unsafe { (0..ffi::PyTuple_Size(object)).all(|at| each(ffi::PyTuple_GetItem(object, at))) }
    } else {
        // SAFETY: an object, borrowed.
        value.is_none()
            || unsafe { is_scalar(object) }
            || numpy.is_some_and(|numpy| is_free_of_arrays_otherwise(numpy, value))
    }
}

#[cold]
#[inline(never)]
fn is_free_of_arrays_otherwise(numpy: &Numpy, value: &Bound<'_, PyAny>) -> bool {
    let class = value.get_type();
    if class.is(&numpy.ndarray) {
        return numpy.gives_memory(value).unwrap_or(false);
    }
    // What is in a set can be hashed, as a key can.
    value.is_exact_instance_of::<PySet>()
        || value.is_exact_instance_of::<PyFrozenSet>()
        || numpy.single.iter().any(|single| class.is(single))
        || class.is_subclass(numpy.generic.bind(value.py())).unwrap_or(false)
}
