//! What `shmvar._core` consists of: its classes and functions.

use crate::py::{command_line, data_only, info, inspect, interpreter, lock, open, segment};
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
    functions!(module, data_only::{_decode_data_only});
    functions!(module, command_line::{_get_pickle, _pickle_fault, _put_pickle, _remove_stale, _repair});
    functions!(module, inspect::{_survey});
    // Every read is made with the interpreter attached: where it has a lock, by one thread at a time. A build that may be
    // without one says so by its name, whether it has one now or not.
    let flags: String = module.py().import("sys")?.getattr("abiflags")?.extract()?;
    if !flags.contains('t') {
        crate::atomic::calls_come_one_at_a_time();
    }
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
