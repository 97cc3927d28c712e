//! Whose module this is: the first interpreter's of the process that imported it.
//!
//! PyO3 keeps the types of a module, and we keep what we imported (`_pickle.dumps`, classes), in statics of the shared
//! library. These are objects of one interpreter: to another one, beside it or after it, they are foreign memory, or freed
//! memory. PyO3 makes sure of that for modules within modules only, and by the interpreter's number, which is 0 again after
//! the program ended Python and began anew.

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicBool, Ordering};

/// An interpreter has this library's statics. It keeps them when it ends: what they hold was its own.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Makes the module this interpreter's, or says why it cannot be. Before anything else that the module does: this uses
/// nothing but what every interpreter of a process has in common.
pub fn claim(py: Python<'_>) -> PyResult<()> {
    // SAFETY: the interpreter is attached; the dict is borrowed from it, or null without an exception.
    let dict = unsafe {
        let dict = ffi::PyInterpreterState_GetDict(ffi::PyInterpreterState_Get());
        Bound::from_borrowed_ptr_or_opt(py, dict)
    };
    let dict = dict.ok_or_else(|| PyImportError::new_err("this interpreter has no room for state of modules"))?;
    let dict = dict.cast_into::<PyDict>()?;
    // The mark goes with the interpreter. It names this library, for a copy of it elsewhere has statics of its own.
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
