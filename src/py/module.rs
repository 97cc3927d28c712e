//! Registers the classes and functions of `shmvar._core`. Each is defined in the file of its subject.

use crate::py::calls;
use crate::py::{
    buffer_views, changes, command_line, data_only, decode, displays, dump, info, inspect, interpreter, lock, numpy,
    open, php, queue, remote, segment,
};
use pyo3::prelude::*;

/// Adds functions that one of the Rust modules defines.
macro_rules! functions {
    ($module:ident, $from:ident::{$($name:ident),*}) => {
        $($module.add_function(pyo3::wrap_pyfunction!($from::$name, $module)?)?;)*
    };
}

// All classes are frozen and all state is atomic or locked, so a free-threaded interpreter need not turn its lock on.
#[doc = stub!(_core)]
#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // This must precede the first class: classes are kept in statics, which may belong to another interpreter.
    interpreter::claim(module.py())?;
    module.add_class::<changes::PyChanges>()?;
    module.add_class::<dump::PyDumpPlan>()?;
    module.add_class::<info::PyCheckReport>()?;
    module.add_class::<info::PySegmentInfo>()?;
    module.add_class::<info::PyVariableInfo>()?;
    module.add_class::<lock::PyLock>()?;
    module.add_class::<queue::PyQueue>()?;
    module.add_class::<queue::PyTakenItem>()?;
    module.add_class::<segment::PySegment>()?;
    buffer_views::prepare(module.py());
    // Without it the first array takes a little longer.
    let _ = numpy::prepare(module.py());
    functions!(module, info::{_check_report, _segment_info, _variable_info});
    functions!(module, open::{_reattach, attach, destroy, exists, ftok, segments});
    functions!(module, data_only::{_decode_data_only});
    functions!(module, decode::{_decode_containers});
    functions!(module, command_line::{_get_pickle, _pickle_fault, _put_pickle, _remove_stale, _repair});
    functions!(module, displays::{_activity, _first, _memory});
    functions!(module, dump::{_dump, _dump_plan, _dump_values, _load_variables, _put_item, _value_in_band});
    functions!(module, inspect::{_survey});
    functions!(module, remote::{_buffers_of, _decode_apart, _decode_value, _encode_parts, _encode_value, _unfilled});
    functions!(module, remote::{_value_pickle, _value_type});
    functions!(module, php::{_php_members});
    functions!(module, queue::{_queue});
    functions!(module, segment::{_look});
    // Every read runs with the interpreter attached. Where the interpreter has a lock, only one thread at a time reads.
    // A build that may run without the lock has `t` in its `abiflags`, whether the lock is on now or not.
    let flags: String = calls::attribute(module.py(), c"sys", c"abiflags")?.extract()?;
    if !flags.contains('t') {
        crate::atomic::assume_serialized_calls();
    }
    if calls::attribute(module.py(), c"sys", c"flags")?.getattr("bytes_warning")?.is_truthy()? {
        decode::leave_all();
    }
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
