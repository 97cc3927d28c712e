//! Unpickles built-in containers and scalars without the unpickler.
//!
//! It reads what `codec::writer` writes, and what CPython's pickler writes for the same values in protocols 2 to 5.
//! Whatever else it meets, damage included, ends the attempt: the unpickler then reads the pickle from its start and
//! says what is wrong with it. So the opcodes are not checked more strictly than memory safety asks for.
//!
//! | file | what |
//! | --- | --- |
//! | `run`, `cursor` | the loop over the opcodes |
//! | `machine`, `stop` | what each opcode does; why an attempt ends early |
//! | `object_stack` | the references on the stack |
//! | `dict_template`, `key_cache` | dicts with the same keys, and texts that were keys |
//! | `workspace` | what one decoding leaves to the next |

mod cursor;
mod dict_template;
mod key_cache;
mod machine;
mod object_stack;
mod run;
mod stop;
mod workspace;

use crate::atomic::calls_are_serialized;
use crate::py::collector::CollectorPaused;
use crate::py::create;
use machine::Machine;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use stop::Stop;
use workspace::workspace;

/// Whether comparing a str with bytes is a warning (`python -b`), which may run Python code. They have the same hash,
/// so a dict or set with both compares them.
static COMPARING_WARNS: AtomicBool = AtomicBool::new(false);

/// Leaves every pickle to the unpickler from now on, because comparing a str with bytes is a warning.
pub fn leave_all() {
    COMPARING_WARNS.store(true, Ordering::Relaxed);
}

/// The value of a pickle. `None` if it is left to the unpickler.
pub fn containers<'py>(py: Python<'py>, pickle: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    if COMPARING_WARNS.load(Ordering::Relaxed) {
        return Ok(None);
    }
    // Without the interpreter's lock, the collector starts only where Python code runs, so not in here.
    let _paused = calls_are_serialized().then(|| CollectorPaused::new(py));
    let mut workspace = workspace();
    let vectors = workspace.as_mut().map(|workspace| workspace.take()).unwrap_or_default();
    let mut machine = Machine::new(py, vectors, workspace.as_deref_mut());
    let value = machine.run(pickle);
    let vectors = machine.into_vectors();
    if let Some(workspace) = &mut workspace {
        workspace.give_back(vectors);
    }
    match value {
        Ok(value) => Ok(Some(value)),
        Err(Stop::NotOurs) => Ok(None),
        Err(Stop::NoMemory) => Err(create::no_memory()),
    }
}

/// For tests: the value of a pickle, as a tuple of it alone, or `None` if it is left to the unpickler.
#[pyfunction]
pub fn _decode_containers<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Option<(Bound<'py, PyAny>,)>> {
    Ok(containers(py, data)?.map(|value| (value,)))
}
