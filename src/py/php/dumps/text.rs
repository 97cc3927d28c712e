//! The text of a value: short scalars at once, everything else by a walk.

use super::options::DumpOptions;
use super::strings::{bytes_of, utf8};
use super::walk;
use crate::php::serialize::{LONGEST_FLOAT, LONGEST_INT, Writer, float_text, int_text, string_text};
use crate::py::interpreter;
use pyo3::ffi;
use pyo3::prelude::*;

/// The longest text of a string that is made on the stack.
const SHORT: usize = 256;

/// Makes the text of a value and calls `with` with it.
#[inline]
pub fn with_text<R>(value: &Bound<'_, PyAny>, options: &DumpOptions, with: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    let object = value.as_ptr();
    // No scalar is too long unless somebody asks for a very short text.
    if options.max_size >= SHORT {
        // SAFETY: the object is borrowed; each function is called for its class.
        unsafe {
            let class = ffi::Py_TYPE(object);
            if class == &raw mut ffi::PyLong_Type {
                let mut overflow = 0;
                let number = ffi::PyLong_AsLongLongAndOverflow(object, &mut overflow);
                if overflow == 0 {
                    return Ok(with(int_text(number, &mut [0; LONGEST_INT])));
                }
            } else if class == &raw mut ffi::PyUnicode_Type {
                match utf8(object) {
                    Some(text) => {
                        if let Some(text) = string_text(text, &mut [0; SHORT]) {
                            return Ok(with(text));
                        }
                    }
                    None => ffi::PyErr_Clear(),
                }
            } else if class == &raw mut ffi::PyFloat_Type {
                return Ok(with(float_text(ffi::PyFloat_AsDouble(object), &mut [0; LONGEST_FLOAT])));
            } else if object == ffi::Py_None() {
                return Ok(with(b"N;"));
            } else if class == &raw mut ffi::PyBool_Type {
                return Ok(with(if object == ffi::Py_True() { b"b:1;" } else { b"b:0;" }));
            } else if class == &raw mut ffi::PyBytes_Type {
                if let Some(text) = string_text(bytes_of(object), &mut [0; SHORT]) {
                    return Ok(with(text));
                }
            }
        }
    }
    interpreter::python_code_follows();
    let mut writer = Writer::new(options.max_size);
    walk::write(value, options, &mut writer)?;
    Ok(with(writer.text()))
}
