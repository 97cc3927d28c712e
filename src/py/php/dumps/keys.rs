//! Keys of arrays, and names of properties.
//!
//! PHP takes a string that spells an int for that int, where it is a key of an array: `"5"` would come back as 5, and
//! beside 5 it would be lost. Both are refused.

use super::place::shown;
use super::stop::Stop;
use super::strings::{bytes_of, escaped, utf8};
use crate::php::serialize::{Writer, numeric_key};
use crate::py::numpy::is_bool;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyString};
use std::collections::HashSet;

/// A key as PHP has it.
#[derive(Hash, PartialEq, Eq)]
enum Key<'a> {
    Int(i64),
    Text(std::borrow::Cow<'a, [u8]>),
}

/// Writes a key of class `str` or `int`. Returns whether it was one, and nothing that might equal another key in PHP.
///
/// # Safety
/// `key` is an object.
#[inline(always)]
pub(super) unsafe fn plain(writer: &mut Writer, key: *mut ffi::PyObject, is_object: bool) -> Result<bool, Stop> {
    // SAFETY: the caller says that it is an object; each function is called for its class.
    unsafe {
        let class = ffi::Py_TYPE(key);
        if class == &raw mut ffi::PyUnicode_Type {
            let Some(text) = utf8(key) else {
                ffi::PyErr_Clear();
                return Ok(false);
            };
            if !is_object {
                if let Some(number) = numeric_key(text) {
                    return Err(numeric(number));
                }
            }
            writer.string(text)?;
            return Ok(true);
        }
        if class != &raw mut ffi::PyLong_Type || is_object {
            return Ok(false);
        }
        let mut overflow = 0;
        let number = ffi::PyLong_AsLongLongAndOverflow(key, &mut overflow);
        if overflow != 0 {
            return Err(Stop::RefusedAround("an int as a key is beyond 64 bits. Remedy: a str".into()));
        }
        writer.int(number)?;
        Ok(true)
    }
}

/// Writes any other key, or refuses it.
#[cold]
pub(super) fn other(writer: &mut Writer, key: &Bound<'_, PyAny>, is_object: bool) -> Result<(), Stop> {
    match of(key, is_object)? {
        Key::Int(number) => Ok(writer.int(number)?),
        Key::Text(text) => Ok(writer.string(&text)?),
    }
}

/// Fails if PHP would merge two of these keys.
#[cold]
pub(super) fn compare(keys: &[Bound<'_, PyAny>], is_object: bool) -> Result<(), Stop> {
    let mut met = HashSet::new();
    met.try_reserve(keys.len()).map_err(|_| Stop::NoMemory)?;
    for key in keys {
        let text = match of(key, is_object)? {
            // The property 5 is the property "5".
            Key::Int(number) if is_object => Key::Text(number.to_string().into_bytes().into()),
            other => other,
        };
        if !met.insert(text) {
            let key = shown(Some(key.clone()))?;
            let why = format!("PHP would merge the key {key} with another one. Remedy: keep one of them");
            return Err(Stop::RefusedAround(why));
        }
    }
    Ok(())
}

/// A key as PHP has it, or why it has none.
fn of<'a>(key: &'a Bound<'_, PyAny>, is_object: bool) -> Result<Key<'a>, Stop> {
    let text = if key.is_instance_of::<PyString>() {
        // SAFETY: it is a `str`, which is borrowed for as long.
        match unsafe { utf8(key.as_ptr()) } {
            Some(text) => Key::Text(text.into()),
            None => match escaped(key) {
                Ok(bytes) => Key::Text(bytes.as_bytes().to_vec().into()),
                Err(Stop::Refused(why)) => return Err(Stop::RefusedAround(format!("a key: {why}"))),
                Err(stop) => return Err(stop),
            },
        }
    } else if key.is_instance_of::<PyBytes>() {
        // SAFETY: it is a `bytes`, which is borrowed for as long.
        Key::Text(unsafe { bytes_of(key.as_ptr()) }.into())
    } else if key.is_instance_of::<PyBool>() || !has_index(key)? {
        let class = key.get_type().name()?.to_string();
        let shown = shown(Some(key.clone()))?;
        let remedy = match &class[..] {
            "bool" | "bool_" => "the int 0 or 1",
            "NoneType" => "the empty str",
            "tuple" => "a str made of it, or dicts inside each other",
            _ => "an int or a str",
        };
        let why = format!("the key {shown} is of class {class}, but PHP's keys are int or str. Remedy: {remedy}");
        return Err(Stop::RefusedAround(why));
    } else {
        let number = if key.is_instance_of::<PyInt>() { key.clone() } else { key.call_method0("__index__")? };
        let number = number.extract::<i64>();
        let beyond = |_| Stop::RefusedAround("an int as a key is beyond 64 bits. Remedy: a str".into());
        return number.map(Key::Int).map_err(beyond);
    };
    if let (Key::Text(text), false) = (&text, is_object) {
        if let Some(number) = numeric_key(text) {
            return Err(numeric(number));
        }
    }
    Ok(text)
}

fn has_index(key: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(key.is_instance_of::<PyInt>() || key.get_type().hasattr("__index__")? && !is_bool(key)?)
}

#[cold]
fn numeric(number: i64) -> Stop {
    Stop::RefusedAround(format!(
        "the key \"{number}\" would become the int {number} in PHP, and merge with it. Remedy: the int {number} as \
         the key"
    ))
}
