//! Reads, stores and removes one variable. What depends on the old value is in `atomic_ops` and `mapping`.

use crate::key::Index;
use crate::py::convert;
use crate::py::decode;
use crate::py::encode::{self, Encoded};
use crate::py::errors;
use crate::py::read_mode::ReadMode;
use crate::py::wait::PyWait;
use crate::segment::Segment;
use crate::variables::AsVariables;
use crate::variables::change::Condition;
use crate::variables::stored::Stored;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;

/// A variable's value and version. `None` if the variable is missing.
#[inline(always)]
pub fn read(segment: &Segment, index: &Bound<'_, PyAny>, mode: ReadMode) -> PyResult<Option<(Py<PyAny>, u64)>> {
    let py = index.py();
    decode::read(&PyWait::new(py, segment.key()), py, segment, &convert::index(index)?, mode)
}

/// The same for a look at all variables, which is no use of any ("Eviction" in docs/protocol.md).
pub fn look(segment: &Segment, index: &Bound<'_, PyAny>) -> PyResult<Option<(Py<PyAny>, u64)>> {
    let py = index.py();
    decode::look(&PyWait::new(py, segment.key()), py, segment, &convert::index(index)?)
}

/// Stores a value if a condition holds; `expiry` is asked when the value is about to be stored. Returns the new version, or `None` if the condition does not hold.
pub fn store(
    segment: &Segment,
    index: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    condition: Condition,
    expiry: impl FnOnce() -> Option<u64>,
) -> PyResult<Option<u64>> {
    let py = index.py();
    let name = convert::index(index)?;
    segment.for_change().map_err(|error| errors::of_segment(py, segment.key(), error))?;
    // Encoding runs user code, which may even detach this handle. It is therefore looked at again afterwards.
    let encoded = encode::encode(value)?;
    store_encoded(py, segment, &name, &encoded, condition, expiry())
}

/// The same for a value that was encoded before.
#[inline]
pub fn store_encoded(
    py: Python<'_>,
    segment: &Segment,
    name: &Index<'_>,
    encoded: &Encoded<'_, '_>,
    condition: Condition,
    expiry: Option<u64>,
) -> PyResult<Option<u64>> {
    let policy = PyWait::new(py, segment.key());
    let att = segment.for_change().map_err(|error| errors::of_segment(py, segment.key(), error))?;
    encoded
        .with(|stored| {
            att.variables().put_from(name, Stored { expiry, ..stored }, encoded.source(), condition, &policy)
        })
        .map_err(|error| policy.error_at(name, error))
}

/// Removes a variable if a condition holds. Returns whether it was removed.
pub fn remove(segment: &Segment, index: &Bound<'_, PyAny>, condition: Condition) -> PyResult<bool> {
    let policy = PyWait::new(index.py(), segment.key());
    let name = convert::index(index)?;
    let removed = segment.for_change().and_then(|att| att.variables().remove(&name, condition, &policy));
    removed.map_err(|error| policy.error_at(&name, error))
}

/// `KeyError` for a variable that is missing.
#[cold]
pub fn missing(index: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err(index.clone().unbind())
}
