//! Methods that read or change several variables in one step: `put_many`, `update`, `get_many`.
//!
//! How a batch is atomic is in [`crate::variables`].

use super::contents;
use super::handle::PySegment;
use crate::key::Index;
use crate::py::calls;
use crate::py::convert;
use crate::py::create;
use crate::py::decode::{self, LargeRead};
use crate::py::encode::{self, EncodedBatch};
use crate::py::errors;
use crate::py::interpreter;
use crate::py::read_mode::ReadMode;
use crate::py::wait::PyWait;
use crate::segment::Segment;
use crate::variables::AsVariables;
use crate::variables::expiry::expires_after;
use crate::variables::snapshot::SnapshotValue;
use crate::variables::stored::{Layout, Stored};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// So many indices need no allocation.
const FEW: usize = 16;

/// `put_many` and `update`: stores all of the items, or none.
pub fn put_many(
    segment: &Segment,
    items: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)],
    ttl: Option<&Bound<'_, PyAny>>,
    py: Python<'_>,
) -> PyResult<()> {
    let ttl = convert::ttl(ttl)?;
    let (expiry, policy) = (ttl.map(expires_after), PyWait::new(py, segment.key()));
    let failed = |error| policy.error(error);
    let hash_key = segment.for_change().map_err(failed)?.variables().identity.hash_key;
    let plain = |parts| Stored { parts, layout: Layout::Pickle, expiry };
    if items.len() > FEW {
        let mut batch = EncodedBatch::new(hash_key, items.len(), expiry).map_err(failed)?;
        for (index, value) in items {
            let index = convert::index(index)?;
            batch.push(&index, encode::encode(value)?).map_err(failed)?;
        }
        return segment.for_change().and_then(|att| batch.put(att.variables(), &policy)).map_err(failed);
    }
    let mut indexes = [Index::Int(0); FEW];
    for (to, (index, _)) in indexes.iter_mut().zip(items) {
        *to = convert::index(index)?;
    }
    let encoded = create::collect(items.iter().map(|(_, value)| encode::encode(value)))?;
    if !encoded.iter().all(encode::Encoded::is_whole) {
        let mut batch = EncodedBatch::new(hash_key, encoded.len(), expiry).map_err(failed)?;
        for (index, encoded) in indexes.iter().zip(encoded) {
            batch.push(index, encoded).map_err(failed)?;
        }
        return segment.for_change().and_then(|att| batch.put(att.variables(), &policy)).map_err(failed);
    }
    // Nothing is copied, and nothing allocated: the parts are where the encoder has left them.
    let mut parts = [encode::WholeParts::NONE; FEW];
    let mut list = [(Index::Int(0), plain(&[])); FEW];
    for (to, from) in parts.iter_mut().zip(&encoded) {
        *to = from.whole_parts();
    }
    for ((to, index), parts) in list.iter_mut().zip(indexes).zip(&parts) {
        *to = (index, plain(parts.as_slice()));
    }
    segment.for_change().and_then(|att| att.variables().put_many(&list[..items.len()], &policy)).map_err(failed)
}

/// The items of a mapping or of an iterable of pairs, read as `dict.update` reads them; but of a segment without what
/// vanishes meanwhile.
pub fn items<'py>(other: &Bound<'py, PyAny>) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    interpreter::python_code_follows();
    let mut items = Vec::new();
    if let Ok(dict) = other.cast_exact::<PyDict>() {
        create::reserve(&mut items, dict.len())?;
        for item in dict.iter() {
            create::push(&mut items, item)?;
        }
    } else if let Ok(segment) = other.cast::<PySegment>() {
        contents::each(segment, |index, value| create::push(&mut items, (index, value)))?;
    } else if let Some(mapping) = calls::mapping(other)? {
        for index in mapping.keys()? {
            let value = other.get_item(&index)?;
            create::push(&mut items, (index, value))?;
        }
    } else if other.hasattr("keys")? {
        for index in other.call_method0("keys")?.try_iter()? {
            let index = index?;
            let value = other.get_item(&index)?;
            create::push(&mut items, (index, value))?;
        }
    } else {
        for (number, pair) in other.try_iter()?.enumerate() {
            let mut pair = create::collect(pair?.try_iter()?)?;
            let (len, value, index) = (pair.len(), pair.pop(), pair.pop());
            let (2, Some(index), Some(value)) = (len, index, value) else {
                return Err(errors::builtin::<PyValueError>(format!(
                    "element #{number} has length {len}; 2 is required"
                )));
            };
            create::push(&mut items, (index, value))?;
        }
    }
    Ok(items)
}

/// `get_many`: the values of the variables that exist, all of the same moment.
pub fn get_many<'py>(segment: &Segment, indices: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = indices.py();
    if indices.is_instance_of::<PyString>() {
        // Its characters would be taken for indexes, and nothing be found.
        return Err(errors::builtin::<PyTypeError>(
            "get_many takes several indexes, and a str is one: write get_many([index])",
        ));
    }
    interpreter::python_code_follows();
    // A tuple keeps the indices alive and in order, whatever the unpickling of values does to the caller's list.
    let tuple = create::tuple_of(indices)?;
    let filler = tuple.as_any().as_borrowed();
    let (mut few, mut many) = ([filler; FEW], Vec::new());
    let objects = create::few_or_many(&mut few, &mut many, tuple.len(), filler)?;
    for (to, from) in objects.iter_mut().zip(tuple.iter_borrowed()) {
        *to = from;
    }
    let (mut few, mut many) = ([Index::Int(0); FEW], Vec::new());
    let names = create::few_or_many(&mut few, &mut many, objects.len(), Index::Int(0))?;
    for (to, from) in names.iter_mut().zip(objects.iter()) {
        *to = convert::index(from)?;
    }
    let policy = PyWait::new(py, segment.key());
    let att = segment.attachment().map_err(|error| policy.error(error))?;
    let mut snapshot = att.variables().get_many(names, &policy).map_err(|error| policy.error(error))?;
    let (values, trusted) = (create::dict(py)?, segment.trusted());
    for ((seen, name), object) in std::mem::take(&mut snapshot.values).iter().zip(names.iter()).zip(objects.iter()) {
        let value = match *seen {
            SnapshotValue::Missing => continue,
            SnapshotValue::Inline(bytes, len) => {
                decode::decode(py, name, &bytes[2..2 + usize::from(len)], trusted, ReadMode::Own)?
            }
            SnapshotValue::Small(start, len) => {
                decode::decode(py, name, &snapshot.bytes[start..start + len], trusted, ReadMode::Own)?
            }
            // The value is pinned, so it does not change.
            SnapshotValue::Large(large) => {
                let Some(large) = snapshot.large[large].take() else { continue };
                match (LargeRead { policy: &policy, py, segment, of: name.into(), mode: ReadMode::Own }).read(large)? {
                    Some(value) => value,
                    None => continue,
                }
            }
        };
        if convert::is_exact_index(object) {
            create::insert(&values, object, value.bind(py))?;
        } else {
            create::insert(&values, &convert::index_key(object, name)?, value.bind(py))?;
        }
    }
    Ok(values)
}
