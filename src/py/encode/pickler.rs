//! Values by the C pickler, with the buffers that are worth it beside the stream.

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

/// By the C pickler, with the buffers that are worth it beside the stream.
pub(super) fn pickle<'a, 'py>(value: &Bound<'py, PyAny>) -> PyResult<Encoded<'a, 'py>> {
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
        let sink = Py::new(py, BufferCallback::default())?;
        let named = create::dict(py)?;
        named.set_item(create::text(py, "protocol")?, create::int(py, 5)?)?;
        named.set_item(create::text(py, "buffer_callback")?, &sink)?;
        Ok((sink, named.unbind()))
    };
    // Pickling runs user code, which may pickle into a segment, or let another thread do so: each has a sink of its own, but
    // making one costs more than pickling a small dict, so one is kept for whoever comes first.
    let usual = USUAL.get_or_try_init(py, make)?;
    let first = !BUSY.swap(true, Ordering::Acquire);
    let (sink, named) = if first { (usual.0.clone_ref(py), usual.1.clone_ref(py)) } else { make()? };
    let arguments = create::tuple(py, [value.clone()].into_iter().map(Ok));
    let pickled = arguments.and_then(|arguments| dumps.call(arguments, Some(named.bind(py))));
    let CollectedBuffers { buffers: taken, read_only } = sink.get().take();
    if first {
        BUSY.store(false, Ordering::Release);
    }
    finished(pickled?.cast_into()?, taken, read_only)
}

/// The same with reducers for arrays that numpy would copy into the pickle.
#[cold]
fn pickle_arrays<'a, 'py>(value: &Bound<'py, PyAny>) -> PyResult<Encoded<'a, 'py>> {
    let py = value.py();
    static PICKLER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static BYTES_IO: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let stream = BYTES_IO.import(py, "_io", "BytesIO")?.call0()?;
    let sink = Bound::new(py, BufferCallback::default())?;
    let pickler = PICKLER.import(py, "_pickle", "Pickler")?.call1((&stream, 5, true, &sink))?;
    pickler.setattr(pyo3::intern!(py, "dispatch_table"), Reducers::get(py)?)?;
    pickler.call_method1(pyo3::intern!(py, "dump"), (value,))?;
    // Its memo keeps alive what was made for the pickle alone.
    drop(pickler);
    let CollectedBuffers { buffers: taken, read_only } = sink.get().take();
    finished(stream.call_method0(pyo3::intern!(py, "getvalue"))?.cast_into()?, taken, read_only)
}

#[inline(always)]
fn finished<'a, 'py>(
    mut pickled: Bound<'py, PyBytes>,
    taken: Vec<PyBuffer<u8>>,
    read_only: bool,
) -> PyResult<Encoded<'a, 'py>> {
    let py = pickled.py();
    // What a reader gets is its own, and may be changed, whether the memory that was copied may or not.
    if read_only && names_numpy(pickled.as_bytes()) {
        let writable = arrays::writable(pickled.as_bytes()).map_err(|error| errors::to_py(py, error))?;
        if let Some(writable) = writable {
            pickled = create::bytes(py, &writable)?;
        }
    }
    if taken.is_empty() {
        return Ok(Encoded::Pickled(pickled));
    }
    Ok(Encoded::Buffers(PickleStream::Pickled(pickled), taken))
}
