//! From the UTF-8 of a pickle to a str.

use pyo3::ffi;
use pyo3::prelude::*;

/// The str of a text: UTF-8, with lone surrogates as CPython's pickler writes them. It is a new reference, or null with
/// an exception set.
#[inline(always)]
pub fn new_text(_py: Python<'_>, text: &[u8]) -> *mut ffi::PyObject {
    let (at, len) = (text.as_ptr().cast(), text.len() as ffi::Py_ssize_t);
    // SAFETY: the text has this length; the name ends with 0.
    unsafe { ffi::PyUnicode_DecodeUTF8(at, len, c"surrogatepass".as_ptr()) }
}
