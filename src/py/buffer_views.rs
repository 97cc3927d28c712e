//! Objects over the buffers of a pinned value: read-only over the segment's memory, writable over a private
//! copy-on-write map, or, of a value in place, writable over the segment's memory.
//!
//! What is not pinned, or too short for a map, is copied by `decode::large`.

use crate::os::map::PrivateMap;
use crate::process::pins::OwnedPin;

use crate::py::create;
use crate::py::errors;
use crate::py::read_mode::ReadMode;
use crate::segment::Segment;
use crate::variables::large::LargeValue;
use pyo3::PyTypeInfo;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;
use std::ffi::c_int;
use std::sync::Arc;

/// From this many bytes on, a private map is made instead of a copy. Up to here, whoever looks at all of the value is
/// quicker with a copy, and whoever looks at its first element hardly slower. At 512 KiB the copy costs 26 us, the map
/// 10 us and 14 us more of page faults for who reads all of it; at 256 KiB copy and map cost the same with the first
/// element, and reading all of it costs half as much again with the map. (Whoever writes to all of it is quicker with a
/// copy at any size.) `bench/sizes.py` measures it ("get, and read all").
pub const MAP_FROM: u64 = 512 << 10;

/// How the caller gets at the buffers of a value.
pub enum BufferAccess<'a, T> {
    /// As `memoryview`s over memory that stays valid as long as they live.
    Views(T),
    /// The caller must copy them.
    Copy(LargeValue<'a>),
}

/// One buffer of a value, whose memory stays that value's as long as this object lives. Only an array or a `memoryview`
/// refers to it, because Python code that is given a buffer expects an object with a length and items.
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

/// Makes the class of the objects now, so that the first view of a program need not.
pub fn prepare(py: Python<'_>) {
    let _ = PinnedBuffer::type_object(py);
}

/// Makes `memoryview`s over the buffers of a value. The caller must copy instead if the value is not pinned, if it is
/// to be writable and is short, or if the system allows no more maps. `total` is the length of all buffers together.
pub fn views_of<'py, 'a>(
    py: Python<'py>,
    segment: &Segment,
    large: LargeValue<'a>,
    buffers: &[(u64, u64)],
    mode: ReadMode,
    total: u64,
) -> PyResult<BufferAccess<'a, Vec<Bound<'py, PyAny>>>> {
    let (Some(first), Some(last)) = (buffers.first(), buffers.last()) else {
        return Ok(BufferAccess::Copy(large));
    };
    // A private map of what others change would show their changes.
    if !large.pinned() || (mode == ReadMode::Own && (total < MAP_FROM || large.is_in_place())) {
        return Ok(BufferAccess::Copy(large));
    }
    let (start, len) = (first.0, (last.0 + last.1 - first.0) as usize);
    let (base, owner) = match memory_of(py, segment, large, (start, len), mode)? {
        BufferAccess::Views(memory) => memory,
        BufferAccess::Copy(large) => return Ok(BufferAccess::Copy(large)),
    };
    let owner = Arc::new(owner);
    let mut objects = create::collect(std::iter::empty())?;
    for (at, len) in buffers {
        let (Some(within), len) = (at.checked_sub(start), *len as usize) else {
            return Err(errors::builtin::<PyBufferError>("the buffers of the value are out of order"));
        };
        let ptr = base.wrapping_add(within as usize);
        let buffer = PinnedBuffer { ptr, len, readonly: mode == ReadMode::View, _owner: owner.clone() };
        create::push(&mut objects, PyMemoryView::from(Bound::new(py, buffer)?.as_any())?.into_any())?;
    }
    Ok(BufferAccess::Views(objects))
}

/// Makes an object over the only buffer of a value that is pinned, for an array to lie over. The caller must copy
/// instead if the system allows no more maps.
pub fn memory_for_array<'py, 'a>(
    py: Python<'py>,
    segment: &Segment,
    large: LargeValue<'a>,
    (at, len): (u64, u64),
    mode: ReadMode,
) -> PyResult<BufferAccess<'a, Bound<'py, PyAny>>> {
    let (ptr, owner) = match memory_of(py, segment, large, (at, len as usize), mode)? {
        BufferAccess::Views(memory) => memory,
        BufferAccess::Copy(large) => return Ok(BufferAccess::Copy(large)),
    };
    let buffer = PinnedBuffer { ptr, len: len as usize, readonly: mode == ReadMode::View, _owner: Arc::new(owner) };
    Ok(BufferAccess::Views(Bound::new(py, buffer)?.into_any()))
}

/// Makes an object over the buffer of a pinned value in place: the segment's own memory.
pub fn memory_in_place<'py>(
    py: Python<'py>,
    segment: &Segment,
    large: LargeValue<'_>,
    (at, len): (u64, u64),
    readonly: bool,
) -> PyResult<Bound<'py, PyAny>> {
    match memory_of(py, segment, large, (at, len as usize), ReadMode::View)? {
        BufferAccess::Views((ptr, owner)) => {
            let buffer = PinnedBuffer { ptr, len: len as usize, readonly, _owner: Arc::new(owner) };
            Ok(Bound::new(py, buffer)?.into_any())
        }
        BufferAccess::Copy(_) => Err(errors::builtin::<PyBufferError>("the value is not pinned")),
    }
}

/// The address of a part of a pinned value, and what keeps its memory valid.
fn memory_of<'a>(
    py: Python<'_>,
    segment: &Segment,
    large: LargeValue<'a>,
    (at, len): (u64, usize),
    mode: ReadMode,
) -> PyResult<BufferAccess<'a, (*mut u8, PinnedMemory)>> {
    let failed = |error| errors::of_segment(py, segment.key(), error);
    let (att, offset) = (large.attachment(), large.offset() + at);
    let (map, base) = match mode {
        ReadMode::Own => {
            let Ok(map) = att.with_file(|fd| PrivateMap::new(fd, offset, len)).map_err(failed)? else {
                return Ok(BufferAccess::Copy(large));
            };
            let base = map.ptr();
            (Some(map), base)
        }
        ReadMode::View => (None, att.mem.address(offset, len).map_err(failed)?),
    };
    let Some(pin) = large.into_owned_pin() else {
        return Err(errors::builtin::<PyBufferError>("the value is not pinned"));
    };
    Ok(BufferAccess::Views((base, PinnedMemory { _map: map, _pin: pin })))
}
