//! `php.loads`.

use super::options::{LoadOptions, arrays_are_dicts, strings_are_bytes};
use super::value::value;
use crate::php::serialize::Limits;
use crate::py::errors;
use crate::py::php::arguments::Limit;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

#[doc = stub!(php.loads)]
#[pyfunction]
#[pyo3(
    signature = (
        data, *, strings=None, arrays=None, max_depth=Limit::Usual(4096), max_values=Limit::Usual(10_000_000),
        max_memory=Limit::Usual(1 << 30)
    ),
    text_signature = "(data, *, strings='auto', arrays='auto', max_depth=4096, max_values=10000000, \
        max_memory=1073741824)"
)]
pub fn loads(
    data: &Bound<'_, PyAny>,
    strings: Option<&Bound<'_, PyAny>>,
    arrays: Option<&Bound<'_, PyAny>>,
    max_depth: Limit<'_>,
    max_values: Limit<'_>,
    max_memory: Limit<'_>,
) -> PyResult<Py<PyAny>> {
    let py = data.py();
    let options = LoadOptions {
        bytes: strings.map(strings_are_bytes).transpose()?.unwrap_or(false),
        dicts: arrays.map(arrays_are_dicts).transpose()?.unwrap_or(false),
        limits: Limits {
            depth: max_depth.number("max_depth", u64::MAX)? as usize,
            values: max_values.number("max_values", u64::MAX)?,
        },
        max_memory: max_memory.number("max_memory", u64::MAX)?,
    };
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return value(py, bytes.as_bytes(), &options).map_err(|error| error.into_py(py));
    }
    if data.is_instance_of::<PyString>() {
        let text = "loads takes bytes, not str: the lengths in a text count bytes. Remedy: text.encode()";
        return Err(errors::builtin::<PyTypeError>(text));
    }
    let buffer = PyBuffer::<u8>::get(data)?;
    // A copy, because other code may change the buffer while values are built.
    let text = buffer.to_vec(py)?;
    value(py, &text, &options).map_err(|error| error.into_py(py))
}
