//! What the three classes share: their forms as a dict, as a text, and as a pickle.

use crate::py::calls;
use crate::py::create;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::ffi::CStr;

/// Seconds in a nanosecond.
pub const NANO: f64 = 1e-9;

/// What `__reduce__` returns.
pub type Reduced<'py> = (Bound<'py, PyAny>, Bound<'py, PyTuple>);

/// How an object is pickled: by a function of the module, called with the numbers as they are kept. The numbers that
/// Python sees are rounded.
pub fn reduce<'py>(
    py: Python<'py>,
    function: &CStr,
    arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
) -> PyResult<Reduced<'py>> {
    Ok((calls::attribute(py, c"shmvar._core", function)?, arguments.into_pyobject(py)?))
}

/// The attributes of these names, as a dict.
pub fn fields<'py, 'a>(
    object: &Bound<'py, PyAny>,
    names: impl Iterator<Item = &'a &'a str>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = create::dict(object.py())?;
    for name in names {
        dict.set_item(name, object.getattr(*name)?)?;
    }
    Ok(dict)
}

/// The `repr` of an object with these fields.
pub fn repr(class: &str, fields: &Bound<'_, PyDict>) -> PyResult<String> {
    let mut parts = Vec::new();
    for (name, value) in fields {
        create::push(&mut parts, format!("{name}={}", value.repr()?.to_string_lossy()))?;
    }
    Ok(format!("{class}({})", parts.join(", ")))
}
