//! Collects the buffers that the pickler offers to leave out of the pickle (`buffer_callback`, PEP 574).

use crate::codec::buffers::OUT_OF_BAND;
use crate::py::create;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The `buffer_callback` of a pickler.
#[pyclass(frozen)]
#[derive(Default)]
pub(super) struct BufferCallback {
    /// A buffer was collected, or may have been: if not, the mutex need not be locked.
    called: AtomicBool,
    collected: Mutex<CollectedBuffers>,
}

/// What a [`BufferCallback`] has collected.
#[derive(Default)]
pub(super) struct CollectedBuffers {
    /// The buffers that are stored beside the pickle.
    pub buffers: Vec<PyBuffer<u8>>,
    /// At least one buffer that the pickler offered is read-only, short ones included.
    pub read_only: bool,
}

impl BufferCallback {
    /// Takes out what was collected.
    pub fn take(&self) -> CollectedBuffers {
        match self.called.load(Ordering::Acquire) && self.called.swap(false, Ordering::Acquire) {
            true => std::mem::take(&mut *self.collected.lock().unwrap_or_else(|e| e.into_inner())),
            false => CollectedBuffers::default(),
        }
    }
}

#[pymethods]
impl BufferCallback {
    /// Returns whether the pickler shall put this buffer into the pickle.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        // The buffer is not contiguous. The pickler reports that itself.
        let raw = match buffer.call_method0("raw") {
            Err(error) if error.is_instance_of::<PyBufferError>(buffer.py()) => return Ok(true),
            raw => raw?,
        };
        let raw = PyBuffer::<u8>::get(&raw)?;
        let within = raw.len_bytes() < OUT_OF_BAND;
        if !within || raw.readonly() {
            self.called.store(true, Ordering::Release);
            let mut collected = self.collected.lock().unwrap_or_else(|e| e.into_inner());
            collected.read_only |= raw.readonly();
            if !within {
                create::push(&mut collected.buffers, raw)?;
            }
        }
        Ok(within)
    }
}
