//! Changes that depend on the old value: `add`, `swap`, `modify`. No change of another process is lost.
//!
//! Each reads the value with its version and stores the new one only if the version is still the same; else it tries
//! again. Only `add` on numbers of 64 bits does without: the core adds under its own lock.

use super::variable::{store, store_encoded};
use crate::key::Index;
use crate::py::calls;
use crate::py::convert::{self, OptionalArgument};
use crate::py::create;
use crate::py::decode;
use crate::py::encode;
use crate::py::errors;
use crate::py::interpreter;
use crate::py::numpy;
use crate::py::read_mode::ReadMode;
use crate::py::wait::PyWait;
use crate::segment::Segment;
use crate::variables::AsVariables;
use crate::variables::add::Number;
use crate::variables::change::Condition;
use crate::variables::expiry::expires_after;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};
use std::time::Duration;

/// Reads a variable and its version. `None` if it is missing.
fn read(segment: &Segment, index: &Bound<'_, PyAny>) -> PyResult<Option<(Py<PyAny>, u64)>> {
    let (py, policy) = (index.py(), PyWait::new(index.py(), segment.key()));
    decode::read(&policy, py, segment, &convert::index(index)?, ReadMode::Own)
}

/// `add`: the new value. `ttl` counts only where the variable is missing.
pub fn add(
    segment: &Segment,
    index: &Bound<'_, PyAny>,
    by: &Bound<'_, PyAny>,
    ttl: Option<Duration>,
) -> PyResult<Py<PyAny>> {
    let (py, policy) = (index.py(), PyWait::new(index.py(), segment.key()));
    let name = convert::index(index)?;
    let att = segment.for_change().map_err(|error| errors::of_segment(py, segment.key(), error))?;
    let amount = Amount::of(by)?;
    if let Amount::Number(number) = amount {
        let sum = att.variables().add(&name, number, ttl, &policy).map_err(|error| policy.error_at(&name, error))?;
        match sum {
            Some(Number::Int(sum)) => return Ok(create::int(py, sum)?.into_any().unbind()),
            Some(Number::Float(sum)) => return Ok(create::float(py, sum)?.into_any().unbind()),
            None => {}
        }
    }
    add_by_interpreter(segment, index, &amount.object(py)?, &name, ttl)
}

/// `add` where a number has more than 64 bits, or the value is no number. The interpreter calculates, and the sum is
/// stored if no other thread or process changed the variable meanwhile. `amount`: an exact int or float, so that the sum
/// is one, too: an int and a `numpy.float64` make a `numpy.float64`.
#[cold]
fn add_by_interpreter(
    segment: &Segment,
    index: &Bound<'_, PyAny>,
    amount: &Bound<'_, PyAny>,
    name: &Index<'_>,
    ttl: Option<Duration>,
) -> PyResult<Py<PyAny>> {
    let py = index.py();
    loop {
        let (old, condition) = match read(segment, index)? {
            Some((value, version)) => (value.into_bound(py), Condition::Keeping(version)),
            None => (0_i64.into_pyobject(py)?.into_any(), Condition::Version(0)),
        };
        let old = match old.is_exact_instance_of::<PyInt>() || old.is_exact_instance_of::<PyFloat>() {
            true => old,
            false => {
                numpy::python_number(&old)?.ok_or_else(|| not_a_number(&format!("the value of index {name}"), &old))?
            }
        };
        let sum = old.add(amount)?;
        let expiry = || if condition == Condition::Version(0) { ttl.map(expires_after) } else { None };
        if store(segment, index, &sum, condition, expiry)?.is_some() {
            return Ok(sum.unbind());
        }
        py.check_signals()?;
    }
}

/// What an object adds. The object is asked once, and what it raises passes unchanged.
enum Amount<'py> {
    /// A number of 64 bits.
    Number(Number),
    /// An int of more.
    Great(Bound<'py, PyInt>),
}

impl<'py> Amount<'py> {
    fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if object.is_exact_instance_of::<PyInt>() {
            if let Some(small) = create::number_of(object) {
                return Ok(Amount::Number(Number::Int(small)));
            }
        } else {
            interpreter::python_code_follows();
        }
        if object.is_instance_of::<PyBool>() {
            return Err(not_a_number("the amount", object));
        }
        if object.is_instance_of::<PyFloat>() {
            return Ok(Amount::Number(Number::Float(object.extract()?)));
        }
        if object.is_instance_of::<PyInt>() || object.get_type().hasattr("__index__")? && !numpy::is_bool(object)? {
            if let Some(number) = convert::as_exact_int(object)? {
                let small = create::number_or_side(&number);
                return Ok(small.map_or(Amount::Great(number), |small| Amount::Number(Number::Int(small))));
            }
        }
        match numpy::python_number(object)? {
            Some(number) => Ok(Amount::Number(Number::Float(number.extract()?))),
            None => Err(not_a_number("the amount", object)),
        }
    }

    /// The amount as an exact int or float.
    fn object(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Amount::Number(Number::Int(number)) => Ok(create::int(py, number)?.into_any()),
            Amount::Number(Number::Float(number)) => Ok(create::float(py, number)?.into_any()),
            Amount::Great(number) => Ok(number.into_any()),
        }
    }
}

/// `TypeError` for an amount or a value that is not an int or a float.
#[cold]
fn not_a_number(what: &str, object: &Bound<'_, PyAny>) -> PyErr {
    let name = object.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
    errors::builtin::<PyTypeError>(format!("add: {what} is {name}, not an int or a float"))
}

/// `swap`: the old value.
pub fn swap(
    segment: &Segment,
    index: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    ttl: Option<Duration>,
) -> PyResult<Option<Py<PyAny>>> {
    let (py, name) = (index.py(), convert::index(index)?);
    segment.for_change().map_err(|error| errors::of_segment(py, segment.key(), error))?;
    // The value is encoded once, even if others are faster several times: encoding may take long, and it runs user
    // code, which may change this very variable.
    let encoded = encode::encode(value)?;
    loop {
        let (old, version) = match read(segment, index)? {
            Some((old, version)) => (Some(old), version),
            None => (None, 0),
        };
        let expiry = ttl.map(expires_after);
        if store_encoded(py, segment, &name, &encoded, Condition::Version(version), expiry)?.is_some() {
            return Ok(old);
        }
        py.check_signals()?;
    }
}

/// `modify`: the new value. It lives for `ttl`; `None`: as long as the old one. Returns `None` if the variable is missing
/// and there is no default.
pub fn modify(
    segment: &Segment,
    index: &Bound<'_, PyAny>,
    function: &Bound<'_, PyAny>,
    default: &OptionalArgument,
    ttl: Option<Duration>,
) -> PyResult<Option<Py<PyAny>>> {
    let py = index.py();
    interpreter::python_code_follows();
    segment.for_change().map_err(|error| errors::of_segment(py, segment.key(), error))?;
    loop {
        let (old, condition) = match (read(segment, index)?, &default.0) {
            (Some((old, version)), _) if ttl.is_none() => (old, Condition::Keeping(version)),
            (Some((old, version)), _) => (old, Condition::Version(version)),
            (None, Some(default)) => (default.clone_ref(py), Condition::Version(0)),
            (None, None) => return Ok(None),
        };
        let new = calls::call(function, [old.into_bound(py)], None)?;
        if store(segment, index, &new, condition, || ttl.map(expires_after))?.is_some() {
            return Ok(Some(new.unbind()));
        }
        py.check_signals()?;
    }
}
