//! Python objects over a segment's memory: read-only views, and private copy-on-write maps.

use crate::codec::buffers::Parsed;
use crate::os::map::Private;
use crate::process::pins::OwnedPin;

use crate::py::create;
use crate::py::errors;
use crate::py::read_mode::ReadMode;
use crate::segment::Segment;
use crate::variables::read::Large;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;
use std::ffi::c_int;
use std::sync::Arc;

/// From so many bytes on a private map is quicker than a copy (bench/large.py, `crossover`: read whole, they meet between
/// 256 and 512 KiB; until the first element the map is quicker from 128 KiB on).
const MAP_FROM: u64 = 256 << 10;

/// How the buffers of a value come to the caller.
pub enum BufferAccess<'py, 'a> {
    /// As `memoryview`s over memory that stays.
    Views(Vec<Bound<'py, PyAny>>),
    /// Not so: copy them.
    Copy(Large<'a>),
}

/// One buffer of a value, kept still for as long as this object lives. Nobody but a `memoryview` gets to see it: Python code
/// that is handed a buffer expects something with a length and items.
#[pyclass(frozen, name = "Block", module = "shmvar._core")]
struct PinnedBuffer {
    ptr: *mut u8,
    len: usize,
    readonly: bool,
    /// What the memory belongs to.
    _owner: Arc<PinnedMemory>,
}

// SAFETY: the memory is pinned, or private; access goes through the buffer protocol, as for any exporter.
unsafe impl Send for PinnedBuffer {}
// SAFETY: as above.
unsafe impl Sync for PinnedBuffer {}

/// The order matters: the map goes before the pin that keeps its pages from being given to others.
struct PinnedMemory {
    _map: Option<Private>,
    _pin: OwnedPin,
}

#[pymethods]
impl PinnedBuffer {
    /// # Safety
    /// Called by the interpreter.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(errors::builtin::<PyBufferError>("no view to fill"));
        }
        let block = slf.get();
        // SAFETY: `view` is the interpreter's; the memory lives as long as the block, of which the view holds a reference.
        let filled = unsafe {
            let (ptr, len) = (block.ptr.cast(), block.len as ffi::Py_ssize_t);
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), ptr, len, c_int::from(block.readonly), flags)
        };
        if filled == -1 { Err(PyErr::fetch(slf.py())) } else { Ok(()) }
    }

    /// Nothing to give back: the view's reference to the block is all there is.
    ///
    /// # Safety
    /// Called by the interpreter.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}

/// Objects over the buffers of a pinned value. Where it is not pinned, or small, or the system has no more maps: a copy.
pub fn views_of<'py, 'a>(
    py: Python<'py>,
    segment: &Segment,
    large: Large<'a>,
    parsed: &Parsed,
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
                .with_file(|fd| Private::new(fd, value + start, len))
                .map_err(|e| errors::of_segment(py, segment.key(), e))?;
            let Ok(map) = mapped else { return Ok(BufferAccess::Copy(large)) };
            let base = map.ptr();
            (Some(map), base)
        }
        ReadMode::View => {
            (None, att.mem.address(value + start, len).map_err(|e| errors::of_segment(py, segment.key(), e))?)
        }
    };
    let Some(pin) = large.keep() else { return Err(errors::builtin::<PyBufferError>("the value is not pinned")) };
    let owner = Arc::new(PinnedMemory { _map: map, _pin: pin });
    let mut objects = create::collect(std::iter::empty())?;
    for (at, len) in &parsed.buffers {
        let (Some(within), len) = (at.checked_sub(start), *len as usize) else {
            return Err(errors::builtin::<PyBufferError>("the buffers of the value are out of order"));
        };
        let ptr = base.wrapping_add(within as usize);
        let block = PinnedBuffer { ptr, len, readonly: mode == ReadMode::View, _owner: owner.clone() };
        create::push(&mut objects, PyMemoryView::from(Bound::new(py, block)?.as_any())?.into_any())?;
    }
    Ok(BufferAccess::Views(objects))
}
