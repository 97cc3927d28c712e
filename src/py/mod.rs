//! The extension module `shmvar._core`: thin classes over [`crate::segment`].

// `stub!`: the docstrings of `_core.pyi`, made by `build.rs`. Before the modules, which use it.
include!(concat!(env!("OUT_DIR"), "/stub.rs"));

mod convert;
#[allow(unsafe_code, reason = "the interpreter's C interface for scalars")]
mod decode;
#[allow(unsafe_code, reason = "the interpreter's C interface for scalars and buffers")]
mod encode;
mod errors;
mod green;
mod info;
mod inspect;
#[allow(unsafe_code, reason = "the interpreter's own dict")]
mod interpreter;
mod lock;
#[allow(unsafe_code, reason = "the interpreter's C interface for what may fail")]
mod made;
#[allow(unsafe_code, reason = "the buffer protocol")]
mod memory;
#[allow(unsafe_code, reason = "numpy's binary interface")]
mod numpy;
mod open;
mod plain;
mod raw;
#[allow(unsafe_code, reason = "the buffer protocol, and a look at classes")]
mod reducers;
#[allow(unsafe_code, reason = "an allocator")]
mod reserve;
#[allow(unsafe_code, reason = "the C interface for a look at buffers, and a search")]
mod sealed;
mod segment;
mod together;
mod wait;

#[cfg(fuzzing)]
pub use plain::fuzz_plain;

use pyo3::prelude::*;

/// Adds functions of one of the modules here.
macro_rules! functions {
    ($module:ident, $from:ident::{$($name:ident),*}) => {
        $($module.add_function(pyo3::wrap_pyfunction!($from::$name, $module)?)?;)*
    };
}

// Its classes are frozen and its state atomic or locked: a free-threaded interpreter stays so.
#[doc = stub!(_core)]
#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Before the first class: those are kept in statics, and may be of another interpreter.
    interpreter::claim(module.py())?;
    module.add_class::<info::PyCheckReport>()?;
    module.add_class::<info::PySegmentInfo>()?;
    module.add_class::<info::PyVariableInfo>()?;
    module.add_class::<lock::PyLock>()?;
    module.add_class::<segment::PySegment>()?;
    functions!(module, info::{_check_report, _segment_info, _variable_info});
    functions!(module, open::{_reattach, attach, destroy, exists, ftok, segments});
    functions!(module, plain::{_decode_data_only});
    functions!(module, raw::{_get_pickle, _pickle_fault, _put_pickle, _remove_stale, _repair});
    functions!(module, inspect::{_survey});
    // Every read is made with the interpreter attached: where it has a lock, by one thread at a time. A build that may be
    // without one says so by its name, whether it has one now or not.
    let flags: String = module.py().import("sys")?.getattr("abiflags")?.extract()?;
    if !flags.contains('t') {
        crate::atomic::assume_serialized_calls();
    }
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
