//! Arguments that all of PHP's System V objects have: keys and permissions.

use crate::py::convert;
use crate::py::create;
use crate::py::errors;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBool;
use std::cmp::Ordering;

/// The name of an object's class, for messages.
pub fn class_of(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string())
}

/// An object as a message shows it.
pub fn shown(object: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(convert::shown(object, "it")?.chars().take(40).collect())
}

/// An int, which is no bool. `what` names the argument in messages. `None`: it needs more than 64 bits.
pub fn int(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Option<i64>> {
    Ok(wide_int(object, what)?.ok())
}

/// The same. Of an int that needs more than 64 bits the error says whether it is above or below those that do not.
pub fn wide_int(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Result<i64, Ordering>> {
    if !object.is_instance_of::<PyBool>() {
        if let Some(number) = convert::as_int(object)? {
            return Ok(create::number_or_side(&number));
        }
    }
    Err(errors::builtin::<PyTypeError>(format!("{what} must be an int, not {}", class_of(object))))
}

/// The most that there may be of something: an argument as it was given, so that it is refused by its name and without
/// the note that is added to an error of its conversion.
pub enum Limit<'py> {
    /// It was not given.
    Usual(u64),
    /// It was.
    Given(Bound<'py, PyAny>),
}

impl<'py> FromPyObject<'_, 'py> for Limit<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Limit::Given(object.to_owned()))
    }
}

impl Limit<'_> {
    /// The number of the argument `name`; `none` for `None`. One beyond 64 bits is as good as the greatest.
    pub fn number(&self, name: &str, none: u64) -> PyResult<u64> {
        let object = match self {
            Limit::Usual(number) => return Ok(*number),
            Limit::Given(object) if object.is_none() => return Ok(none),
            Limit::Given(object) => object,
        };
        match wide_int(object, name)? {
            Ok(number @ 0..) => Ok(number as u64),
            Err(Ordering::Greater) => Ok(u64::MAX),
            _ => Err(errors::builtin::<PyValueError>(format!(
                "{name} must be at least 0, or None, not {}",
                shown(object)?
            ))),
        }
    }
}

/// A key of something that `what` names: a number of 32 bits, signed or not.
pub fn key(object: &Bound<'_, PyAny>, what: &str) -> PyResult<i32> {
    match int(object, "a key")? {
        Some(0) => Err(errors::builtin::<PyValueError>(format!(
            "key 0 is no key: for it the system makes a new {what} each time, which no other program can open; choose \
             another number, or make one of a file with ftok"
        ))),
        // The upper half is what negative keys are called in `ipcs`.
        Some(number @ -0x8000_0000..=0xffff_ffff) => Ok(number as i32),
        _ => Err(errors::builtin::<PyValueError>(format!(
            "key {} is beyond 32 bits: a key is in -2**31 .. 2**32 - 1 (PHP takes the lower 32 bits of such a number: \
             give those, as `key & 0xffffffff`)",
            shown(object)?
        ))),
    }
}

/// The nine bits of permissions.
pub fn permissions(object: Option<&Bound<'_, PyAny>>) -> PyResult<u32> {
    let Some(object) = object else { return Ok(0o666) };
    match int(object, "permissions")? {
        Some(bits @ 0..=0o777) => Ok(bits as u32),
        _ => Err(errors::builtin::<PyValueError>(format!(
            "permissions are nine bits, 0 to 0o777, as 0o666: not {}",
            shown(object)?
        ))),
    }
}
