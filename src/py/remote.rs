//! What segments on a server (`shmvar._remote`, docs/remote.md) need of the core: which keys are URLs, and values to
//! bytes and back. The bytes of a value are those of a record of this machine: a pickle, or a table of buffers, the
//! pickle and the buffers ([`crate::codec::buffers`]).

use crate::codec::buffers::{self, BufferTable};
use crate::codec::kind;
use crate::py::calls;
use crate::py::convert;
use crate::py::create;
use crate::py::decode::{ValueOf, decode, decode_apart, decode_buffers};
use crate::py::encode::{self, Encoded};
use crate::py::errors::{self, raise_text};
use crate::py::read_mode::ReadMode;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView, PyString};
use std::ffi::CStr;

/// Only these are URLs: any other text is the key of a segment of this machine.
const SCHEMES: [&str; 6] = ["valkey://", "valkeys://", "valkey+unix://", "redis://", "rediss://", "redis+unix://"];

/// A function of the package for segments on a server, if `key` is a URL of one. The package is imported with the first
/// URL.
#[inline]
pub fn function<'py>(key: &Bound<'py, PyAny>, name: &CStr) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Ok(text) = key.cast::<PyString>() else { return Ok(None) };
    // A text that is not UTF-8 is no URL; the caller finds out what is wrong with it.
    let is_url = text.to_str().is_ok_and(|text| SCHEMES.iter().any(|scheme| text.starts_with(scheme)));
    is_url.then(|| calls::attribute(key.py(), c"shmvar._remote", name)).transpose()
}

/// An encoded value: whether there are buffers beside the pickle; its bytes; its parts, where it is long.
type EncodedParts<'py> = (bool, Bound<'py, PyBytes>, Option<Bound<'py, PyList>>);

/// Encodes a value as `put` does. Returns whether there are buffers beside the pickle, and the bytes.
#[pyfunction]
pub fn _encode_value<'py>(value: &Bound<'py, PyAny>) -> PyResult<(bool, Bound<'py, PyBytes>)> {
    let (beside, whole, _) = _encode_parts(value, usize::MAX)?;
    Ok((beside, whole))
}

/// The same. Of a value with buffers that has more than `inline` bytes, which is sent in chunks, it returns no bytes but
/// the parts whose bytes they are, one after the other: what is not the caller's own object is joined to one `bytes`
/// between those that are.
#[pyfunction]
pub fn _encode_parts<'py>(value: &Bound<'py, PyAny>, inline: usize) -> PyResult<EncodedParts<'py>> {
    let py = value.py();
    let encoded = encode::encode(value)?;
    if encoded.is_whole() {
        return Ok((false, joined(py, encoded.whole_parts().as_slice())?, None));
    }
    let parts = encoded.parts().map_err(|error| errors::to_py(py, error))?;
    let (slices, _) = parts.slices().map_err(|error| errors::to_py(py, error))?;
    let len: usize = slices.iter().map(|part| part.len()).sum();
    if len <= inline {
        return Ok((true, joined(py, &slices)?, None));
    }
    // Head and pickle; then for each buffer a gap, which is part of what stands before it, and the buffer.
    let mut places = create::collect(std::iter::empty())?;
    let mut first = 0;
    for (number, at) in (3..slices.len()).step_by(2).enumerate() {
        let memory = match &encoded {
            Encoded::Buffers(_, held) => held.get(number).and_then(|buffer| buffer.obj(py)),
            _ => Some(value),
        };
        create::push(&mut places, joined(py, &slices[first..at])?.into_any())?;
        create::push(&mut places, exported(value, memory.unwrap_or(value), slices[at])?)?;
        first = at + 1;
    }
    let places = create::list(py, places.into_iter().map(Ok))?;
    Ok((true, create::bytes(py, &[])?, Some(places)))
}

/// A `bytes` of these parts.
fn joined<'py>(py: Python<'py>, parts: &[&[u8]]) -> PyResult<Bound<'py, PyBytes>> {
    let len = parts.iter().map(|part| part.len()).sum();
    PyBytes::new_with(py, len, |mut to| {
        for part in parts {
            let (here, rest) = to.split_at_mut(part.len());
            here.copy_from_slice(part);
            to = rest;
        }
        Ok(())
    })
}

/// An object that has these bytes of `value`, which `memory` has exported: that memory itself if it is of a `bytes` or of
/// an array of numpy's, otherwise a copy. An object of another class could not be resized, or a view of the caller's not
/// released, as long as the call, or the traceback of its error, lives.
fn exported<'py>(value: &Bound<'py, PyAny>, memory: &Bound<'py, PyAny>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    if memory.is_exact_instance_of::<PyBytes>() {
        return Ok(memory.clone());
    }
    // What the pickler offers is a view already, and nobody else has that one.
    let view = memory.is_exact_instance_of::<PyMemoryView>() && !memory.is(value);
    let owner = if view { memory.getattr("obj")? } else { memory.clone() };
    let numpys = owner.get_type().module().is_ok_and(|module| module == "numpy");
    if numpys || (view && owner.is_exact_instance_of::<PyBytes>()) {
        let raw = match view {
            true => Ok(memory.clone()),
            false => calls::attribute(py, c"pickle", c"PickleBuffer")?
                .call1((owner,))
                .and_then(|held| held.call_method0("raw")),
        };
        // What numpy does not export, a date, is an error here; what it exports must be what was encoded.
        let same = |raw: &Bound<'py, PyAny>| {
            PyBuffer::<u8>::get(raw).is_ok_and(|found| {
                found.buf_ptr().cast::<u8>().cast_const() == bytes.as_ptr() && found.len_bytes() == bytes.len()
            })
        };
        if let Some(raw) = raw.ok().filter(same) {
            return Ok(raw);
        }
    }
    create::bytes(py, bytes).map(Bound::into_any)
}

/// A `bytearray` that the caller fills before anybody else sees it: until then its bytes are whatever was in memory.
/// Memory of this process is only taken as it is filled, however much somebody has claimed that will come.
#[pyfunction]
pub fn _unfilled(py: Python<'_>, len: usize) -> PyResult<Bound<'_, PyByteArray>> {
    if len > isize::MAX as usize {
        return Err(create::no_memory());
    }
    create::bytearray_with(py, len, |_| Ok(()))
}

/// Where the buffers are in a value of `total` bytes that begins with this table: offset and length. `None`: the table
/// is damaged. `head` may be longer than the table.
#[pyfunction]
pub fn _buffers_of(py: Python<'_>, head: &[u8], total: u64) -> PyResult<Option<Vec<(u64, u64)>>> {
    Ok(table_in(py, head, total)?.map(|table| table.buffers))
}

/// The value of a pickle and its buffers, of which it may keep the memory. All may be hostile.
#[pyfunction]
pub fn _decode_apart(
    py: Python<'_>,
    index: &Bound<'_, PyAny>,
    pickle: &[u8],
    buffers: Vec<Bound<'_, PyByteArray>>,
    trusted: bool,
    view: bool,
) -> PyResult<Py<PyAny>> {
    let index = &convert::index(index)?;
    let mode = if view { ReadMode::View } else { ReadMode::Own };
    decode_apart(py, ValueOf::Variable(index), pickle, buffers, trusted, mode)
}

/// The value of such bytes, which may be hostile. The error names `index`: the variable, or with `item` the queue.
#[pyfunction]
pub fn _decode_value(
    py: Python<'_>,
    index: &Bound<'_, PyAny>,
    beside: bool,
    data: &[u8],
    trusted: bool,
    view: bool,
    item: bool,
) -> PyResult<Py<PyAny>> {
    let index = &convert::index(index)?;
    let of = if item { ValueOf::Item(index) } else { ValueOf::Variable(index) };
    let mode = if view { ReadMode::View } else { ReadMode::Own };
    if !beside {
        return decode(py, of, data, trusted, mode);
    }
    match table(py, data)? {
        Some(table) => decode_buffers(py, of, data, &table, trusted, mode),
        None => Err(raise_text(py, c"CorruptSegmentError", &format!("{of}: its table of buffers is damaged"))),
    }
}

/// The table of a value with buffers. `None` if it is damaged.
fn table(py: Python<'_>, data: &[u8]) -> PyResult<Option<BufferTable>> {
    table_in(py, data, data.len() as u64)
}

/// The table of a value of `total` bytes with buffers that begins with `data`. `None` if it is damaged, or longer.
fn table_in(py: Python<'_>, data: &[u8], total: u64) -> PyResult<Option<BufferTable>> {
    let head = data.first_chunk::<16>().and_then(|start| buffers::head_len(*start));
    let Some(head) = head.and_then(|len| data.get(..len as usize)) else { return Ok(None) };
    buffers::parse(head, total).map_err(|error| errors::to_py(py, error))
}

/// A pickle, and the buffers beside it.
type Split<'a> = (&'a [u8], Vec<&'a [u8]>);

/// The pickle in such bytes, and its buffers. `None` if they are damaged.
fn split<'a>(py: Python<'_>, beside: bool, data: &'a [u8]) -> PyResult<Option<Split<'a>>> {
    if !beside {
        return Ok(Some((data, Vec::new())));
    }
    let Some(table) = table(py, data)? else { return Ok(None) };
    let part = |(at, len): (u64, u64)| &data[at as usize..(at + len) as usize];
    let parts: Vec<&[u8]> = create::collect(table.buffers.iter().map(|place| Ok(part(*place))))?;
    Ok(Some((part(table.pickle), parts)))
}

/// The name of the type of the value, found without running code.
#[pyfunction]
pub fn _value_type(py: Python<'_>, beside: bool, data: &[u8]) -> PyResult<String> {
    match split(py, beside, data)? {
        Some((pickle, _)) => kind::type_name(pickle).map_err(|error| errors::to_py(py, error)),
        None => Ok(kind::DAMAGED.to_owned()),
    }
}

/// A pickle of the value with its buffers inside. `None` if the bytes are damaged.
#[pyfunction]
pub fn _value_pickle<'py>(py: Python<'py>, beside: bool, data: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let Some((pickle, parts)) = split(py, beside, data)? else { return Ok(None) };
    if !beside {
        return create::bytes(py, pickle).map(Some);
    }
    let whole = buffers::in_band(pickle, &parts).map_err(|error| errors::to_py(py, error))?;
    whole.map(|whole| create::bytes(py, &whole)).transpose()
}
