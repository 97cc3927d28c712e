//! Numbers of other classes than `int` and `float`, and what to do with what PHP does not have.

use super::stop::Stop;
use crate::py::errors;
use crate::py::numpy::{is_bool, python_number};
use pyo3::prelude::*;
use pyo3::types::PyInt;

/// The `int`, `float` or `bool` of Python that equals a number of another class. `None` for what is no number.
#[cold]
pub(super) fn number<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let class = object.get_type();
    if is_bool(object)? {
        return Ok(Some(object.is_truthy()?.into_pyobject(object.py())?.to_owned().into_any()));
    }
    if module_of(object)? == "numpy" {
        return match &class.name()?.to_string()[..] {
            // It has more digits than a float.
            "longdouble" | "ndarray" => Ok(None),
            _ => python_number(object),
        };
    }
    if !class.hasattr("__index__")? {
        return Ok(None);
    }
    let number = object.call_method0("__index__")?;
    Ok(number.is_instance_of::<PyInt>().then_some(number))
}

fn module_of(object: &Bound<'_, PyAny>) -> PyResult<String> {
    let module = errors::unless_exception(object.py(), object.get_type().module())?;
    Ok(module.map_or_else(String::new, |module| module.to_string_lossy().into_owned()))
}

/// Why an object is refused, and what to write instead.
#[cold]
pub(super) fn refusal(object: &Bound<'_, PyAny>) -> Stop {
    why_refused(object).map_or_else(Stop::Raised, Stop::Refused)
}

fn why_refused(object: &Bound<'_, PyAny>) -> PyResult<String> {
    let class = object.get_type();
    let name = class.name().map_or_else(|_| "?".into(), |name| name.to_string());
    let module = module_of(object)?;
    // A metaclass may say which attributes there are.
    let has = |attribute: &str| {
        errors::unless_exception(object.py(), class.hasattr(attribute)).map(Option::unwrap_or_default)
    };
    let remedy = match (&module[..], &name[..]) {
        ("builtins", "set" | "frozenset") => "sorted(value) or list(value)",
        ("builtins", "complex") => "[value.real, value.imag]",
        ("decimal", "Decimal") => "str(value)",
        ("fractions", "Fraction") => "str(value), or float(value) if it may be rounded",
        ("datetime", "datetime" | "date" | "time") => "value.isoformat()",
        ("datetime", "timedelta") => "value.total_seconds()",
        ("uuid", "UUID") => "str(value)",
        ("numpy", "longdouble") => "float(value), which rounds it",
        ("numpy", _) => "value.tolist()",
        _ if has("__members__")? || has("_member_map_")? => "value.value, or a php.PhpEnum",
        _ if has("__dataclass_fields__")? => "dataclasses.asdict(value), or a php.PhpObject",
        _ if has("__fspath__")? => "str(value)",
        _ if has("keys")? && has("__getitem__")? => "dict(value)",
        _ if has("__iter__")? => "list(value)",
        _ => "a dict, a list or a php.PhpObject made of it",
    };
    let class = if module == "builtins" || module.is_empty() { name } else { format!("{module}.{name}") };
    Ok(format!("PHP has nothing like an object of class {class}. Remedy: {remedy}"))
}

/// Why an int is refused.
#[cold]
pub(super) fn too_large(object: &Bound<'_, PyAny>) -> Stop {
    let bits = object.call_method0("bit_length").and_then(|bits| bits.extract::<u64>());
    match errors::unless_exception(object.py(), bits) {
        Ok(bits) => Stop::Refused(format!(
            "the int needs {} bits, but PHP's ints have 64. Remedy: a str, or a float if it may be rounded",
            bits.unwrap_or(64) + 1
        )),
        Err(interrupt) => Stop::Raised(interrupt),
    }
}
