//! Why a walk through a value ends early, and the exceptions.

use crate::php::serialize::Unwritten;
use crate::py::calls;
use crate::py::create;
use pyo3::prelude::*;

/// Why a walk ends early.
pub(super) enum Stop {
    /// PHP cannot hold what stands at the place of the walk: why, and what to do.
    Refused(String),
    /// The same, of the container around that place.
    RefusedAround(String),
    /// An exception of the interpreter.
    Raised(PyErr),
    /// The text would be too long.
    TooLong,
    /// There is no memory.
    NoMemory,
}

impl From<Unwritten> for Stop {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::TooLong => Stop::TooLong,
            Unwritten::NoMemory => Stop::NoMemory,
        }
    }
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Stop::Raised(error)
    }
}

/// `php.SerializeError` for what stands at a place.
#[cold]
pub(super) fn refused(py: Python<'_>, place: &str, why: &str) -> PyErr {
    let class = calls::attribute(py, c"shmvar.php._errors", c"SerializeError");
    let error = class.and_then(|class| {
        let text = create::text(py, &format!("{place}: {why}"))?.into_any();
        calls::call(&class, [text, create::text(py, place)?.into_any()], None)
    });
    error.map_or_else(|error| error, PyErr::from_value)
}
