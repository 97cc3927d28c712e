//! The ways in which the data-only decoder fails, and the exception for each. Errors of the segment itself are in
//! `crate::error`.

use std::collections::TryReserveError;
use std::ffi::CStr;
use std::fmt;

use crate::py::create;
use crate::py::errors::raise_text;
use pyo3::prelude::*;

/// The result of a step of the decoder.
pub(super) type DataOnlyResult<T> = Result<T, DataOnlyError>;

/// The way out that is no data: what to do, and what it means.
const TRUST: &str = "attach with trust=True, if you trust all who may write to it: they can run code in your process";

/// So many characters of the name of a class or function are shown at most.
const SHOWN: usize = 190;

/// Why a pickle was not decoded. The value in the segment stays as it is in every case.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum DataOnlyError {
    /// The bytes are not a pickle, or not the pickle of a value that can exist.
    Damaged { at: usize, why: &'static str },
    /// The value needs a class, a function or a buffer. `what` is short and printable.
    NeedsCode { what: String },
    /// The value needs this module, which cannot be imported: numpy, for arrays.
    Missing { module: &'static str },
    /// The pickle is of this protocol, which is newer than the decoder.
    NewerProtocol(u8),
    /// The value is to be used where it lies, and its items must be checked before use.
    CheckedInPlace,
    /// The value exceeds this limit, whose value is given.
    TooMuch { limit: &'static str, value: u64 },
    /// The interpreter raised an exception, in practice `MemoryError`.
    Python(PyErr),
}

impl fmt::Display for DataOnlyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataOnlyError::Damaged { at, why } => write!(f, "damaged pickle: {why} (at byte {at})"),
            DataOnlyError::NeedsCode { what } => {
                // A hostile name is no reason for a long text.
                let cut = what.char_indices().nth(SHOWN).map_or(what.len(), |(at, _)| at);
                let (shown, rest) = (&what[..cut], if cut < what.len() { "…" } else { "" });
                write!(
                    f,
                    "the value needs {shown}{rest}, and this segment is not trusted: only plain data is decoded"
                )?;
                if what.starts_with("shmvar.php.") {
                    f.write_str(
                        "; it stands for what PHP has and Python has not: store what is in it (its properties, a dict)",
                    )?;
                } else {
                    f.write_str("; store plain data")?;
                }
                write!(f, ", or {TRUST}")?;
                if ["__main__.", "__mp_main__."].iter().any(|main| what.starts_with(main)) {
                    // That a pickle within a `bytes` can be unpickled by hand is not said here: who may have written it
                    // is just what is in doubt.
                    f.write_str(
                        ". It was defined in a notebook, a script or python -c: other processes then need it, too, in \
                         a module that they can import",
                    )?;
                }
                Ok(())
            }
            DataOnlyError::Missing { module } => {
                write!(f, "the value holds something of {module}, which is not installed here or cannot be imported")
            }
            DataOnlyError::NewerProtocol(proto) => {
                write!(f, "the value was written by pickle protocol {proto}; this reads up to 5")
            }
            DataOnlyError::CheckedInPlace => write!(
                f,
                "bools and text are checked before use, and others could change them in place afterwards, because this \
                 segment is not trusted: take another dtype (u1, u4, S), or read what is there as a copy \
                 (segment[index]), or {TRUST}"
            ),
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
    /// The name of the exception's class in `shmvar`, and its text. An exception of the interpreter is returned as the
    /// error.
    pub fn class(self) -> std::result::Result<(&'static CStr, String), PyErr> {
        let class = match self {
            DataOnlyError::Python(error) => return Err(error),
            DataOnlyError::NeedsCode { .. }
            | DataOnlyError::CheckedInPlace
            | DataOnlyError::Missing { .. }
            | DataOnlyError::TooMuch { .. } => c"UntrustedValueError",
            DataOnlyError::Damaged { .. } | DataOnlyError::NewerProtocol(_) => c"CorruptSegmentError",
        };
        Ok((class, self.to_string()))
    }
}

/// The exception for an error.
pub fn to_pyerr(py: Python<'_>, error: DataOnlyError) -> PyErr {
    let (class, message) = match error.class() {
        Ok(named) => named,
        Err(error) => return error,
    };
    raise_text(py, class, &message)
}

/// The error of a value that exceeds a limit.
pub(super) fn too_much(limit: &'static str, value: u64) -> DataOnlyError {
    DataOnlyError::TooMuch { limit, value }
}

/// The error of an allocation in Rust that failed: the interpreter's `MemoryError`.
pub(super) fn no_memory(_: TryReserveError) -> DataOnlyError {
    DataOnlyError::Python(create::no_memory())
}

/// The error of a value that needs something the decoder does not provide.
pub(super) fn needs(what: impl Into<String>) -> DataOnlyError {
    DataOnlyError::NeedsCode { what: what.into() }
}
