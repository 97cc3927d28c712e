//! What segments on a server (`shmvar._remote`, docs/remote.md) need of the core: which keys are URLs, and values to
//! bytes and back. The bytes of a value are those of a record of this machine: a pickle, or a table of buffers, the
//! pickle and the buffers ([`crate::codec::buffers`]).

use crate::codec::buffers::{self, BufferTable};
use crate::codec::kind;
use crate::py::convert;
use crate::py::create;
use crate::py::decode::{ValueOf, decode, decode_buffers};
use crate::py::encode;
use crate::py::errors::{self, raise_text};
use crate::py::read_mode::ReadMode;
use crate::variables::stored::Layout;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// Only these are URLs: any other text is the key of a segment of this machine.
const SCHEMES: [&str; 6] = ["valkey://", "valkeys://", "valkey+unix://", "redis://", "rediss://", "redis+unix://"];

/// The package for segments on a server, if `key` is a URL of one. It is imported with the first URL.
#[inline]
pub fn package<'py>(key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyModule>>> {
    let Ok(text) = key.cast::<PyString>() else { return Ok(None) };
    // A text that is not UTF-8 is no URL; the caller finds out what is wrong with it.
    let is_url = text.to_str().is_ok_and(|text| SCHEMES.iter().any(|scheme| text.starts_with(scheme)));
    is_url.then(|| key.py().import("shmvar._remote")).transpose()
}

/// Encodes a value as `put` does. Returns whether there are buffers beside the pickle, and the bytes.
#[pyfunction]
pub fn _encode_value<'py>(value: &Bound<'py, PyAny>) -> PyResult<(bool, Bound<'py, PyBytes>)> {
    let py = value.py();
    let mut made = None;
    let encoded = encode::encode(value)?;
    let stored = encoded.with(|stored| {
        let len = stored.parts.iter().map(|part| part.len()).sum();
        let mut whole = crate::fallible::with_room(len, "a value")?;
        stored.parts.iter().for_each(|part| whole.extend_from_slice(part));
        made = Some((matches!(stored.layout, Layout::Buffers), whole));
        Ok(())
    });
    stored.map_err(|error| errors::to_py(py, error))?;
    let (beside, whole) = made.unwrap_or_default();
    Ok((beside, create::bytes(py, &whole)?))
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
    let head = data.first_chunk::<16>().and_then(|start| buffers::head_len(*start));
    let Some(head) = head.and_then(|len| data.get(..len as usize)) else { return Ok(None) };
    buffers::parse(head, data.len() as u64).map_err(|error| errors::to_py(py, error))
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
