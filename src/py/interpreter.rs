//! Allows the module in one interpreter of a process: the first one that imports it.
//!
//! PyO3 keeps the types of a module in statics of the shared library, and this crate keeps there what it imported
//! (`_pickle.dumps`, classes). These are objects of one interpreter. To another interpreter, beside it or after it,
//! they are foreign or freed memory. PyO3 checks this only for modules within modules, and by the interpreter's number.
//! That number is 0 again after a program has ended Python and started it anew.

use crate::os::thread_exit;
use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicBool, Ordering};

/// An interpreter owns this library's statics. It stays their owner when it ends, because they hold its objects.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Called before a call runs code of Python: the thread may lose the interpreter's lock there, and not get it again.
///
/// Before version 3.14 CPython ends a daemon thread with `pthread_exit` when it would get the lock after the program's
/// last line. In the middle of a call of this crate that would abort the process. So the thread stands still, as all of
/// CPython's own have done since 3.14.
#[inline]
pub fn python_code_follows() {
    thread_exit::stand_still_instead(is_finalizing);
}

/// Whether the interpreter has ended, or is about to. It needs no lock.
fn is_finalizing() -> bool {
    // SAFETY: it may be called at any time, by any thread.
    unsafe { ffi::Py_IsInitialized() == 0 }
}

/// Claims the module for this interpreter, or fails with the reason. It must be called before anything else in the
/// module: it uses only what all interpreters of a process share.
#[allow(clippy::disallowed_methods, reason = "the thread that imports the module has nothing to lose yet")]
pub fn claim(py: Python<'_>) -> PyResult<()> {
    // SAFETY: the interpreter is attached. The call returns a dict that is borrowed from it, or null without an
    // exception.
    let dict = unsafe {
        let dict = ffi::PyInterpreterState_GetDict(ffi::PyInterpreterState_Get());
        Bound::from_borrowed_ptr_or_opt(py, dict)
    };
    let dict = dict.ok_or_else(|| PyImportError::new_err("this interpreter has no room for state of modules"))?;
    let dict = dict.cast_into::<PyDict>()?;
    // The mark disappears with the interpreter. It contains an address of this library, because another copy of the
    // library has statics of its own.
    let mark = format!("shmvar._core at {:p}", &TAKEN);
    if dict.contains(&mark)? {
        return Ok(());
    }
    dict.set_item(&mark, true)?;
    if TAKEN.swap(true, Ordering::AcqRel) {
        dict.del_item(&mark)?;
        let text = py.import("shmvar._errors")?.getattr("ANOTHER_INTERPRETER")?;
        return Err(PyImportError::new_err(text.unbind()));
    }
    Ok(())
}
