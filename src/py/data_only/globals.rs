//! The table of the globals that an untrusted pickle may name: built-in types without an opcode, common types of the
//! standard library, and numpy's arrays.
//!
//! A name in a pickle is compared with the rows of this table and looked up nowhere else. The decoder itself builds
//! what a row stands for, from arguments that it has checked, with classes that it imports by fixed names
//! (`library_class`).

/// A global that a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    Set,
    FrozenSet,
    ByteArray,
    Bytes,
    Complex,
    Range,
    /// Called as `_codecs.encode(text, 'latin1')`: how protocol 2 writes bytes.
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
    /// Called as `array._array_reconstructor(array.array, typecode, format, bytes)`.
    ArrayOf,
    NdArray,
    Dtype,
    /// Called as `_frombuffer(buffer, dtype, shape, order)`: how protocol 5 writes an array.
    FromBuffer,
    /// Called as `_reconstruct(ndarray, (0,), b'b')`, then the array's state: how arrays are written otherwise.
    Reconstruct,
    /// Called as `scalar(dtype, bytes)`.
    Scalar,
    MemMap,
    RecArray,
    /// The argument of the call that builds a dtype of a record array.
    Record,
    /// Called as `MaskedArray(data, mask, …)`.
    Masked,
    /// Called as `_mareconstruct(MaskedArray, ndarray, (0,), b'b')`, then the array's state.
    ReconstructMasked,
    /// Called as `getattr(ndarray, '__new__')`, which gives [`Global::NewArray`]. No other attribute is allowed.
    GetAttr,
    /// `ndarray.__new__`, called as `(class, shape, dtype, buffer, 0, None, order)`: an array of this class.
    NewArray,
}

/// Module and name as CPython 3.11 to 3.14 and numpy 1 and 2 write them, after `current_name` has replaced names of Python 2.
/// If a global has several rows, messages call it by the first one.
const TABLE: &[(&str, &str, Global)] = &[
    ("builtins", "set", Global::Set),
    ("builtins", "frozenset", Global::FrozenSet),
    ("builtins", "bytearray", Global::ByteArray),
    ("builtins", "bytes", Global::Bytes),
    ("builtins", "complex", Global::Complex),
    ("builtins", "range", Global::Range),
    ("_codecs", "encode", Global::Encode),
    ("datetime", "date", Global::Date),
    ("datetime", "time", Global::Time),
    ("datetime", "datetime", Global::DateTime),
    ("datetime", "timedelta", Global::TimeDelta),
    ("datetime", "timezone", Global::TimeZone),
    ("decimal", "Decimal", Global::Decimal),
    ("fractions", "Fraction", Global::Fraction),
    ("uuid", "UUID", Global::Uuid),
    ("collections", "OrderedDict", Global::OrderedDict),
    ("collections", "deque", Global::Deque),
    ("pathlib", "PurePosixPath", Global::PurePosixPath),
    ("pathlib", "PosixPath", Global::PosixPath),
    ("pathlib", "PureWindowsPath", Global::PureWindowsPath),
    ("array", "array", Global::Array),
    ("array", "_array_reconstructor", Global::ArrayOf),
    ("numpy", "ndarray", Global::NdArray),
    ("numpy", "dtype", Global::Dtype),
    ("numpy._core.numeric", "_frombuffer", Global::FromBuffer),
    ("numpy.core.numeric", "_frombuffer", Global::FromBuffer),
    ("numpy._core.multiarray", "_reconstruct", Global::Reconstruct),
    ("numpy.core.multiarray", "_reconstruct", Global::Reconstruct),
    ("numpy._core.multiarray", "scalar", Global::Scalar),
    ("numpy.core.multiarray", "scalar", Global::Scalar),
    ("numpy", "memmap", Global::MemMap),
    ("numpy.rec", "recarray", Global::RecArray),
    ("numpy", "recarray", Global::RecArray),
    ("numpy", "record", Global::Record),
    ("numpy.ma", "MaskedArray", Global::Masked),
    ("numpy.ma.core", "MaskedArray", Global::Masked),
    ("numpy.ma.core", "_mareconstruct", Global::ReconstructMasked),
    ("builtins", "getattr", Global::GetAttr),
];

impl Global {
    /// The global of this module and name, if it is in the table.
    pub fn find(module: &[u8], name: &[u8]) -> Option<Self> {
        let row = TABLE.iter().find(|row| row.1.as_bytes() == name && row.0.as_bytes() == module)?;
        Some(row.2)
    }

    /// The name for messages: `module.name`.
    pub fn name(self) -> String {
        if self == Global::NewArray {
            return "numpy.ndarray.__new__".into();
        }
        let row = TABLE.iter().find(|row| row.2 == self);
        row.map_or_else(String::new, |(module, name, _)| format!("{module}.{name}"))
    }

    /// Whether it is a class that occurs as an argument of a call, and not by itself.
    pub fn is_argument(self) -> bool {
        self.is_array_class() || matches!(self, Global::Array | Global::Record | Global::Masked)
    }

    /// Whether it is a class of arrays over a buffer.
    pub fn is_array_class(self) -> bool {
        matches!(self, Global::NdArray | Global::MemMap | Global::RecArray)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_and_has_a_name() {
        for (module, name, global) in TABLE {
            assert_eq!(Global::find(module.as_bytes(), name.as_bytes()), Some(*global));
            assert!(global.name().ends_with(name), "{global:?}");
        }
        assert_eq!(Global::find(b"datetime", b"timezone.utc"), None);
        assert_eq!(Global::find(b"os", b"system"), None);
    }
}
