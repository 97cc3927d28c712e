//! Encodes large bytes-like values without the pickler, which would copy them or refuse them, and arrays, for which it
//! takes longer.

use super::encoded::{Encoded, PickleStream};
use crate::codec::buffers::{self, OUT_OF_BAND};
use crate::py::calls::IMMUTABLE;
use crate::py::numpy;
use pyo3::buffer::PyBuffer;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyMemoryView, PySlice};

/// Encodes a large array of numpy's, `bytearray` or `array.array`, or any `mmap` or `memoryview` of plain bytes, as a
/// constant pickle and the buffer. `None` for other values.
pub(super) fn bare_buffer<'a, 'py>(value: &'a Bound<'py, PyAny>) -> PyResult<Option<Encoded<'a, 'py>>> {
    let py = value.py();
    // SAFETY: the object is borrowed. Most values have no buffer and cost only this check.
    if unsafe { ffi::PyObject_CheckBuffer(value.as_ptr()) } == 0 {
        return Ok(None);
    }
    if let Some(array) = numpy::pickled(value)? {
        return Ok(Some(Encoded::Array(array)));
    }
    let beside = |buffer: PyBuffer<u8>, stream| Ok(Some(Encoded::Buffers(stream, vec![buffer])));
    let plain = |value: &Bound<'py, PyAny>| match PyBuffer::<u8>::get(value) {
        Ok(buffer) if buffer.dimensions() == 1 && buffer.is_c_contiguous() => Some(buffer),
        Ok(_) => None,
        Err(_) => {
            drop(PyErr::take(py));
            None
        }
    };
    if value.is_exact_instance_of::<PyByteArray>() {
        return match plain(value).filter(|buffer| buffer.len_bytes() >= OUT_OF_BAND) {
            Some(buffer) => beside(buffer, PickleStream::Constant(buffers::BYTEARRAY)),
            None => Ok(None),
        };
    }
    // These two may be short, because the pickler would refuse them.
    if value.is_instance_of::<PyMemoryView>() || is_of(value, "mmap", "mmap")? {
        return match plain(value) {
            Some(buffer) => beside(buffer, PickleStream::Constant(buffers::MEMORYVIEW)),
            None => Ok(None),
        };
    }
    if is_of(value, "array", "array")? {
        let code = value.getattr("typecode")?.extract::<char>()?;
        let bytes = value.len()? * value.getattr("itemsize")?.extract::<usize>()?;
        // Arrays of text are left to the pickler: their items differ in width between machines.
        if bytes >= OUT_OF_BAND && code.is_ascii() && !matches!(code, 'u' | 'w') {
            let reduced = value.get_item(PySlice::new(py, 0, 0, 1))?.call_method1("__reduce_ex__", (5,))?;
            let format = reduced.get_item(1)?.get_item(2)?.extract::<u8>()?;
            let window = PyMemoryView::from(value)?.call_method1("cast", ("B",))?;
            return beside(PyBuffer::get(&window)?, PickleStream::Array(buffers::array_stream(code as u8, format)));
        }
    }
    Ok(None)
}

/// Whether the value's class is the built-in type of this name. The module is not imported for that.
fn is_of(value: &Bound<'_, PyAny>, module: &str, name: &str) -> PyResult<bool> {
    let class = value.get_type();
    // SAFETY: it is a type object, of which the flags are read.
    let flags = unsafe { ffi::PyType_GetFlags(class.as_type_ptr()) };
    let built_in = flags & ffi::Py_TPFLAGS_HEAPTYPE == 0 || flags & IMMUTABLE != 0;
    Ok(built_in && class.name()? == name && class.module()? == module)
}
