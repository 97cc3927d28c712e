//! `memoryview`s over the buffers of a pinned value: read-only over the segment's memory, or writable over a private
//! copy-on-write map.
//!
//! What is not pinned, or too short for a map, is copied by `decode::large`.

use crate::codec::buffers::BufferTable;
use crate::os::map::PrivateMap;
use crate::process::pins::OwnedPin;

use crate::py::create;
use crate::py::errors;
use crate::py::read_mode::ReadMode;
use crate::segment::Segment;
use crate::variables::large::LargeValue;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;
use std::ffi::c_int;
use std::sync::Arc;

/// From this many bytes on, a private map is faster than a copy. Measured by bench/large.py (`crossover`): for reading
/// the whole value, the two are equally fast between 256 and 512 KiB; for reading its first element, the map is faster
/// from 128 KiB on.
const MAP_FROM: u64 = 256 << 10;

/// How the caller gets at the buffers of a value.
pub enum BufferAccess<'py, 'a> {
    /// As `memoryview`s over memory that stays valid as long as they live.
    Views(Vec<Bound<'py, PyAny>>),
    /// The caller must copy them.
    Copy(LargeValue<'a>),
}

/// One buffer of a value, whose memory does not change as long as this object lives. Only a `memoryview` refers to it,
/// because Python code that is given a buffer expects an object with a length and items.
#[pyclass(frozen, name = "Block", module = "shmvar._core")]
struct PinnedBuffer {
    ptr: *mut u8,
    len: usize,
    readonly: bool,
    /// Keeps the memory valid.
    _owner: Arc<PinnedMemory>,
}

// SAFETY: the memory is pinned or private, and access goes through the buffer protocol, as with any exporter.
unsafe impl Send for PinnedBuffer {}
// SAFETY: as above.
unsafe impl Sync for PinnedBuffer {}

/// Keeps the memory of a value valid. The order of the fields matters: the map must be dropped before the pin, because
/// the pin keeps the map's pages from being given to another value.
struct PinnedMemory {
    _map: Option<PrivateMap>,
    _pin: OwnedPin,
}

#[pymethods]
impl PinnedBuffer {
    /// # Safety
    /// Only the interpreter calls it.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(errors::builtin::<PyBufferError>("no view to fill"));
        }
        let buffer = slf.get();
        // SAFETY: `view` is the interpreter's. The memory lives as long as this object, and the view holds a reference
        // to it.
        let filled = unsafe {
            let (ptr, len) = (buffer.ptr.cast(), buffer.len as ffi::Py_ssize_t);
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), ptr, len, c_int::from(buffer.readonly), flags)
        };
        if filled == -1 { Err(PyErr::fetch(slf.py())) } else { Ok(()) }
    }

    /// Does nothing: a view holds nothing but its reference to this object.
    ///
    /// # Safety
    /// Only the interpreter calls it.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}

/// Makes `memoryview`s over the buffers of a value. The caller must copy instead if the value is not pinned, if it is
/// to be writable and is short, or if the system allows no more maps. `total` is the length of all buffers together.
pub fn views_of<'py, 'a>(
    py: Python<'py>,
    segment: &Segment,
    large: LargeValue<'a>,
    parsed: &BufferTable,
    mode: ReadMode,
    total: u64,
) -> PyResult<BufferAccess<'py, 'a>> {
    let (Some(first), Some(last)) = (parsed.buffers.first(), parsed.buffers.last()) else {
        return Ok(BufferAccess::Copy(large));
    };
    if !large.pinned() || (mode == ReadMode::Own && total < MAP_FROM) {
        return Ok(BufferAccess::Copy(large));
    }
    let (value, start, len) = (large.offset(), first.0, (last.0 + last.1 - first.0) as usize);
    let att = large.attachment();
    let (map, base) = match mode {
        ReadMode::Own => {
            let mapped = att
                .with_file(|fd| PrivateMap::new(fd, value + start, len))
                .map_err(|e| errors::of_segment(py, segment.key(), e))?;
            let Ok(map) = mapped else { return Ok(BufferAccess::Copy(large)) };
            let base = map.ptr();
            (Some(map), base)
        }
        ReadMode::View => {
            (None, att.mem.address(value + start, len).map_err(|e| errors::of_segment(py, segment.key(), e))?)
        }
    };
    let Some(pin) = large.into_owned_pin() else {
        return Err(errors::builtin::<PyBufferError>("the value is not pinned"));
    };
    let owner = Arc::new(PinnedMemory { _map: map, _pin: pin });
    let mut objects = create::collect(std::iter::empty())?;
    for (at, len) in &parsed.buffers {
        let (Some(within), len) = (at.checked_sub(start), *len as usize) else {
            return Err(errors::builtin::<PyBufferError>("the buffers of the value are out of order"));
        };
        let ptr = base.wrapping_add(within as usize);
        let buffer = PinnedBuffer { ptr, len, readonly: mode == ReadMode::View, _owner: owner.clone() };
        create::push(&mut objects, PyMemoryView::from(Bound::new(py, buffer)?.as_any())?.into_any())?;
    }
    Ok(BufferAccess::Views(objects))
}
