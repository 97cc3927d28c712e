//! The table of what an untrusted value may name: builtins without an opcode, common types of the standard library, and
//! numpy's arrays.
//!
//! A name in the stream is compared with these rows and looked up nowhere else. What a row stands for is made by this
//! decoder, from arguments it has checked, with classes that it fetches itself by the fixed names in `standard` and
//! `ndarray`.

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Set,
    FrozenSet,
    ByteArray,
    Bytes,
    Complex,
    Range,
    /// `_codecs.encode(text, 'latin1')`: bytes in protocol 2.
    Encode,
    Date,
    Time,
    DateTime,
    TimeDelta,
    TimeZone,
    Decimal,
    Fraction,
    Uuid,
    OrderedDict,
    Deque,
    PurePosixPath,
    PosixPath,
    PureWindowsPath,
    Array,
    /// `array._array_reconstructor(array.array, typecode, format, bytes)`.
    ArrayOf,
    NdArray,
    Dtype,
    /// `_frombuffer(buffer, dtype, shape, order)`: an array in protocol 5.
    FromBuffer,
    /// `_reconstruct(ndarray, (0,), b'b')`, then its state: an array otherwise.
    Reconstruct,
    /// `scalar(dtype, bytes)`.
    Scalar,
    MemMap,
    RecArray,
    /// What a dtype of a record array is called on.
    Record,
    /// `MaskedArray(data, mask, …)`.
    Masked,
    /// `_mareconstruct(MaskedArray, ndarray, (0,), b'b')`, then its state.
    ReconstructMasked,
    /// Of all attributes only the next one.
    GetAttr,
    /// `getattr(ndarray, '__new__')`, called as `(class, shape, dtype, buffer, 0, None, order)`: an array of that class.
    NewArray,
}

/// Module and name as CPython 3.11 to 3.14 and numpy 1 and 2 write them, after `current_name`. Of several rows for one thing, the first is what
/// it is called in messages.
const TABLE: &[(&str, &str, Known)] = &[
    ("builtins", "set", Known::Set),
    ("builtins", "frozenset", Known::FrozenSet),
    ("builtins", "bytearray", Known::ByteArray),
    ("builtins", "bytes", Known::Bytes),
    ("builtins", "complex", Known::Complex),
    ("builtins", "range", Known::Range),
    ("_codecs", "encode", Known::Encode),
    ("datetime", "date", Known::Date),
    ("datetime", "time", Known::Time),
    ("datetime", "datetime", Known::DateTime),
    ("datetime", "timedelta", Known::TimeDelta),
    ("datetime", "timezone", Known::TimeZone),
    ("decimal", "Decimal", Known::Decimal),
    ("fractions", "Fraction", Known::Fraction),
    ("uuid", "UUID", Known::Uuid),
    ("collections", "OrderedDict", Known::OrderedDict),
    ("collections", "deque", Known::Deque),
    ("pathlib", "PurePosixPath", Known::PurePosixPath),
    ("pathlib", "PosixPath", Known::PosixPath),
    ("pathlib", "PureWindowsPath", Known::PureWindowsPath),
    ("array", "array", Known::Array),
    ("array", "_array_reconstructor", Known::ArrayOf),
    ("numpy", "ndarray", Known::NdArray),
    ("numpy", "dtype", Known::Dtype),
    ("numpy._core.numeric", "_frombuffer", Known::FromBuffer),
    ("numpy.core.numeric", "_frombuffer", Known::FromBuffer),
    ("numpy._core.multiarray", "_reconstruct", Known::Reconstruct),
    ("numpy.core.multiarray", "_reconstruct", Known::Reconstruct),
    ("numpy._core.multiarray", "scalar", Known::Scalar),
    ("numpy.core.multiarray", "scalar", Known::Scalar),
    ("numpy", "memmap", Known::MemMap),
    ("numpy.rec", "recarray", Known::RecArray),
    ("numpy", "recarray", Known::RecArray),
    ("numpy", "record", Known::Record),
    ("numpy.ma", "MaskedArray", Known::Masked),
    ("numpy.ma.core", "MaskedArray", Known::Masked),
    ("numpy.ma.core", "_mareconstruct", Known::ReconstructMasked),
    ("builtins", "getattr", Known::GetAttr),
];

impl Known {
    pub fn find(module: &[u8], name: &[u8]) -> Option<Self> {
        let row = TABLE.iter().find(|row| row.1.as_bytes() == name && row.0.as_bytes() == module)?;
        Some(row.2)
    }

    /// `module.name`.
    pub fn name(self) -> String {
        if self == Known::NewArray {
            return "numpy.ndarray.__new__".into();
        }
        let row = TABLE.iter().find(|row| row.2 == self);
        row.map_or_else(String::new, |(module, name, _)| format!("{module}.{name}"))
    }

    /// A class that is an argument in some pickle, and nothing by itself.
    pub fn is_argument(self) -> bool {
        self.is_array_class() || matches!(self, Known::Array | Known::Record | Known::Masked)
    }

    /// A class of arrays that may be called on a buffer.
    pub fn is_array_class(self) -> bool {
        matches!(self, Known::NdArray | Known::MemMap | Known::RecArray)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_and_has_a_name() {
        for (module, name, known) in TABLE {
            assert_eq!(Known::find(module.as_bytes(), name.as_bytes()), Some(*known));
            assert!(known.name().ends_with(name), "{known:?}");
        }
        assert_eq!(Known::find(b"datetime", b"timezone.utc"), None);
        assert_eq!(Known::find(b"os", b"system"), None);
    }
}
