//! Reads fields of an array directly from memory, as numpy's binary interface lays it out. Asking numpy for them takes
//! longer.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PySlice;
use std::ffi::c_int;

/// The beginning of an array in numpy's binary interface, which is the same in numpy 1 and 2.
#[repr(C)]
struct ArrayHead {
    object: ffi::PyObject,
    data: *mut u8,
    dimensions: c_int,
    sizes: *mut isize,
    strides: *mut isize,
    base: *mut ffi::PyObject,
    dtype: *mut DtypeHead,
    flags: c_int,
}

/// The beginning of a dtype.
#[repr(C)]
struct DtypeHead {
    object: ffi::PyObject,
    class: *mut ffi::PyObject,
    letters: [u8; 4],
    number: c_int,
}

/// Flags in [`ArrayHead`]: the memory is in one piece, in C's order or in Fortran's.
pub const CONTIGUOUS: c_int = 3;
/// The flag of memory in Fortran's order.
pub const FORTRAN: c_int = 2;

/// The flag of memory that numpy has allocated for the array.
pub const OWN_DATA: c_int = 4;

/// What an array's object says of its memory.
pub struct ArrayMemory<'a> {
    pub flags: c_int,
    /// The number of the dtype.
    pub number: i64,
    pub dtype: *mut ffi::PyObject,
    pub data: *const u8,
    /// The length of each axis.
    pub lens: &'a [isize],
}

/// What an exact array's object says of its memory.
///
/// # Safety
/// As for [`flags_and_number`]. Nobody changes the array's shape while the result is used.
#[inline]
pub unsafe fn memory<'a>(array: &'a Bound<'_, PyAny>) -> ArrayMemory<'a> {
    // SAFETY: the caller says that the memory has this layout.
    unsafe {
        let head = &*array.as_ptr().cast::<ArrayHead>();
        // Without axes there is no list of their lengths.
        let lens = match head.dimensions {
            0 => &[],
            count => std::slice::from_raw_parts(head.sizes, count as usize),
        };
        let number = i64::from((*head.dtype).number);
        ArrayMemory { flags: head.flags, number, dtype: head.dtype.cast(), data: head.data, lens }
    }
}

/// An exact array's flags, and the number of its dtype.
///
/// # Safety
/// `array` is an exact array of numpy, and [`is_as_expected`] has returned `true`.
pub unsafe fn flags_and_number(array: &Bound<'_, PyAny>) -> (c_int, i64) {
    // SAFETY: the caller says that the memory has this layout.
    unsafe {
        let head = array.as_ptr().cast::<ArrayHead>();
        ((*head).flags, i64::from((*(*head).dtype).number))
    }
}

/// Whether arrays lie in memory as [`ArrayHead`] says. Sample arrays are compared with what numpy says of them.
pub fn is_as_expected(module: &Bound<'_, PyAny>) -> PyResult<bool> {
    let large =
        |class: &Bound<'_, PyAny>, size| Ok::<_, PyErr>(class.getattr("__basicsize__")?.extract::<usize>()? >= size);
    for dtype in ["i1", "f8", "M8[s]", "S3", "O"] {
        let array = module.call_method1("zeros", ((3, 5), dtype))?;
        let steps = array.get_item((PySlice::full(array.py()), PySlice::new(array.py(), 0, 5, 2)))?;
        for array in [&array.call_method0("transpose")?, &steps, &array] {
            let dtype = array.getattr("dtype")?;
            let classes = (array.get_type(), dtype.get_type().getattr("__base__")?);
            if !large(&classes.0, size_of::<ArrayHead>())? || !large(&classes.1, size_of::<DtypeHead>())? {
                return Ok(false);
            }
            // SAFETY: it is an exact array, and its object is at least as large as `ArrayHead`.
            if unsafe { (*array.as_ptr().cast::<ArrayHead>()).dtype.cast::<ffi::PyObject>() } != dtype.as_ptr() {
                return Ok(false);
            }
            let flags = array.getattr("flags")?.getattr("num")?.extract::<c_int>()?;
            // SAFETY: what lies there is the array's dtype, whose object is at least as large as `DtypeHead`.
            if unsafe { flags_and_number(array) } != (flags, dtype.getattr("num")?.extract::<i64>()?) {
                return Ok(false);
            }
            let (lens, interface) = (array.getattr("shape")?, array.getattr("__array_interface__")?);
            let address = interface.get_item("data")?.get_item(0)?.extract::<usize>()?;
            // SAFETY: as before; the number of axes is compared before the list of their lengths is read.
            let same = unsafe {
                (*array.as_ptr().cast::<ArrayHead>()).dimensions as usize == lens.len()?
                    && memory(array).lens == lens.extract::<Vec<isize>>()?
                    && memory(array).data.addr() == address
            };
            if !same {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
