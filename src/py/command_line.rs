//! For the command-line program: values as they are stored, and repairs. Nothing here is public API.

use crate::codec::opcode;
use crate::py::convert;
use crate::py::create;
use crate::py::errors;
use crate::py::segment::PySegment;
use crate::py::wait::PyWait;
use crate::variables::AsVariables;
use crate::variables::change::Condition;
use crate::variables::expiry::expires_after;
use crate::variables::stored::{Layout, Stored};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The pickle of a variable, with its buffers inside the pickle. `None` if the variable is missing.
#[pyfunction]
pub fn _get_pickle<'py>(
    segment: &Bound<'py, PySegment>,
    index: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let inner = segment.get().inner();
    let policy = PyWait::new(segment.py(), inner.key());
    let found = inner.get_pickle(&convert::index(index)?, &policy);
    let found = found.map_err(|error| policy.error(error))?;
    found.map(|pickle| create::bytes(segment.py(), &pickle)).transpose()
}

/// Stores bytes as the pickle of a variable, with `ttl` seconds to live. Fails if they are not one whole pickle.
#[pyfunction]
#[pyo3(signature = (segment, index, pickle, ttl = None))]
pub fn _put_pickle(
    segment: &Bound<'_, PySegment>,
    index: &Bound<'_, PyAny>,
    pickle: &[u8],
    ttl: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    if let Some(why) = _pickle_fault(pickle) {
        return Err(errors::builtin::<PyValueError>(why));
    }
    let inner = segment.get().inner();
    let policy = PyWait::new(segment.py(), inner.key());
    let (index, expiry) = (convert::index(index)?, convert::ttl(ttl)?.map(expires_after));
    let stored = Stored { parts: &[pickle], layout: Layout::Pickle, expiry };
    let put = inner.for_change().and_then(|att| att.variables().put(&index, stored, Condition::Always, &policy));
    put.map(drop).map_err(|error| policy.error_at(&index, error))
}

/// Why these bytes are not one whole pickle without buffers beside it. `None` if they are one.
#[pyfunction]
pub fn _pickle_fault(pickle: &[u8]) -> Option<String> {
    opcode::check_one_pickle(pickle).err().map(|error| error.to_string())
}

/// Repairs what dead processes left in a segment. Returns how many processes were reaped.
#[pyfunction]
pub fn _repair(segment: &Bound<'_, PySegment>) -> PyResult<u64> {
    let inner = segment.get().inner();
    let policy = PyWait::new(segment.py(), inner.key());
    inner.repair(&policy).map_err(|error| policy.error(error))
}

/// Removes an object that is stale and at least `age` seconds old; with `look` it only checks. Returns `None` if the
/// object was (or would be) removed, else a code and a text that say why it stays.
#[pyfunction]
pub fn _remove_stale(
    py: Python<'_>,
    name: &str,
    age: f64,
    look: bool,
) -> PyResult<Option<(&'static str, &'static str)>> {
    let age = (age * 1e9) as u64;
    let stays =
        py.detach(|| crate::segment::remove_stale(name, age, look)).map_err(|error| errors::to_py(py, error))?;
    Ok(stays.map(|stays| (stays.code(), stays.text())))
}
