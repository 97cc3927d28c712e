//! `array` and `buffer`: opening what is there, comparing it with what the caller asks for, and making it where nothing
//! is there. What numpy has to say about an array that is made is asked in `shmvar._arrays_in_place`.

use super::handle::PySegment;
use super::variable::missing;
use crate::codec::buffers;
use crate::key::Index;
use crate::py::calls;
use crate::py::convert::{self, OptionalArgument};
use crate::py::create;
use crate::py::decode::{self, InPlace};
use crate::py::errors;
use crate::variables::AsVariables;
use crate::variables::in_place::NewValue;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyMemoryView, PyTuple};

/// What a caller of `array` says of it.
pub struct ArrayArguments<'a, 'py> {
    pub shape: Option<&'a Bound<'py, PyAny>>,
    pub dtype: Option<&'a Bound<'py, PyAny>>,
    pub initial: Option<&'a Bound<'py, PyAny>>,
    pub order: &'static str,
}

/// `array`.
pub fn array(
    segment: &Bound<'_, PySegment>,
    index: &Bound<'_, PyAny>,
    given: &ArrayArguments<'_, '_>,
) -> PyResult<Py<PyAny>> {
    let py = segment.py();
    let index = &exact(index)?;
    loop {
        if let Some(found) = open(segment.get(), index, false)? {
            let found = found.into_bound(py);
            if found.is_instance_of::<PyMemoryView>() {
                return Err(errors::builtin::<PyValueError>(format!(
                    "index {} is a buffer in place of {} bytes, not an array: open it with buffer()",
                    convert::index(index)?,
                    found.len()?
                )));
            }
            if !is_as_given(&found, given)? {
                let (shape, dtype) = (or_none(py, given.shape), or_none(py, given.dtype));
                let name = create::text(py, &convert::index(index)?.to_string())?.into_any();
                python(py, c"compare", [found.clone(), name, shape, dtype])?;
            }
            return Ok(found.unbind());
        }
        if given.shape.is_none() && given.initial.is_none() {
            return Err(missing(index));
        }
        // Whoever makes it, it is there then, unless somebody removes it at once.
        let (shape, dtype, initial) = (or_none(py, given.shape), or_none(py, given.dtype), or_none(py, given.initial));
        let order = create::text(py, given.order)?.into_any();
        python(py, c"make", [segment.as_any().clone(), index.clone(), shape, dtype, initial, order])?;
    }
}

/// The order of axes that a caller gives.
pub fn order(py: Python<'_>, given: OptionalArgument) -> PyResult<&'static str> {
    let Some(given) = given.0 else { return Ok("C") };
    let given = given.bind(py);
    match given.extract::<&str>() {
        Ok("C") => Ok("C"),
        Ok("F") => Ok("F"),
        _ => Err(errors::builtin::<PyValueError>(format!("order must be 'C' or 'F', not {}", given.repr()?))),
    }
}

/// `buffer`.
pub fn buffer(segment: &PySegment, index: &Bound<'_, PyAny>, size: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
    let py = index.py();
    let size = size.map(|size| convert::size(size, "size")).transpose()?;
    let index = &exact(index)?;
    loop {
        if let Some(found) = open(segment, index, true)? {
            let found = found.into_bound(py);
            let name = convert::index(index)?;
            let len = found.len()? as u64;
            if let Some(size) = size.filter(|size| *size != len) {
                return Err(errors::builtin::<PyValueError>(format!(
                    "index {name} is a buffer in place of {len} bytes, not of {size}: open it without a size, or remove \
                     it first"
                )));
            }
            return Ok(found.unbind());
        }
        let Some(len) = size else { return Err(missing(index)) };
        make(segment, index, &NewValue { stream: buffers::MEMORYVIEW, len, pattern: &[] })?;
    }
}

/// Opens what is in place under an index. `None`: nothing is there.
fn open(segment: &PySegment, index: &Bound<'_, PyAny>, buffers_only: bool) -> PyResult<Option<Py<PyAny>>> {
    let (py, name) = (index.py(), convert::index(index)?);
    match decode::open(&segment.policy(py), py, segment.inner(), &name, buffers_only)? {
        InPlace::Missing => Ok(None),
        InPlace::Opened(value) => Ok(Some(value)),
        InPlace::NoBuffer => Err(errors::builtin::<PyValueError>(format!(
            "index {name} is an array in place, not a buffer: open it with array()"
        ))),
        InPlace::Plain => Err(errors::builtin::<PyValueError>(format!(
            "index {name} holds a plain value, which no process changes in place: remove it first, or take another index"
        ))),
    }
}

/// Makes a value in place, unless there is a variable under this index by then.
pub fn make(segment: &PySegment, index: &Bound<'_, PyAny>, new: &NewValue<'_>) -> PyResult<()> {
    let policy = segment.policy(index.py());
    let name: Index<'_> = convert::index(index)?;
    let made = segment.inner().for_change().and_then(|att| att.variables().create_in_place(&name, new, &policy));
    made.map(drop).map_err(|error| policy.error_at(&name, error))
}

/// Fails where an array with this pickle, of so many bytes, may not be made: through a handle that may not write, in a
/// segment that is too small, and in one that is not trusted, if nobody could open the array. The pickle is that of an
/// array of no items.
pub fn refuse(segment: &PySegment, index: &Bound<'_, PyAny>, stream: &[u8], len: u64) -> PyResult<()> {
    let (py, inner, name) = (index.py(), segment.inner(), convert::index(index)?);
    let new = NewValue { stream, len, pattern: &[] };
    let fits = inner.for_change().and_then(|att| att.variables().check_length_in_place(&name, &new));
    fits.map_err(|error| segment.policy(py).error_at(&name, error))?;
    if inner.trusted() {
        return Ok(());
    }
    decode::refuse_in_place(py, &name, stream)
}

/// The index as an exact int or str, so that it means the same in each step.
fn exact<'py>(index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    convert::index_key(index, &convert::index(index)?)
}

/// The bytes of a buffer that is held.
#[allow(unsafe_code, reason = "the buffer protocol")]
pub fn bytes_of(held: &PyBuffer<u8>) -> PyResult<&[u8]> {
    if !held.is_c_contiguous() {
        return Err(errors::builtin::<PyBufferError>("the buffer is not in one piece"));
    }
    // SAFETY: the memory is in one piece and exported as long as `held` lives. Where other threads store into it
    // meanwhile, each byte is copied once, and what is copied is what is stored.
    Ok(unsafe { std::slice::from_raw_parts(held.buf_ptr().cast::<u8>().cast_const(), held.len_bytes()) })
}

/// Whether an array is what the caller asks for, as far as that is quickly said.
fn is_as_given(found: &Bound<'_, PyAny>, given: &ArrayArguments<'_, '_>) -> PyResult<bool> {
    let py = found.py();
    if let Some(shape) = given.shape {
        let own = found.getattr(pyo3::intern!(py, "shape"))?.cast_into::<PyTuple>()?;
        let same = match shape.cast_exact::<PyTuple>() {
            Ok(shape) => shape.iter().all(|len| len.is_exact_instance_of::<PyInt>()) && own.eq(shape)?,
            Err(_) => shape.is_exact_instance_of::<PyInt>() && own.len() == 1 && own.get_item(0)?.eq(shape)?,
        };
        if !same {
            return Ok(false);
        }
    }
    match given.dtype {
        None => Ok(true),
        Some(dtype) => {
            let own = found.getattr(pyo3::intern!(py, "dtype"))?;
            // numpy compares with whatever can be made a dtype.
            match own.is(dtype) {
                true => Ok(true),
                false => own.eq(dtype).or_else(|error| match error.is_instance_of::<PyTypeError>(py) {
                    true => Ok(false),
                    false => Err(error),
                }),
            }
        }
    }
}

/// Calls a function of the module that asks numpy.
fn python<'py, const N: usize>(
    py: Python<'py>,
    name: &std::ffi::CStr,
    arguments: [Bound<'py, PyAny>; N],
) -> PyResult<()> {
    calls::call(&calls::attribute(py, c"shmvar._arrays_in_place", name)?, arguments, None).map(drop)
}

fn or_none<'py>(py: Python<'py>, object: Option<&Bound<'py, PyAny>>) -> Bound<'py, PyAny> {
    object.map_or_else(|| py.None().into_bound(py), Bound::clone)
}
