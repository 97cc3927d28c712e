//! How the decoding of an untrusted value fails, and with which class of exception.
//!
//! Not for errors of the segment: those are `crate::error::Error`.

use std::collections::TryReserveError;
use std::ffi::CStr;
use std::fmt;

use crate::py::create;
use crate::py::errors::raise_text;
use pyo3::prelude::*;

/// What a step of the decoder gives.
pub(super) type DataOnlyResult<T> = Result<T, DataOnlyError>;

/// Why a pickle gave no value. The value in the segment is untouched in every case.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum DataOnlyError {
    /// Not a pickle, or not one of a value that can exist.
    Damaged { at: usize, why: &'static str },
    /// Needs a class, a function or a buffer; `what` is short and printable.
    NeedsCode { what: String },
    /// It holds arrays, and numpy cannot be imported.
    Missing { module: &'static str },
    /// The pickle says it is of this protocol.
    NewerProtocol(u8),
    /// The named limit, and its value.
    TooMuch { limit: &'static str, value: u64 },
    /// The interpreter's own failure, in practice `MemoryError`.
    Python(PyErr),
}

impl fmt::Display for DataOnlyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataOnlyError::Damaged { at, why } => write!(f, "damaged pickle: {why} (at byte {at})"),
            DataOnlyError::NeedsCode { what } => {
                write!(f, "the value needs {what}, and this segment is not trusted: only plain data is decoded")
            }
            DataOnlyError::Missing { module } => {
                write!(f, "the value holds something of {module}, which is not installed here or cannot be imported")
            }
            DataOnlyError::NewerProtocol(proto) => {
                write!(f, "the value was written by pickle protocol {proto}; this reads up to 5")
            }
            DataOnlyError::TooMuch { limit, value } => {
                write!(f, "the value exceeds a limit for segments that are not trusted: {limit}, {value}")
            }
            DataOnlyError::Python(error) => error.fmt(f),
        }
    }
}

impl From<PyErr> for DataOnlyError {
    fn from(error: PyErr) -> Self {
        DataOnlyError::Python(error)
    }
}

impl DataOnlyError {
    /// The name of the exception's class in `shmvar`; an exception of the interpreter goes through as it is.
    pub fn class(self) -> std::result::Result<(&'static CStr, String), PyErr> {
        let class = match self {
            DataOnlyError::Python(error) => return Err(error),
            DataOnlyError::NeedsCode { .. } | DataOnlyError::Missing { .. } | DataOnlyError::TooMuch { .. } => {
                c"UntrustedValueError"
            }
            DataOnlyError::Damaged { .. } | DataOnlyError::NewerProtocol(_) => c"CorruptSegmentError",
        };
        Ok((class, self.to_string()))
    }
}

/// The Python exception for `error`; the classes live in `shmvar._errors` and `shmvar._untrusted_error`.
pub fn to_pyerr(py: Python<'_>, error: DataOnlyError) -> PyErr {
    let (class, message) = match error.class() {
        Ok(named) => named,
        Err(error) => return error,
    };
    raise_text(py, class, &message)
}

/// A limit was exceeded: its name and its value.
pub(super) fn too_much(limit: &'static str, value: u64) -> DataOnlyError {
    DataOnlyError::TooMuch { limit, value }
}

/// Rust has no memory: the interpreter's `MemoryError`.
pub(super) fn no_memory(_: TryReserveError) -> DataOnlyError {
    DataOnlyError::Python(create::no_memory())
}

/// The value needs what only running code could give.
pub(super) fn needs(what: impl Into<String>) -> DataOnlyError {
    DataOnlyError::NeedsCode { what: what.into() }
}
