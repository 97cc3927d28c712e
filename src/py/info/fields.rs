//! What the three classes have in common: as a dict, as a text, and pickled.

use crate::py::create;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

pub const NANO: f64 = 1e-9;

/// What `__reduce__` returns.
pub type Reduced<'py> = (Bound<'py, PyAny>, Bound<'py, PyTuple>);

/// Made again by a function of the module, from the numbers as they are kept: those that Python sees are rounded.
pub fn again<'py>(
    py: Python<'py>,
    function: &str,
    arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
) -> PyResult<Reduced<'py>> {
    Ok((py.import("shmvar._core")?.getattr(function)?, arguments.into_pyobject(py)?))
}

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

pub fn shown(class: &str, fields: &Bound<'_, PyDict>) -> PyResult<String> {
    let mut parts = Vec::new();
    for (name, value) in fields {
        create::push(&mut parts, format!("{name}={}", value.repr()?.to_string_lossy()))?;
    }
    Ok(format!("{class}({})", parts.join(", ")))
}
