//! Arguments from Python objects: keys, indexes, sizes, versions, times. And keys and indexes back to Python objects.
//!
//! Values of variables are no arguments in this sense: see `encode` and `decode`.

use crate::format::Eviction;
use crate::key::{Index, IndexBuf, Key};
use crate::py::calls;
use crate::py::create;
use crate::py::errors;
use crate::py::interpreter;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};
use std::time::Duration;

/// The number of an `int`, or of an object with `__index__`; `None` for other objects. Fails if it needs more than 64
/// bits. `what` names the argument in the message.
pub fn integer(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Option<i64>> {
    let Some(number) = as_int(object)? else { return Ok(None) };
    if let Ok(number) = create::number_or_side(&number) {
        return Ok(Some(number));
    }
    let shown: String = shown(object, "it")?.chars().take(40).collect();
    Err(errors::builtin::<PyOverflowError>(format!("{what} {shown} is outside of -2**63 .. 2**63 - 1")))
}

/// An object as Python shows it, for a message; `otherwise` if that raises an error.
#[cold]
pub fn shown(object: &Bound<'_, PyAny>, otherwise: &str) -> PyResult<String> {
    let repr = errors::unless_exception(object.py(), object.repr())?;
    Ok(repr.map_or_else(|| otherwise.into(), |repr| repr.to_string_lossy().into_owned()))
}

/// The result of `operator.index`; `None` for an object without `__index__`. Errors of `__index__` pass unchanged.
pub fn as_int<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyInt>>> {
    if let Ok(number) = object.cast::<PyInt>() {
        return Ok(Some(number.clone()));
    }
    interpreter::python_code_follows();
    if !object.get_type().hasattr("__index__")? {
        return Ok(None);
    }
    let number = object.call_method0("__index__")?;
    match number.cast_into::<PyInt>() {
        Ok(number) => Ok(Some(number)),
        Err(error) => {
            let name = error.into_inner().get_type().name()?.to_string();
            Err(errors::builtin::<PyTypeError>(format!("__index__ returned non-int (type {name})")))
        }
    }
}

/// The same, of the very class `int`: what such a number is added to, or shown by, runs no code of the caller.
pub fn as_exact_int<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyInt>>> {
    as_int(object)?.map(|number| create::exact_int(&number)).transpose()
}

/// `TypeError` for an object that is neither an int nor a str.
#[cold]
fn wrong_type(object: &Bound<'_, PyAny>, what: &str) -> PyErr {
    let name = object.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
    errors::builtin::<PyTypeError>(format!("{what} must be an int or a str, not {name}"))
}

/// A segment's key.
pub fn key(object: &Bound<'_, PyAny>) -> PyResult<Key> {
    if let Ok(text) = object.cast::<PyString>() {
        return Key::text(text.to_str()?).map_err(|error| errors::to_py(object.py(), error));
    }
    integer(object, "key")?.map(Key::Int).ok_or_else(|| wrong_type(object, "a key"))
}

/// A variable's index, borrowed from the object.
#[inline]
pub fn index<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<Index<'a>> {
    if object.is_exact_instance_of::<PyInt>() {
        if let Some(number) = create::number_of(object) {
            return Ok(Index::Int(number));
        }
    } else if let Ok(text) = object.cast::<PyString>() {
        return Index::text(text.to_str()?).map_err(|error| errors::to_py(object.py(), error));
    }
    integer(object, "index")?.map(Index::Int).ok_or_else(|| wrong_type(object, "an index"))
}

/// A key as a Python object.
pub fn key_object(py: Python<'_>, key: &Key) -> PyResult<Py<PyAny>> {
    Ok(match key {
        Key::Int(number) => create::int(py, *number)?.into_any().unbind(),
        Key::Text(text) => create::text(py, text)?.into_any().unbind(),
    })
}

/// An index as a Python object.
pub fn index_object(py: Python<'_>, index: &IndexBuf) -> PyResult<Py<PyAny>> {
    Ok(match index {
        IndexBuf::Int(number) => create::int(py, *number)?.into_any().unbind(),
        IndexBuf::Text(text) => create::text(py, text)?.into_any().unbind(),
    })
}

/// Whether an object stands for itself as an index: it is an exact int or str.
#[inline]
pub fn is_exact_index(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<PyInt>() || object.is_exact_instance_of::<PyString>()
}

/// The key that stands for an index in a dict: the object that the caller gave, or its exact int or str.
pub fn index_key<'py>(object: &Bound<'py, PyAny>, index: &Index<'_>) -> PyResult<Bound<'py, PyAny>> {
    if is_exact_index(object) {
        return Ok(object.clone());
    }
    Ok(match index {
        Index::Int(number) => create::int(object.py(), *number)?.into_any(),
        Index::Text(text) => create::text(object.py(), text)?.into_any(),
    })
}

/// A size in bytes, at least 1. `name` names the argument in messages.
pub fn size(object: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    let number = as_exact_int(object)?;
    let number = number.ok_or_else(|| errors::builtin::<PyTypeError>(format!("{name} must be an int")))?;
    if number.le(0)? {
        return Err(errors::builtin::<PyValueError>(format!("{name} must be at least 1 byte, not {number}")));
    }
    number
        .extract::<i64>()
        .map(|size| size as u64)
        .map_err(|_| errors::builtin::<PyOverflowError>(format!("{name} {number} is beyond 2**63 - 1 bytes")))
}

/// A version. A number that no variable can have, below 0 or beyond 64 bits, becomes one that differs from all
/// versions.
pub fn version(object: &Bound<'_, PyAny>) -> PyResult<u64> {
    let number = as_int(object)?.ok_or_else(|| {
        let name = object.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
        errors::builtin::<PyTypeError>(format!("a version must be an int, not {name}"))
    })?;
    // No variable has the version `u64::MAX`: versions share a word of 64 bits with a flag.
    Ok(number.extract::<u64>().unwrap_or(u64::MAX))
}

/// The longest time to wait, from seconds. `None` means without end.
pub fn timeout(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    let Some(object) = object else { return Ok(None) };
    interpreter::python_code_follows();
    let seconds = object.extract::<f64>()?;
    if seconds.is_nan() || seconds < 0.0 {
        return Err(errors::builtin::<PyValueError>(format!(
            "timeout must be None or at least 0 seconds, not {seconds}"
        )));
    }
    // More than a clock can count is without end.
    Ok(Duration::try_from_secs_f64(seconds).ok())
}

/// How long a variable is to live, from a number of seconds or a `timedelta`. `None` means for good.
#[inline]
pub fn ttl(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    match object {
        None => Ok(None),
        Some(object) => some_ttl(object).map(Some),
    }
}

fn some_ttl(object: &Bound<'_, PyAny>) -> PyResult<Duration> {
    interpreter::python_code_follows();
    let seconds = match object.extract::<f64>() {
        Ok(seconds) => seconds,
        Err(error) => seconds_of_timedelta(object, error)?,
    };
    if !seconds.is_finite() || seconds <= 0.0 {
        return Err(errors::builtin::<PyValueError>(format!("ttl must be None or more than 0 seconds, not {seconds}")));
    }
    // More than a clock can count is as long as one can count.
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// The seconds of a `timedelta`. `error` says why the object is no number.
#[cold]
fn seconds_of_timedelta(object: &Bound<'_, PyAny>, error: PyErr) -> PyResult<f64> {
    let py = object.py();
    if object.is_instance(&calls::attribute(py, c"datetime", c"timedelta")?)? {
        return object.call_method0("total_seconds")?.extract();
    }
    if error.is_instance_of::<PyOverflowError>(py) {
        return Err(errors::builtin::<PyOverflowError>("ttl is more seconds than a float can count"));
    }
    // A signal handler may have raised it in the object's own `__float__`.
    if !errors::comes_again(py, &error, &object.extract::<f64>())? {
        return Err(error);
    }
    let name = object.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
    let refused = errors::builtin::<PyTypeError>(format!("ttl must be None, seconds or a timedelta, not {name}"));
    // What the object's own code raised, beside a `TypeError`, says why it is no number.
    if !error.is_instance_of::<PyTypeError>(py) {
        refused.set_cause(py, Some(error));
    }
    Err(refused)
}

/// An optional argument that may be any object: the inner `None` means that it was not given, which differs from
/// Python's `None`.
#[derive(Default)]
pub struct OptionalArgument(pub Option<Py<PyAny>>);

impl<'py> FromPyObject<'_, 'py> for OptionalArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(OptionalArgument(Some(object.to_owned().unbind())))
    }
}

/// The argument `evict`: what a segment evicts where there is no room.
pub fn eviction(value: &Bound<'_, PyAny>) -> PyResult<Eviction> {
    if let Ok(name) = value.cast::<PyString>() {
        if let Some(eviction) = name.to_str().ok().and_then(Eviction::of_name) {
            return Ok(eviction);
        }
    }
    let names = "evict must be \"lru\", \"ttl\" or None";
    let given = shown(value, "something else")?;
    match value.is_instance_of::<PyString>() {
        true => Err(errors::builtin::<PyValueError>(format!("{names}, not {given}"))),
        false => Err(errors::builtin::<PyTypeError>(format!("{names}, not {given}"))),
    }
}
