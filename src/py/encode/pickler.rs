//! Pickles values with the C pickler. Buffers that are large enough are stored beside the pickle.

use super::bare_buffer::bare_buffer;
use super::encoded::{Encoded, PickleStream};
use super::out_of_band::{BufferCallback, CollectedBuffers};
use crate::codec::arrays;
use crate::py::calls;
use crate::py::create;
use crate::py::errors;
use crate::py::numpy::{self, Reducers};
use crate::py::pickle::names_numpy;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};
use std::sync::atomic::{AtomicBool, Ordering};

/// Pickles a value that is no scalar.
pub(super) fn pickle<'a, 'py>(value: &'a Bound<'py, PyAny>) -> PyResult<Encoded<'a, 'py>> {
    let py = value.py();
    if let Some(encoded) = bare_buffer(value)? {
        return Ok(encoded);
    }
    if numpy::may_hold_arrays(value)? {
        return pickle_arrays(value);
    }
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static USUAL: PyOnceLock<(Py<BufferCallback>, Py<PyDict>)> = PyOnceLock::new();
    static BUSY: AtomicBool = AtomicBool::new(false);
    let dumps = calls::cached_attribute(py, &DUMPS, c"_pickle", c"dumps")?;
    let make = || -> PyResult<(Py<BufferCallback>, Py<PyDict>)> {
        let callback = Py::new(py, BufferCallback::default())?;
        let named = create::dict(py)?;
        named.set_item(create::text(py, "protocol")?, create::int(py, 5)?)?;
        named.set_item(create::text(py, "buffer_callback")?, &callback)?;
        Ok((callback, named.unbind()))
    };
    // Pickling runs user code, which may itself store into a segment or let another thread do so. Each call therefore
    // needs a callback of its own. Creating one costs more than pickling a small dict, so one is kept, and the first
    // call gets it.
    let usual = calls::once(py, &USUAL, make)?;
    let first = !BUSY.swap(true, Ordering::Acquire);
    let (callback, named) = if first { (usual.0.clone_ref(py), usual.1.clone_ref(py)) } else { make()? };
    let arguments = create::tuple(py, [value.clone()].into_iter().map(Ok));
    let pickled = arguments.and_then(|arguments| dumps.call(arguments, Some(named.bind(py))));
    let CollectedBuffers { buffers, read_only } = callback.get().take();
    if first {
        BUSY.store(false, Ordering::Release);
    }
    let encoded = finished(pickled?.cast_into()?, buffers, read_only)?;
    if let Encoded::Buffers(PickleStream::Pickled(stream), buffers) = &encoded {
        if let [buffer] = &buffers[..] {
            numpy::remember(value, stream.as_bytes(), buffer)?;
        }
    }
    Ok(encoded)
}

/// Pickles a value that may hold arrays that numpy would copy into the pickle: with reducers for these.
#[cold]
fn pickle_arrays<'a, 'py>(value: &Bound<'py, PyAny>) -> PyResult<Encoded<'a, 'py>> {
    let py = value.py();
    static PICKLER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static BYTES_IO: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let stream = calls::cached_attribute(py, &BYTES_IO, c"_io", c"BytesIO")?.call0()?;
    let callback = Bound::new(py, BufferCallback::default())?;
    let pickler =
        calls::cached_attribute(py, &PICKLER, c"_pickle", c"Pickler")?.call1((&stream, 5, true, &callback))?;
    pickler.setattr(pyo3::intern!(py, "dispatch_table"), Reducers::get(py)?)?;
    pickler.call_method1(pyo3::intern!(py, "dump"), (value,))?;
    // The pickler's memo keeps objects alive that were created only for the pickle.
    drop(pickler);
    let CollectedBuffers { buffers, read_only } = callback.get().take();
    finished(stream.call_method0(pyo3::intern!(py, "getvalue"))?.cast_into()?, buffers, read_only)
}

/// The result, from what the pickler wrote and what its callback collected.
#[inline(always)]
fn finished<'a, 'py>(
    mut pickled: Bound<'py, PyBytes>,
    buffers: Vec<PyBuffer<u8>>,
    read_only: bool,
) -> PyResult<Encoded<'a, 'py>> {
    let py = pickled.py();
    // A reader gets arrays of its own, which it may change, even if the array that was stored is read-only.
    if read_only && names_numpy(pickled.as_bytes()) {
        let writable = arrays::make_writable(pickled.as_bytes()).map_err(|error| errors::to_py(py, error))?;
        if let Some(writable) = writable {
            pickled = create::bytes(py, &writable)?;
        }
    }
    if buffers.is_empty() {
        return Ok(Encoded::Pickled(pickled));
    }
    Ok(Encoded::Buffers(PickleStream::Pickled(pickled), buffers))
}
