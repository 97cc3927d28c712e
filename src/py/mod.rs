//! The extension module `shmvar._core`: thin classes over [`crate::segment`].

// `stub!`: the docstrings of `_core.pyi`, made by `build.rs`. Before the modules, which use it.
include!(concat!(env!("OUT_DIR"), "/stub.rs"));

mod convert;
#[allow(unsafe_code, reason = "the interpreter's C interface for scalars")]
mod decode;
#[allow(unsafe_code, reason = "the interpreter's C interface for scalars and buffers")]
mod encode;
mod errors;
mod info;
mod lock;
#[allow(unsafe_code, reason = "the buffer protocol")]
mod memory;
mod open;
mod patience;
mod plain;
mod raw;
#[allow(unsafe_code, reason = "the C interface for a look at buffers, and a search")]
mod sealed;
mod segment;
mod survey;
mod together;

#[cfg(fuzzing)]
pub use plain::fuzz_plain;

use pyo3::prelude::*;

// Its classes are frozen and its state atomic or locked: a free-threaded interpreter stays so.
#[doc = stub!(_core)]
#[pymodule(gil_used = false)]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::info::{_check_report, _segment_info, _variable_info, PyCheckReport, PySegmentInfo, PyVariableInfo};
    #[pymodule_export]
    use super::lock::PyLock;
    #[pymodule_export]
    use super::open::{_reattach, attach, destroy, exists, ftok, segments};
    #[pymodule_export]
    use super::plain::_decode_plain;
    #[pymodule_export]
    use super::raw::{_get_pickle, _pickle_fault, _put_pickle, _remove_stale, _repair};
    #[pymodule_export]
    use super::segment::PySegment;
    #[pymodule_export]
    use super::survey::_survey;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // Every read is made with the interpreter attached: where it has a lock, by one thread at a time. A build that may be
        // without one says so by its name, whether it has one now or not.
        let flags: String = module.py().import("sys")?.getattr("abiflags")?.extract()?;
        if !flags.contains('t') {
            crate::sync::calls_come_one_at_a_time();
        }
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
