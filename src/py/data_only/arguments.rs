//! Checks of the arguments of a call, before the decoder uses them: they must have the exact type and be within bounds.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyInt, PyMemoryView, PyTuple};

use super::decoder::Decoder;
use super::error::{DataOnlyResult, too_much};
use super::limits::WIDE_INT;

/// The most dimensions of an array. numpy 1 allows 32.
const MOST_DIMENSIONS: usize = 64;

impl<'py> Decoder<'_, 'py> {
    /// The number of an exact int of at most 64 bits.
    pub(super) fn number(&self, object: &Bound<'py, PyAny>) -> DataOnlyResult<i64> {
        let number = object.cast_exact::<PyInt>().ok().and_then(|int| int.extract().ok());
        number.ok_or_else(|| self.damaged("a value that is not an int of at most 64 bits, in the place of one"))
    }

    /// The length in bytes of an exact int. Fails if the int is too wide to calculate with it quickly.
    pub(super) fn narrow(&self, object: &Bound<'py, PyAny>) -> DataOnlyResult<usize> {
        let Ok(int) = object.cast_exact::<PyInt>() else {
            return Err(self.damaged("a value that is not an int, in the place of one"));
        };
        match int.call_method0("bit_length")?.extract::<usize>()?.div_ceil(8) {
            len if len > WIDE_INT => Err(too_much("bytes of an int in a Fraction or range", WIDE_INT as u64)),
            len => Ok(len),
        }
    }

    /// The sizes in an exact tuple of ints that are not negative.
    pub(super) fn sizes(&self, shape: &Bound<'py, PyAny>) -> DataOnlyResult<Vec<usize>> {
        let Ok(shape) = shape.cast_exact::<PyTuple>() else {
            return Err(self.damaged("a shape that is not a tuple"));
        };
        if shape.len() > MOST_DIMENSIONS {
            return Err(too_much("dimensions of an array", MOST_DIMENSIONS as u64));
        }
        let size = |size: Bound<'py, PyAny>| {
            usize::try_from(self.number(&size)?).map_err(|_| self.damaged("a dimension that is negative"))
        };
        shape.iter().map(size).collect()
    }
}

/// Whether an object is exactly this bool.
pub(super) fn is_flag(flag: &Bound<'_, PyAny>, value: bool) -> bool {
    flag.cast_exact::<PyBool>().is_ok_and(|flag| flag.is_true() == value)
}

/// Whether an object is one of the two types that stand for a buffer in a pickle.
pub(super) fn is_buffer(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<PyByteArray>() || object.is_exact_instance_of::<PyMemoryView>()
}
