//! Reads, stores and removes one variable. What depends on the old value is in `mapping`.

use super::handle::PySegment;
use super::index::index_of;
use crate::error::Error;
use crate::php::serialize::Why;
use crate::py::create;
use crate::py::errors;
use crate::py::php::dumps::{self, DumpOptions};
use crate::py::php::loads::{self, LoadError};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// From this length on, other threads run while a text is copied.
const LONG: usize = 64 << 10;

/// So often a text that cannot be parsed is read again, while somebody changes it.
const AGAIN: usize = 16;

/// A variable's value. `None` if the variable is missing.
#[inline]
pub fn read<'py>(segment: &PySegment, index: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let (py, index) = (index.py(), index_of(index)?);
    let _held = segment.hold(py)?;
    read_held(segment, py, index)
}

/// The same while the lock is held.
#[inline]
pub fn read_held<'py>(segment: &PySegment, py: Python<'py>, index: i64) -> PyResult<Option<Bound<'py, PyAny>>> {
    let parsed = segment.inner().read(index, |text, _| loads::value(py, text, segment.options()));
    match parsed {
        Ok(Some(Ok(value))) => Ok(Some(value.into_bound(py))),
        Ok(None) => Ok(None),
        Ok(Some(Err(_))) => read_again(segment, py, index),
        Err(error) => Err(segment.error_at(py, index, error)),
    }
}

/// Why not all variables were read.
enum Failure {
    Core(Error),
    Raised(PyErr),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Core(error)
    }
}

/// Calls `with` with index and value of all variables, in the order of the chain, while the lock is held.
pub fn each_held<'py>(
    segment: &PySegment,
    py: Python<'py>,
    mut with: impl FnMut(i64, Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    let done = segment.inner().each(|index, text, _| {
        let value = match loads::value(py, text, segment.options()) {
            Ok(value) => Some(value.into_bound(py)),
            Err(_) => read_again(segment, py, index).map_err(Failure::Raised)?,
        };
        value.map_or(Ok(()), |value| with(index, value)).map_err(Failure::Raised)
    });
    done.map_err(|failure| match failure {
        Failure::Core(error) => segment.error(py, error),
        Failure::Raised(error) => error,
    })
}

/// Reads a variable whose text could not be parsed. A writer that takes no lock may have been about to move it: then it
/// is another text now.
#[cold]
fn read_again<'py>(segment: &PySegment, py: Python<'py>, index: i64) -> PyResult<Option<Bound<'py, PyAny>>> {
    let (mut before, mut turns) = (None::<Vec<u8>>, 0);
    loop {
        turns += 1;
        let parsed = segment.inner().read(index, |text, offset| {
            loads::value(py, text, segment.options()).map_err(|error| {
                let same = turns == AGAIN || before.as_deref() == Some(text);
                before = if same { None } else { copy_of(text) };
                (error, offset, same)
            })
        });
        match parsed {
            Ok(Some(Ok(value))) => return Ok(Some(value.into_bound(py))),
            Ok(None) => return Ok(None),
            Ok(Some(Err((error, offset, true)))) => return Err(damaged(segment, py, index, offset, error)),
            Ok(Some(Err(_))) => py.check_signals()?,
            Err(error) => return Err(segment.error_at(py, index, error)),
        }
    }
}

/// A copy of a text, unless there is no memory for it.
pub fn copy_of(text: &[u8]) -> Option<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(text.len()).ok()?;
    copy.extend_from_slice(text);
    Some(copy)
}

/// The exception for a text that cannot be parsed.
#[cold]
fn damaged(segment: &PySegment, py: Python<'_>, index: i64, offset: u64, error: LoadError) -> PyErr {
    let damage = match &error {
        LoadError::Damage(damage) => *damage,
        LoadError::Raised(_) => return error.into_py(py),
    };
    let sound = match damage.why {
        Why::Limit { .. } => Some((
            "the text of its value asks for too much",
            format!("loads(segment.raw({index}), max_depth=None, max_values=None, max_memory=None) reads it"),
        )),
        Why::SlowKeys => Some(("the text of its value asks for too much", format!("raw({index}) returns the text"))),
        Why::BehindCustom { .. } => Some(("PHP alone can read its value", format!("raw({index}) returns the text"))),
        _ => None,
    };
    if let Some((what, remedy)) = sound {
        let text = format!("{what}: {}; {remedy}", damage.why);
        return loads::unserialize_error(py, &segment.named_at(index, &text), damage.offset);
    }
    let text = format!(
        "the text of its value, at offset {offset}, is damaged at offset {}: {}; store the variable anew, or remove it \
         (raw({index}) returns the text)",
        offset + damage.offset as u64,
        damage.why
    );
    let corrupt = errors::raise_text(py, c"CorruptSegmentError", &segment.named_at(index, &text));
    corrupt.set_cause(py, Some(error.into_py(py)));
    corrupt
}

/// A variable's text. `None` if the variable is missing.
pub fn text<'py>(segment: &PySegment, index: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let (py, index) = (index.py(), index_of(index)?);
    let _held = segment.hold(py)?;
    let found = segment.inner().read(index, |text, _| create::bytes(py, text));
    found.map_err(|error| segment.error_at(py, index, error))?.transpose()
}

/// Stores a value.
#[inline]
pub fn store(segment: &PySegment, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let (py, index) = (index.py(), index_of(index)?);
    // This may run code of the program, which may even detach the handle: the lock is not held, and nothing is kept.
    dumps::with_text(value, &DumpOptions::default(), |text| {
        let _held = segment.hold(py)?;
        store_held(segment, py, index, text)
    })?
}

/// Stores a text while the lock is held.
#[inline]
pub fn store_held(segment: &PySegment, py: Python<'_>, index: i64, text: &[u8]) -> PyResult<()> {
    let quiet = segment.lock().is_some();
    let done = if text.len() < LONG {
        segment.inner().put(index, text, quiet)
    } else {
        segment.inner().put_apart(index, text, quiet, |put| py.detach(put))
    };
    done.map_err(|error| segment.error_at(py, index, error))
}

/// Removes a variable. Returns whether there was one.
pub fn remove(segment: &PySegment, index: &Bound<'_, PyAny>) -> PyResult<bool> {
    let (py, index) = (index.py(), index_of(index)?);
    let _held = segment.hold(py)?;
    remove_held(segment, py, index)
}

/// The same while the lock is held.
pub fn remove_held(segment: &PySegment, py: Python<'_>, index: i64) -> PyResult<bool> {
    segment.inner().remove(index).map_err(|error| segment.error_at(py, index, error))
}

/// Whether there is a variable.
pub fn has(segment: &PySegment, index: &Bound<'_, PyAny>) -> PyResult<bool> {
    let (py, index) = (index.py(), index_of(index)?);
    let _held = segment.hold(py)?;
    segment.inner().has(index).map_err(|error| segment.error_at(py, index, error))
}

/// `KeyError` for a variable that is missing.
#[cold]
pub fn missing(index: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err(index.clone().unbind())
}
