//! Values to pickles and back. Scalars by the core, the rest by the interpreter's C pickler; never under a lock.

use crate::codec::kind;
use crate::codec::scalar::{self, Scalar, Short};
use crate::key::Index;
use crate::mem::Scratch;
use crate::py::errors::raise;
use crate::py::patience::PyPatience;
use crate::py::plain::{self, Limits, PlainError};
use crate::segment::attachment::Attachment;
use crate::segment::{Got, Large};
use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyString};

/// A value's pickle, in the parts it is stored from.
pub enum Encoded<'a, 'py> {
    /// All of it.
    Short(Short),
    /// Head, bytes of the object itself, tail.
    Framed(Short, &'a [u8], [u8; 1]),
    /// By the C pickler.
    Pickled(Bound<'py, PyBytes>),
}

impl Encoded<'_, '_> {
    /// Runs `store` with the parts.
    #[inline(always)]
    pub fn with<R>(&self, store: impl FnOnce(&[&[u8]]) -> R) -> R {
        match self {
            Encoded::Short(short) => store(&[short.as_slice()]),
            Encoded::Framed(head, middle, tail) => store(&[head.as_slice(), middle, tail]),
            Encoded::Pickled(bytes) => store(&[bytes.as_bytes()]),
        }
    }
}

/// Pickles a value: exact scalars here, everything else by `_pickle.dumps` at protocol 5, whose errors come through
/// unchanged.
#[inline]
pub fn encode<'a, 'py>(value: &'a Bound<'py, PyAny>) -> PyResult<Encoded<'a, 'py>> {
    let py = value.py();
    if value.is_exact_instance_of::<PyInt>() {
        let mut overflow = 0;
        // SAFETY: an int, borrowed; the interpreter is attached.
        let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(value.as_ptr(), &mut overflow) };
        if overflow == 0 {
            return Ok(Encoded::Short(scalar::int(number)));
        }
    } else if value.is_exact_instance_of::<PyString>() {
        let mut len = 0;
        // SAFETY: a str, borrowed. The bytes belong to it and live as long as it does.
        let text = unsafe { ffi::PyUnicode_AsUTF8AndSize(value.as_ptr(), &mut len) };
        if !text.is_null() {
            let (head, tail) = scalar::str_frame(len as usize);
            // SAFETY: as above; a str does not change.
            let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len as usize) };
            return Ok(Encoded::Framed(head, bytes, tail));
        }
        // Lone surrogates: the pickler knows what to do.
        drop(PyErr::take(py));
    } else if value.is_exact_instance_of::<PyFloat>() {
        // SAFETY: a float, borrowed.
        return Ok(Encoded::Short(scalar::float(unsafe { ffi::PyFloat_AsDouble(value.as_ptr()) })));
    } else if value.is_exact_instance_of::<PyBytes>() {
        // SAFETY: just looked at.
        let bytes = unsafe { value.cast_unchecked::<PyBytes>() }.as_bytes();
        let (head, tail) = scalar::bytes_frame(bytes.len());
        return Ok(Encoded::Framed(head, bytes, tail));
    } else if value.is_none() {
        return Ok(Encoded::Short(scalar::constant(None)));
    } else if let Some(truth) = truth(value) {
        return Ok(Encoded::Short(scalar::constant(Some(truth))));
    }
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let pickled = DUMPS.import(py, "_pickle", "dumps")?.call1((value, 5))?;
    Ok(Encoded::Pickled(pickled.cast_into::<PyBytes>()?))
}

fn truth(value: &Bound<'_, PyAny>) -> Option<bool> {
    // SAFETY: the two constants of the interpreter, compared by address.
    unsafe {
        if value.as_ptr() == ffi::Py_True() {
            Some(true)
        } else if value.as_ptr() == ffi::Py_False() {
            Some(false)
        } else {
            None
        }
    }
}

/// A variable's value and version; `None` where it is missing.
#[inline]
pub fn read(
    patience: &PyPatience<'_>,
    py: Python<'_>,
    att: &Attachment,
    index: &Index<'_>,
    trusted: bool,
) -> PyResult<Option<(Py<PyAny>, u64)>> {
    loop {
        let mut scratch = Scratch::new();
        let got = att.get(index, &mut scratch, patience).map_err(|error| patience.error(error))?;
        return match got {
            None => Ok(None),
            Some(Got::Inline { bytes, len, version }) => {
                Ok(Some((decode(py, index, &bytes[2..2 + len], trusted)?, version)))
            }
            Some(Got::Record { prefix, version }) => {
                Ok(Some((decode(py, index, &scratch.bytes()[prefix..], trusted)?, version)))
            }
            Some(Got::Large(large)) => {
                let version = large.version();
                match read_large(patience, py, large, index, trusted)? {
                    Some(value) => Ok(Some((value, version))),
                    None => continue,
                }
            }
        };
    }
}

/// `None`: it changed while it was copied.
#[cold]
fn read_large(
    patience: &PyPatience<'_>,
    py: Python<'_>,
    large: Large<'_>,
    index: &Index<'_>,
    trusted: bool,
) -> PyResult<Option<Py<PyAny>>> {
    let fetch = |at: u64, to: &mut [u8]| large.read(at, to, patience).map_err(|error| patience.error(error));
    let mut head = [0; 32];
    let mut whole = fetch(0, &mut head)?;
    // A lone `bytes` is copied once, to where it stays.
    let (start, len) = scalar::bytes_within(&head, large.len()).unwrap_or((0, large.len()));
    let bytes = PyBytes::new_with(py, len as usize, |to| {
        whole = whole && fetch(start, to)?;
        Ok(())
    })?;
    // Nothing is held while user code runs.
    drop(large);
    match (whole, start) {
        (false, _) => Ok(None),
        (true, 0) => decode_object(py, index, &bytes, trusted).map(Some),
        (true, _) => Ok(Some(bytes.into_any().unbind())),
    }
}

/// The value of a pickle that was copied out.
#[inline]
fn decode(py: Python<'_>, index: &Index<'_>, pickle: &[u8], trusted: bool) -> PyResult<Py<PyAny>> {
    // SAFETY: the interpreter is attached; each call returns a new reference or null with an exception set.
    let made = unsafe {
        let object = match scalar::decode(pickle) {
            Some(Scalar::Int(number)) => ffi::PyLong_FromLongLong(number),
            Some(Scalar::Str(text)) => {
                let surrogates = c"surrogatepass".as_ptr();
                ffi::PyUnicode_DecodeUTF8(text.as_ptr().cast(), text.len() as ffi::Py_ssize_t, surrogates)
            }
            Some(Scalar::Float(number)) => ffi::PyFloat_FromDouble(number),
            Some(Scalar::Bytes(bytes)) => {
                ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as ffi::Py_ssize_t)
            }
            Some(Scalar::None) => return Ok(py.None()),
            Some(Scalar::Bool(truth)) => return Ok(truth.into_pyobject(py)?.to_owned().into_any().unbind()),
            None => return decode_object(py, index, &PyBytes::new(py, pickle), trusted),
        };
        Bound::from_owned_ptr_or_opt(py, object)
    };
    match made {
        Some(object) => Ok(object.unbind()),
        None => Err(explain(py, PyErr::fetch(py), index, pickle)),
    }
}

/// Of anything but a scalar.
fn decode_object(py: Python<'_>, index: &Index<'_>, pickle: &Bound<'_, PyBytes>, trusted: bool) -> PyResult<Py<PyAny>> {
    if !trusted {
        return plain::decode(py, pickle.as_bytes(), &Limits::default())
            .map_err(|error| refused(py, error, index, pickle.as_bytes().len()));
    }
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    match LOADS.import(py, "_pickle", "loads")?.call1((pickle,)) {
        Ok(value) => Ok(value.unbind()),
        Err(error) => Err(explain(py, error, index, pickle.as_bytes())),
    }
}

/// Why a value of a segment that is not trusted was not decoded, with its index and length.
#[cold]
fn refused(py: Python<'_>, error: PlainError, index: &Index<'_>, len: usize) -> PyErr {
    let class = match error {
        PlainError::Python(error) => return error,
        PlainError::NeedsCode { .. } | PlainError::TooMuch { .. } => "UntrustedValueError",
        PlainError::Damaged { .. } | PlainError::NewerProtocol(_) => "CorruptSegmentError",
    };
    raise(py, class, |class| class.call1((format!("index {index} ({len} bytes): {error}"),)))
}

/// What `loads` raised: of a stream that is no pickle, damage; else (a class that is missing here, a `__setstate__` that
/// raises) the error unchanged, with a note of where it came from.
#[cold]
fn explain(py: Python<'_>, error: PyErr, index: &Index<'_>, pickle: &[u8]) -> PyErr {
    if !error.is_instance_of::<PyException>(py) {
        return error;
    }
    if kind::type_name(pickle) == kind::DAMAGED {
        let text = format!("index {index}: its value of {} bytes is damaged ({error})", pickle.len());
        let damage = raise(py, "CorruptSegmentError", |class| class.call1((text,)));
        damage.set_cause(py, Some(error));
        return damage;
    }
    let note = format!("while reading index {index}, a value of {} bytes", pickle.len());
    let _ = error.value(py).call_method1("add_note", (note,));
    error
}
