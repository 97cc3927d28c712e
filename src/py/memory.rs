//! Python objects over a segment's memory: read-only views, and private copy-on-write maps.

use crate::codec::buffers::BufferTable;
use crate::os::map::PrivateMap;
use crate::process::pins::OwnedPin;
use crate::py::decode::Want;
use crate::py::errors;
use crate::py::made;
use crate::segment::Segment;
use crate::variables::large::LargeValue;
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
pub enum Memory<'py, 'a> {
    /// As `memoryview`s over memory that stays.
    Objects(Vec<Bound<'py, PyAny>>),
    /// Not so: copy them.
    Copy(LargeValue<'a>),
}

/// One buffer of a value, kept still for as long as this object lives. Nobody but a `memoryview` gets to see it: Python code
/// that is handed a buffer expects something with a length and items.
#[pyclass(frozen, name = "Block", module = "shmvar._core")]
struct Block {
    ptr: *mut u8,
    len: usize,
    readonly: bool,
    /// What the memory belongs to.
    _owner: Arc<Owner>,
}

// SAFETY: the memory is pinned, or private; access goes through the buffer protocol, as for any exporter.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// The order matters: the map goes before the pin that keeps its pages from being given to others.
struct Owner {
    _map: Option<PrivateMap>,
    _pin: OwnedPin,
}

#[pymethods]
impl Block {
    /// # Safety
    /// Called by the interpreter.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(made::error::<PyBufferError>("no view to fill"));
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
pub fn over<'py, 'a>(
    py: Python<'py>,
    segment: &Segment,
    large: LargeValue<'a>,
    parsed: &BufferTable,
    want: Want,
    total: u64,
) -> PyResult<Memory<'py, 'a>> {
    let (Some(first), Some(last)) = (parsed.buffers.first(), parsed.buffers.last()) else {
        return Ok(Memory::Copy(large));
    };
    if !large.pinned() || (want == Want::Own && total < MAP_FROM) {
        return Ok(Memory::Copy(large));
    }
    let (value, start, len) = (large.offset(), first.0, (last.0 + last.1 - first.0) as usize);
    let att = large.attachment();
    let (map, base) = match want {
        Want::Own => {
            let mapped = att
                .with_file(|fd| PrivateMap::new(fd, value + start, len))
                .map_err(|e| errors::of(py, segment.key(), e))?;
            let Ok(map) = mapped else { return Ok(Memory::Copy(large)) };
            let base = map.ptr();
            (Some(map), base)
        }
        Want::View => (None, att.mem.address(value + start, len).map_err(|e| errors::of(py, segment.key(), e))?),
    };
    let Some(pin) = large.into_owned_pin() else { return Err(made::error::<PyBufferError>("the value is not pinned")) };
    let owner = Arc::new(Owner { _map: map, _pin: pin });
    let mut objects = made::collected(std::iter::empty())?;
    for (at, len) in &parsed.buffers {
        let (Some(within), len) = (at.checked_sub(start), *len as usize) else {
            return Err(made::error::<PyBufferError>("the buffers of the value are out of order"));
        };
        let ptr = base.wrapping_add(within as usize);
        let block = Block { ptr, len, readonly: want == Want::View, _owner: owner.clone() };
        made::push(&mut objects, PyMemoryView::from(Bound::new(py, block)?.as_any())?.into_any())?;
    }
    Ok(Memory::Objects(objects))
}
