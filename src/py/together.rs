//! Versions, counters, batches and waiting: what the methods of `Segment` for several processes do.

use crate::coordination::AsCoordination;
use crate::key::Index;
use crate::py::convert;
use crate::py::decode::{self, Want};
use crate::py::encode::{self, Encoded};
use crate::py::errors::{self, raise, said};
use crate::py::made;
use crate::py::wait::{Attached, PyWait};
use crate::segment::Segment;
use crate::variables::AsVariables;
use crate::variables::add::Number;
use crate::variables::change::Condition;
use crate::variables::snapshot::SnapshotValue;
use crate::variables::stored::Stored;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping};

/// A default that may be anything, `None` too, or not given.
#[derive(Default)]
pub struct Given(pub Option<Py<PyAny>>);

impl<'py> FromPyObject<'_, 'py> for Given {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Given(Some(object.to_owned().unbind())))
    }
}

/// Value, version, when it expires.
type Read = (Py<PyAny>, u64, Option<u64>);

/// Reads a variable. `None`: missing.
fn read(segment: &Segment, index: &Bound<'_, PyAny>) -> PyResult<Option<Read>> {
    let (py, policy) = (index.py(), PyWait::new(index.py(), segment.key()));
    let name = convert::index(index)?;
    let Some((value, version)) = decode::read(&policy, py, segment, &name, Want::Own)? else { return Ok(None) };
    let att = segment.attachment().map_err(|error| policy.error(error))?;
    // Of another version it is of no use, but then that version is not stored over, either.
    let (_, expiry) = att.variables().version(&name, &policy).map_err(|error| policy.error(error))?;
    Ok(Some((value, version, expiry)))
}

/// Stores a value on a condition: the new version.
pub fn store(
    segment: &Segment,
    index: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    condition: Condition,
    expiry: impl FnOnce() -> PyResult<Option<u64>>,
) -> PyResult<Option<u64>> {
    let py = index.py();
    let name = convert::index(index)?;
    segment.for_change().map_err(|error| errors::of(py, segment.key(), error))?;
    // Runs user code, which may do anything to this very handle: looked at again afterwards.
    let encoded = encode::encode(value)?;
    place(py, segment, &name, &encoded, condition, expiry()?)
}

/// The same of a value that was encoded.
#[inline]
pub fn place(
    py: Python<'_>,
    segment: &Segment,
    name: &Index<'_>,
    encoded: &Encoded<'_, '_>,
    condition: Condition,
    expiry: Option<u64>,
) -> PyResult<Option<u64>> {
    let policy = PyWait::new(py, segment.key());
    let att = segment.for_change().map_err(|error| errors::of(py, segment.key(), error))?;
    encoded
        .with(|stored| att.variables().put(name, Stored { expiry, ..stored }, condition, &policy))
        .map_err(|error| policy.error_at(name, error))
}

/// What an object adds; `None`: an int beyond 64 bits.
fn amount(object: &Bound<'_, PyAny>) -> PyResult<Option<Number>> {
    if object.is_instance_of::<PyBool>() {
        return Err(not_a_number("the amount", object));
    }
    if object.is_instance_of::<PyFloat>() {
        return Ok(Some(Number::Float(object.extract()?)));
    }
    if object.is_instance_of::<PyInt>() || object.get_type().hasattr("__index__")? {
        return Ok(object.extract::<i64>().ok().map(Number::Int));
    }
    Err(not_a_number("the amount", object))
}

#[cold]
fn not_a_number(what: &str, object: &Bound<'_, PyAny>) -> PyErr {
    let name = object.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
    made::error::<PyTypeError>(format!("add: {what} is {name}, not an int or a float"))
}

/// `add`
pub fn add(segment: &Segment, index: &Bound<'_, PyAny>, by: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let (py, policy) = (index.py(), PyWait::new(index.py(), segment.key()));
    let name = convert::index(index)?;
    let att = segment.for_change().map_err(|error| errors::of(py, segment.key(), error))?;
    if let Some(amount) = amount(by)? {
        let sum = att.variables().add(&name, amount, &policy).map_err(|error| policy.error_at(&name, error))?;
        match sum {
            Some(Number::Int(sum)) => return Ok(made::int(py, sum)?.into_any().unbind()),
            Some(Number::Float(sum)) => return Ok(made::float(py, sum)?.into_any().unbind()),
            None => {}
        }
    }
    // Beyond 64 bits, or no number at all: the interpreter's arithmetic, stored if nobody came between.
    loop {
        let (old, version, expiry) = match read(segment, index)? {
            Some((value, version, expiry)) => (value.into_bound(py), version, expiry),
            None => (0_i64.into_pyobject(py)?.into_any(), 0, None),
        };
        if !(old.is_exact_instance_of::<PyInt>() || old.is_exact_instance_of::<PyFloat>()) {
            return Err(not_a_number(&format!("the value of index {name}"), &old));
        }
        let by = if by.is_instance_of::<PyFloat>() || by.is_instance_of::<PyInt>() {
            by.clone()
        } else {
            by.call_method0("__index__")?
        };
        let sum = old.add(by)?;
        if store(segment, index, &sum, Condition::Version(version), || Ok(expiry))?.is_some() {
            return Ok(sum.unbind());
        }
        py.check_signals()?;
    }
}

/// `swap`: the old value.
pub fn swap(segment: &Segment, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    let (py, name) = (index.py(), convert::index(index)?);
    segment.for_change().map_err(|error| errors::of(py, segment.key(), error))?;
    // Once, however often others are faster: it may take long, and it may change this very variable.
    let encoded = encode::encode(value)?;
    loop {
        let (old, version) = match read(segment, index)? {
            Some((old, version, _)) => (Some(old), version),
            None => (None, 0),
        };
        if place(py, segment, &name, &encoded, Condition::Version(version), None)?.is_some() {
            return Ok(old);
        }
        py.check_signals()?;
    }
}

/// `modify`: the new value; `None`: missing, and there is no default.
pub fn modify(
    segment: &Segment,
    index: &Bound<'_, PyAny>,
    function: &Bound<'_, PyAny>,
    default: &Given,
) -> PyResult<Option<Py<PyAny>>> {
    let py = index.py();
    segment.for_change().map_err(|error| errors::of(py, segment.key(), error))?;
    loop {
        let (old, version, expiry) = match (read(segment, index)?, &default.0) {
            (Some(read), _) => read,
            (None, Some(default)) => (default.clone_ref(py), 0, None),
            (None, None) => return Ok(None),
        };
        let new = made::call(function, [old.into_bound(py)], None)?;
        if store(segment, index, &new, Condition::Version(version), || Ok(expiry))?.is_some() {
            return Ok(Some(new.unbind()));
        }
        py.check_signals()?;
    }
}

/// `put_many` and `update`: all of the items, or none.
pub fn put_many(
    segment: &Segment,
    items: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)],
    ttl: Option<&Bound<'_, PyAny>>,
    py: Python<'_>,
) -> PyResult<()> {
    segment.for_change().map_err(|error| errors::of(py, segment.key(), error))?;
    let failed = |error| errors::of(py, segment.key(), error);
    let names = made::collected(items.iter().map(|(index, _)| convert::index(index)))?;
    let encoded = made::collected(items.iter().map(|(_, value)| encode::encode(value)))?;
    let parts = made::collected(encoded.iter().map(|encoded| encoded.parts().map_err(failed)))?;
    let slices = made::collected(parts.iter().map(|parts| parts.slices().map_err(failed)))?;
    let expiry = convert::ttl(ttl)?;
    let mut list = made::collected(std::iter::empty())?;
    for (name, (parts, buffers)) in names.iter().zip(&slices) {
        made::push(&mut list, (*name, Stored { parts, buffers: *buffers, expiry }))?;
    }
    let policy = PyWait::new(py, segment.key());
    let att = segment.for_change().map_err(|error| errors::of(py, segment.key(), error))?;
    att.variables().put_many(&list, &policy).map_err(|error| policy.error(error))
}

/// The items of a mapping, or of an iterable of pairs, as `dict.update` takes them.
pub fn items<'py>(other: &Bound<'py, PyAny>) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    let mut items = Vec::new();
    if let Ok(dict) = other.cast_exact::<PyDict>() {
        for item in dict.iter() {
            made::push(&mut items, item)?;
        }
    } else if let Ok(mapping) = other.cast::<PyMapping>() {
        for index in mapping.keys()? {
            let value = other.get_item(&index)?;
            made::push(&mut items, (index, value))?;
        }
    } else if other.hasattr("keys")? {
        for index in other.call_method0("keys")?.try_iter()? {
            let index = index?;
            let value = other.get_item(&index)?;
            made::push(&mut items, (index, value))?;
        }
    } else {
        for (number, pair) in other.try_iter()?.enumerate() {
            let mut pair = made::collected(pair?.try_iter()?)?;
            let (len, value, index) = (pair.len(), pair.pop(), pair.pop());
            let (2, Some(index), Some(value)) = (len, index, value) else {
                return Err(made::error::<PyValueError>(format!("element #{number} has length {len}; 2 is required")));
            };
            made::push(&mut items, (index, value))?;
        }
    }
    Ok(items)
}

/// `get_many`: those that are there.
pub fn get_many<'py>(segment: &Segment, indices: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = indices.py();
    let objects = match indices.cast_exact::<PyList>() {
        Ok(list) => made::collected(list.iter().map(Ok))?,
        Err(_) => made::collected(indices.try_iter()?)?,
    };
    let names = made::collected(objects.iter().map(convert::index))?;
    let policy = PyWait::new(py, segment.key());
    let att = segment.attachment().map_err(|error| policy.error(error))?;
    let mut snapshot = att.variables().get_many(&names, &policy).map_err(|error| policy.error(error))?;
    let values = made::dict(py)?;
    for (number, seen) in std::mem::take(&mut snapshot.values).into_iter().enumerate() {
        let name = &names[number];
        let value = match seen {
            SnapshotValue::Missing => continue,
            SnapshotValue::Inline(bytes, len) => {
                decode::decode(py, name, &bytes[2..2 + usize::from(len)], segment.trusted(), Want::Own)?
            }
            SnapshotValue::Small(start, len) => {
                decode::decode(py, name, &snapshot.bytes[start..start + len], segment.trusted(), Want::Own)?
            }
            // Pinned: it does not change.
            SnapshotValue::Large(large) => {
                let Some(large) = snapshot.large[large].take() else { continue };
                match decode::read_large(&policy, py, segment, large, name, Want::Own)? {
                    Some(value) => value,
                    None => continue,
                }
            }
        };
        values.set_item(convert::index_key(&objects[number], name)?, value)?;
    }
    Ok(values)
}

/// `wait`
pub fn wait(
    segment: &Segment,
    index: &Bound<'_, PyAny>,
    timeout: Option<&Bound<'_, PyAny>>,
    newer_than: Option<u64>,
) -> PyResult<u64> {
    let (py, policy) = (index.py(), PyWait::new(index.py(), segment.key()));
    let (name, limit) = (convert::index(index)?, convert::timeout(timeout)?);
    let att = segment.attachment().map_err(|error| policy.error(error))?;
    match att
        .coordination()
        .wait(&name, newer_than, limit, &Attached(&policy, segment))
        .map_err(|error| policy.error(error))?
    {
        Some(version) => Ok(version),
        None => Err(not_changed(py, &name, limit.map_or(0.0, |limit| limit.as_secs_f64()))),
    }
}

/// `WaitTimeoutError` of a variable.
#[cold]
pub fn not_changed(py: Python<'_>, name: &Index<'_>, seconds: f64) -> PyErr {
    time_is_up(py, &format!("index {name} did not change"), seconds)
}

/// `WaitTimeoutError` of a lock.
#[cold]
pub fn not_let_go(py: Python<'_>, name: &Index<'_>, seconds: f64) -> PyErr {
    time_is_up(py, &format!("lock {name} was not let go"), seconds)
}

fn time_is_up(py: Python<'_>, what: &str, seconds: f64) -> PyErr {
    raise(py, c"WaitTimeoutError", |class| said(class, &format!("{what} within {seconds} s")))
}
