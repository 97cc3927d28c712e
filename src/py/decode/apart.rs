//! Reads a value with buffers whose bytes lie in the process's own memory: a value of a segment on a server.

use super::failure::{ValueOf, explain};
use super::value::{array_items, decode_data_only_buffers};
use crate::codec::buffers::{self, BufferTable};
use crate::py::calls;
use crate::py::create;
use crate::py::pickle::loads;
use crate::py::read_mode::ReadMode;
use crate::py::read_only;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

/// The value of `data`, which `table` describes. The buffers are copied.
pub fn decode_buffers(
    py: Python<'_>,
    of: ValueOf<'_>,
    data: &[u8],
    table: &BufferTable,
    trusted: bool,
    mode: ReadMode,
) -> PyResult<Py<PyAny>> {
    let part = |(at, len): (u64, u64)| &data[at as usize..(at + len) as usize];
    let stream = part(table.pickle);
    if stream == buffers::BYTES && table.buffers.len() == 1 {
        return read_only::in_mode(py, create::bytes(py, part(table.buffers[0]))?.into_any().unbind(), mode);
    }
    let copies = table.buffers.iter().map(|place| {
        let source = part(*place);
        PyByteArray::new_with(py, source.len(), |copy| {
            copy.copy_from_slice(source);
            Ok(())
        })
    });
    decode_apart(py, of, stream, create::collect(copies)?, trusted, mode)
}

/// The value of this pickle and its buffers, which become part of it.
pub fn decode_apart<'py>(
    py: Python<'py>,
    of: ValueOf<'_>,
    stream: &[u8],
    copies: Vec<Bound<'py, PyByteArray>>,
    trusted: bool,
    mode: ReadMode,
) -> PyResult<Py<PyAny>> {
    match (&copies[..], mode) {
        ([buffer], _) if stream == buffers::BYTES => {
            let bytes = py.get_type::<PyBytes>().call1((buffer,))?;
            return read_only::in_mode(py, bytes.unbind(), mode);
        }
        ([buffer], ReadMode::Own) if stream == buffers::BYTEARRAY => return Ok(buffer.clone().into_any().unbind()),
        _ => {}
    }
    if let (ReadMode::View, Some(code), [buffer]) = (mode, buffers::array_code(stream), &copies[..]) {
        // Rebuilding the `array.array` would copy, so the view is a memoryview of its items.
        return array_items(buffer, code)?.call_method0("toreadonly").map(Bound::unbind);
    }
    if !trusted {
        let value = decode_data_only_buffers(py, of, stream, copies, mode)?;
        return read_only::in_mode(py, value, mode);
    }
    let objects = copies.into_iter().map(|copy| {
        let buffer = PyMemoryView::from(&copy)?.into_any();
        match mode {
            ReadMode::Own => Ok(buffer),
            ReadMode::View => buffer.call_method0("toreadonly"),
        }
    });
    let objects = create::collect(objects)?;
    let bare = stream == buffers::MEMORYVIEW || (stream == buffers::BYTEARRAY && mode == ReadMode::View);
    if let (true, [buffer]) = (bare, &objects[..]) {
        return Ok(buffer.clone().unbind());
    }
    let named = create::dict(py)?;
    named.set_item(create::text(py, "buffers")?, create::list(py, objects.into_iter().map(Ok))?)?;
    let pickle = create::bytes(py, stream)?;
    let value = match mode {
        ReadMode::Own => calls::call(loads(py)?, [pickle.into_any()], Some(&named)),
        ReadMode::View => read_only::unpickle(pickle, Some(&named)),
    };
    value.map(Bound::unbind).map_err(|error| explain(py, error, of, stream))
}
