//! What the pickler hands its out-of-band buffers to.

use crate::codec::buffers::OUT_OF_BAND;
use crate::py::create;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the pickler hands its out-of-band buffers to.
#[pyclass(frozen)]
#[derive(Default)]
pub(super) struct BufferCallback {
    /// Something was handed over, or may have been.
    called: AtomicBool,
    given: Mutex<CollectedBuffers>,
}

#[derive(Default)]
pub(super) struct CollectedBuffers {
    /// Those that are stored beside the pickle.
    pub buffers: Vec<PyBuffer<u8>>,
    /// One or more, short ones too, cannot be written.
    pub read_only: bool,
}

impl BufferCallback {
    pub fn take(&self) -> CollectedBuffers {
        match self.called.load(Ordering::Acquire) && self.called.swap(false, Ordering::Acquire) {
            true => std::mem::take(&mut *self.given.lock().unwrap_or_else(|e| e.into_inner())),
            false => CollectedBuffers::default(),
        }
    }
}

#[pymethods]
impl BufferCallback {
    /// True: pickle it within the stream.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        // Not contiguous: the pickler says so itself.
        let raw = match buffer.call_method0("raw") {
            Err(error) if error.is_instance_of::<PyBufferError>(buffer.py()) => return Ok(true),
            raw => raw?,
        };
        let raw = PyBuffer::<u8>::get(&raw)?;
        let within = raw.len_bytes() < OUT_OF_BAND;
        if !within || raw.readonly() {
            self.called.store(true, Ordering::Release);
            let mut given = self.given.lock().unwrap_or_else(|e| e.into_inner());
            given.read_only |= raw.readonly();
            if !within {
                create::push(&mut given.buffers, raw)?;
            }
        }
        Ok(within)
    }
}
