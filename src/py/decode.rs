//! Pickles to values. What is copied out of the segment is decoded with nothing held.

use crate::codec::buffers;
use crate::codec::kind;
use crate::codec::scalar::{self, Scalar};
use crate::key::Index;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::py::errors::{raise, said};
use crate::py::made;
use crate::py::memory::{self, Memory};
use crate::py::plain::{self, DataOnlyError, Limits};
use crate::py::sealed;
use crate::py::wait::PyWait;
use crate::segment::Segment;
use crate::variables::AsVariables;
use crate::variables::large::LargeValue;
use crate::variables::read::FoundValue;
use pyo3::exceptions::{PyException, PyImportError, PyUnicodeDecodeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

/// What a reader wants of large values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Values that are independent, and may be changed.
    Own,
    /// Read-only ones over the segment's own memory, where that can be.
    View,
}

impl Want {
    /// A value that was copied, as it is wanted.
    #[inline]
    fn of(self, py: Python<'_>, value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        match self {
            Want::Own => Ok(value),
            Want::View => Ok(sealed::sealed(value.into_bound(py))?.unbind()),
        }
    }
}

/// A variable's value and version; `None` where it is missing.
#[inline]
pub fn read(
    policy: &PyWait<'_>,
    py: Python<'_>,
    segment: &Segment,
    index: &Index<'_>,
    want: Want,
) -> PyResult<Option<(Py<PyAny>, u64)>> {
    let trusted = segment.trusted();
    let mut backoff = Backoff::default();
    loop {
        let mut scratch = Scratch::new();
        let att = segment.attachment().map_err(|error| policy.error(error))?;
        let got = att.variables().get(index, &mut scratch, policy).map_err(|error| policy.error(error))?;
        return match got {
            None => Ok(None),
            Some(FoundValue::Inline { bytes, len, version }) => {
                Ok(Some((decode(py, index, &bytes[2..2 + len], trusted, want)?, version)))
            }
            Some(FoundValue::Record { prefix, version, .. }) => {
                Ok(Some((decode(py, index, &scratch.bytes()[prefix..], trusted, want)?, version)))
            }
            Some(FoundValue::Large(large)) => {
                let version = large.version();
                match read_large(policy, py, segment, large, index, want)? {
                    Some(value) => Ok(Some((value, version))),
                    None => {
                        segment
                            .attachment()
                            .and_then(|att| backoff.again(Obstacle::Replaced, &att, policy))
                            .map_err(|error| policy.error(error))?;
                        continue;
                    }
                }
            }
        };
    }
}

/// `None`: it changed while it was copied.
#[cold]
pub fn read_large(
    policy: &PyWait<'_>,
    py: Python<'_>,
    segment: &Segment,
    large: LargeValue<'_>,
    index: &Index<'_>,
    want: Want,
) -> PyResult<Option<Py<PyAny>>> {
    let large = if segment.trusted() { large.trusting() } else { large };
    if large.has_buffers() {
        return read_buffers(policy, py, segment, large, index, want);
    }
    let Some(pickle) = copy(policy, py, &large, (0, large.len()))? else { return Ok(None) };
    // Nothing is held while user code runs.
    drop(large);
    decode_object(py, index, pickle, segment.trusted(), want).map(Some)
}

/// Copies from the value, to what `make` makes: of so many bytes, filled by the function. `None`: it changed meanwhile.
fn copied<T>(
    policy: &PyWait<'_>,
    large: &LargeValue<'_>,
    (at, len): (u64, u64),
    make: impl FnOnce(usize, &mut dyn FnMut(&mut [u8]) -> PyResult<()>) -> PyResult<T>,
) -> PyResult<Option<T>> {
    if !large.check_resident(len).map_err(|error| policy.error(error))? {
        return Ok(None);
    }
    let mut whole = true;
    let made = make(len as usize, &mut |to| {
        whole = large.read(at, to, policy).map_err(|error| policy.error(error))?;
        Ok(())
    })?;
    Ok(whole.then_some(made))
}

/// To where it stays.
fn copy<'py>(
    policy: &PyWait<'_>,
    py: Python<'py>,
    large: &LargeValue<'_>,
    place: (u64, u64),
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    copied(policy, large, place, |len, fill| PyBytes::new_with(py, len, fill))
}

/// To where it may be changed.
fn copy_writable<'py>(
    policy: &PyWait<'_>,
    py: Python<'py>,
    large: &LargeValue<'_>,
    place: (u64, u64),
) -> PyResult<Option<Bound<'py, PyByteArray>>> {
    copied(policy, large, place, |len, fill| PyByteArray::new_with(py, len, fill))
}

/// Of a value with out-of-band buffers.
fn read_buffers(
    policy: &PyWait<'_>,
    py: Python<'_>,
    segment: &Segment,
    large: LargeValue<'_>,
    index: &Index<'_>,
    want: Want,
) -> PyResult<Option<Py<PyAny>>> {
    let failed = |error| policy.error(error);
    let Some(parsed) = large.parse(policy).map_err(failed)? else { return Ok(None) };
    let Some(stream) = large.read_part(parsed.pickle, policy).map_err(failed)? else { return Ok(None) };
    if stream == buffers::BYTES && parsed.buffers.len() == 1 && (want == Want::Own || !large.pinned()) {
        let copied = copy(policy, py, &large, parsed.buffers[0])?.map(|bytes| bytes.into_any().unbind());
        return copied.map(|bytes| want.of(py, bytes)).transpose();
    }
    if !segment.trusted() {
        let mut copies = made::collected(std::iter::empty())?;
        for place in &parsed.buffers {
            let Some(copied) = copy_writable(policy, py, &large, *place)? else { return Ok(None) };
            made::push(&mut copies, copied)?;
        }
        drop(large);
        if let (Want::View, Some(code), [buffer]) = (want, buffers::array_code(&stream), &copies[..]) {
            return items(buffer, code)?.call_method0("toreadonly").map(|view| Some(view.unbind()));
        }
        return want.of(py, decode_plain_buffers(py, index, &stream, copies, want)?).map(Some);
    }
    let total: u64 = parsed.buffers.iter().map(|(_, len)| len).sum();
    let objects = match memory::over(py, segment, large, &parsed, want, total)? {
        Memory::Objects(objects) => objects,
        Memory::Copy(large) => {
            let mut copies = made::collected(std::iter::empty())?;
            for place in &parsed.buffers {
                let copied = match want {
                    Want::View => copy(policy, py, &large, *place)?.map(Bound::into_any),
                    Want::Own => copy_writable(policy, py, &large, *place)?.map(Bound::into_any),
                };
                let Some(copied) = copied else { return Ok(None) };
                // As the others are: what a class is rebuilt from is no matter of the size.
                made::push(&mut copies, PyMemoryView::from(&copied)?.into_any())?;
            }
            copies
        }
    };
    let bare = stream == buffers::BYTES || stream == buffers::MEMORYVIEW || stream == buffers::BYTEARRAY;
    if let (true, [buffer]) = (bare, &objects[..]) {
        if want == Want::View || stream == buffers::MEMORYVIEW {
            return Ok(Some(buffer.clone().unbind()));
        }
    }
    if let (Want::View, Some(code), [buffer]) = (want, buffers::array_code(&stream), &objects[..]) {
        // Rebuilding an `array.array` would copy: its items, as they stand.
        return Ok(Some(items(buffer, code)?.unbind()));
    }
    let named = made::dict(py)?;
    named.set_item(made::text(py, "buffers")?, made::list(py, objects.into_iter().map(Ok))?)?;
    let pickle = made::bytes(py, &stream)?;
    let value = match want {
        Want::Own => made::call(loads(py)?, [pickle.into_any()], Some(&named)),
        Want::View => sealed::unpickle(pickle, Some(&named)),
    };
    match value {
        Ok(value) => Ok(Some(value.unbind())),
        Err(error) => Err(explain(py, error, index, &stream)),
    }
}

/// The items of an `array.array` of that typecode, over their bytes.
fn items<'py>(bytes: &Bound<'py, PyAny>, code: u8) -> PyResult<Bound<'py, PyAny>> {
    PyMemoryView::from(bytes)?.call_method1("cast", (char::from(code).to_string(),))
}

/// `pickle.loads`
pub fn loads(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    made::imported(py, &LOADS, c"_pickle", c"loads")
}

/// The value of a pickle that was copied out.
#[inline]
pub fn decode(py: Python<'_>, index: &Index<'_>, pickle: &[u8], trusted: bool, want: Want) -> PyResult<Py<PyAny>> {
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
            None => return decode_object(py, index, made::bytes(py, pickle)?, trusted, want),
        };
        Bound::from_owned_ptr_or_opt(py, object)
    };
    match made {
        Some(object) => want.of(py, object.unbind()),
        None => {
            let error = PyErr::fetch(py);
            // No pickler writes a str that is no UTF-8.
            let damaged = error.is_instance_of::<PyUnicodeDecodeError>(py);
            Err(if damaged { damage(py, error, index, pickle.len()) } else { explain(py, error, index, pickle) })
        }
    }
}

/// Of anything but a scalar.
fn decode_object(
    py: Python<'_>,
    index: &Index<'_>,
    pickle: Bound<'_, PyBytes>,
    trusted: bool,
    want: Want,
) -> PyResult<Py<PyAny>> {
    if !trusted {
        let value = plain::decode(py, pickle.as_bytes(), Vec::new(), want, &Limits::default());
        return want.of(py, value.map_err(|error| refused(py, error, index, pickle.as_bytes().len()))?);
    }
    let value = match want {
        Want::Own => made::call(loads(py)?, [pickle.clone().into_any()], None),
        Want::View => sealed::unpickle(pickle.clone(), None),
    };
    match value {
        Ok(value) => Ok(value.unbind()),
        Err(error) => Err(explain(py, error, index, pickle.as_bytes())),
    }
}

/// Of a value in a segment that is not trusted, from its stream and copies of its buffers, which become part of it.
fn decode_plain_buffers<'py>(
    py: Python<'py>,
    index: &Index<'_>,
    stream: &[u8],
    mut copies: Vec<Bound<'py, PyByteArray>>,
    want: Want,
) -> PyResult<Py<PyAny>> {
    if let ([_], true, _) | ([_], _, true) = (&copies[..], stream == buffers::BYTEARRAY, stream == buffers::MEMORYVIEW)
    {
        let buffer = copies.remove(0).into_any();
        return match stream == buffers::BYTEARRAY {
            true => Ok(buffer.unbind()),
            false => Ok(PyMemoryView::from(&buffer)?.into_any().unbind()),
        };
    }
    let len = copies.iter().fold(stream.len(), |sum, copy| sum + copy.len());
    plain::decode(py, stream, copies, want, &Limits::default()).map_err(|error| refused(py, error, index, len))
}

/// Why a value of a segment that is not trusted was not decoded, with its index and length.
#[cold]
fn refused(py: Python<'_>, error: DataOnlyError, index: &Index<'_>, len: usize) -> PyErr {
    match error.class() {
        Ok((class, why)) => raise(py, class, |class| said(class, &format!("index {index} ({len} bytes): {why}"))),
        Err(error) => error,
    }
}

#[cold]
fn damage(py: Python<'_>, error: PyErr, index: &Index<'_>, len: usize) -> PyErr {
    let text = format!("index {index}: its value of {len} bytes is damaged ({error})");
    let damage = raise(py, c"CorruptSegmentError", |class| said(class, &text));
    damage.set_cause(py, Some(error));
    damage
}

/// What `loads` raised: of a stream that is no pickle, damage; else (a class that is missing here, a `__setstate__` that
/// raises) the error unchanged, with a note of where it came from.
#[cold]
fn explain(py: Python<'_>, error: PyErr, index: &Index<'_>, pickle: &[u8]) -> PyErr {
    if !error.is_instance_of::<PyException>(py) {
        return error;
    }
    if kind::type_name(pickle).is_ok_and(|name| name == kind::DAMAGED) {
        return damage(py, error, index, pickle.len());
    }
    // Of a missing module Python names the module alone.
    let missing =
        error.is_instance_of::<PyImportError>(py).then(|| error.value(py).getattr("name")).and_then(Result::ok);
    let needed = missing.and_then(|module| kind::name_needed_from(pickle, &module.extract::<String>().ok()?));
    let needed = needed.map_or_else(String::new, |name| format!(", which needs {name}"));
    let note = format!("while reading index {index}, a value of {} bytes{needed}", pickle.len());
    let _ = made::text(py, &note).and_then(|note| made::method(error.value(py), c"add_note", [note.into_any()]));
    error
}
