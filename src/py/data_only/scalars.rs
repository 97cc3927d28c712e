//! Ints, str, bytes and bytearrays, from their bytes in the pickle. Floats, bools and `None` need no more than a line
//! in `run`.

use pyo3::exceptions::PyUnicodeDecodeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyInt, PyString};

use super::decoder::Decoder;
use super::error::{DataOnlyResult, no_memory, too_much};
use super::limits::WIDE_INT;
use crate::py::create;

impl<'py> Decoder<'_, 'py> {
    /// An int from its little-endian two's complement.
    pub(super) fn int(&mut self, digits: &[u8]) -> DataOnlyResult<Bound<'py, PyAny>> {
        if digits.len() > self.budget.limits.int_bytes {
            return Err(too_much("bytes of one int", self.budget.limits.int_bytes as u64));
        }
        if digits.len() > WIDE_INT {
            self.equality.meet_wide_int()?;
        }
        if digits.len() <= 8 {
            let negative = digits.last().is_some_and(|&top| top >= 0x80);
            let mut wide = if negative { [0xff; 8] } else { [0; 8] };
            wide[..digits.len()].copy_from_slice(digits);
            return Ok(create::int(self.py, i64::from_le_bytes(wide))?.into_any());
        }
        // `int.from_bytes` takes linear time in C, unlike a conversion from decimal digits.
        let signed = create::dict(self.py)?;
        signed.set_item("signed", true)?;
        let arguments = (create::bytes(self.py, digits)?, "little");
        Ok(self.py.get_type::<PyInt>().call_method("from_bytes", arguments, Some(&signed))?)
    }

    /// A str from UTF-8, in which lone surrogates may occur.
    pub(super) fn text(&self, utf8: &[u8]) -> DataOnlyResult<Bound<'py, PyAny>> {
        let error = match PyString::from_bytes(self.py, utf8) {
            Ok(text) => return Ok(text.into_any()),
            Err(error) => error,
        };
        if !error.is_instance_of::<PyUnicodeDecodeError>(self.py) {
            return Err(error.into());
        }
        let bytes = create::bytes(self.py, utf8)?;
        PyString::from_encoded_object(&bytes, Some(c"utf-8"), Some(c"surrogatepass"))
            .map(Bound::into_any)
            .or_else(|error| self.or_damaged(Err(error), "a str that is not UTF-8"))
    }

    /// A bytes object.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> DataOnlyResult<Bound<'py, PyAny>> {
        self.budget.memory(40 + bytes.len())?;
        Ok(create::bytes(self.py, bytes)?.into_any())
    }

    /// A bytearray.
    pub(super) fn bytearray(&mut self, bytes: &[u8]) -> DataOnlyResult<Bound<'py, PyAny>> {
        self.budget.memory(64 + bytes.len())?;
        let fill = |room: &mut [u8]| {
            room.copy_from_slice(bytes);
            Ok(())
        };
        Ok(PyByteArray::new_with(self.py, bytes.len(), fill)?.into_any())
    }

    /// The bytes of a str in Latin-1, as which protocol 2 writes bytes.
    pub(super) fn latin1_bytes(&self, text: &Bound<'py, PyString>) -> DataOnlyResult<Vec<u8>> {
        let text = self.or_damaged(text.to_str(), "a str that is not Latin-1")?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(text.len()).map_err(no_memory)?;
        for character in text.chars() {
            bytes.push(u8::try_from(character).map_err(|_| self.damaged("a str that is not Latin-1"))?);
        }
        Ok(bytes)
    }
}
