//! Indexes from Python objects.

use crate::py::convert;
use crate::py::create;
use crate::py::errors;
use crate::py::php::arguments::class_of;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyInt;

/// An index.
#[inline]
pub fn index_of(object: &Bound<'_, PyAny>) -> PyResult<i64> {
    if object.is_exact_instance_of::<PyInt>() {
        if let Some(number) = create::number_of(object) {
            return Ok(number);
        }
    }
    convert::integer(object, "index")?.ok_or_else(|| wrong_index(object))
}

#[cold]
fn wrong_index(object: &Bound<'_, PyAny>) -> PyErr {
    errors::builtin::<PyTypeError>(format!("an index of PHP's segments must be an int, not {}", class_of(object)))
}
