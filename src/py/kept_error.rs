//! Keeps the exception that is on its way, while something else runs.

use pyo3::ffi;
use pyo3::prelude::*;
use std::marker::PhantomData;
use std::ptr;

/// The exception that was set when this was made, or none. It is set again when this is dropped.
///
/// What runs when an object goes (`Drop`, which Python calls while it unwinds) must neither find an exception, for a call
/// with one set is undefined, nor clear it. `PyErr::take` is no way to keep it: it panics with a `PanicException`.
pub struct KeptError<'py> {
    class: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    traceback: *mut ffi::PyObject,
    _attached: PhantomData<Python<'py>>,
}

impl<'py> KeptError<'py> {
    /// Takes the exception that is set.
    pub fn new(_: Python<'py>) -> Self {
        let (mut class, mut value, mut traceback) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: the interpreter is attached; the three places take references, or null.
        unsafe { ffi::PyErr_Fetch(&mut class, &mut value, &mut traceback) };
        KeptError { class, value, traceback, _attached: PhantomData }
    }
}

impl Drop for KeptError<'_> {
    fn drop(&mut self) {
        // SAFETY: the interpreter is attached, as the lifetime says; the function takes the three references over, which
        // nobody else has. Null for the class clears what is set meanwhile.
        unsafe { ffi::PyErr_Restore(self.class, self.value, self.traceback) };
    }
}
