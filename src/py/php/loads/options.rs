//! What the caller of `loads` may choose.

use crate::php::serialize::Limits;
use crate::py::errors;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

/// What values a text becomes, and the most that it may ask for.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Every string is `bytes`, and not only what is no UTF-8.
    pub bytes: bool,
    /// Every array is a `dict`, and not only what is no list.
    pub dicts: bool,
    /// Nesting and number of values.
    pub limits: Limits,
    /// Bytes of Python objects.
    pub max_memory: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            bytes: false,
            dicts: false,
            limits: Limits { depth: 4096, values: 10_000_000 },
            max_memory: 1 << 30,
        }
    }
}

/// The argument `strings`: whether every string is `bytes`.
pub fn strings_are_bytes(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    choice(value, "strings", "bytes")
}

/// The argument `arrays`: whether every array is a `dict`.
pub fn arrays_are_dicts(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    choice(value, "arrays", "dict")
}

/// Whether an argument is `other` and not `"auto"`.
fn choice(value: &Bound<'_, PyAny>, name: &str, other: &str) -> PyResult<bool> {
    let must = format!("{name} must be \"auto\" or \"{other}\"");
    let Ok(text) = value.cast::<PyString>() else {
        let class = value.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
        return Err(errors::builtin::<PyTypeError>(format!("{must}, not {class}")));
    };
    match text.to_str() {
        Ok("auto") => Ok(false),
        Ok(text) if text == other => Ok(true),
        Ok(text) => {
            let shown: String = text.chars().take(40).collect();
            Err(errors::builtin::<PyValueError>(format!("{must}, not {shown:?}")))
        }
        Err(_) => Err(errors::builtin::<PyValueError>(must)),
    }
}
