//! The methods of a mapping that take more than one step: `pop`, `popitem`, `setdefault`, `==`, `repr`, and the views.

use super::contents;
use super::handle::PySegment;
use super::variable::{look, read, remove, store_encoded};
use crate::error::Error;
use crate::process::backoff::{Backoff, Obstacle};
use crate::py::calls;
use crate::py::convert;
use crate::py::create;
use crate::py::decode;
use crate::py::encode;
use crate::py::errors;
use crate::py::read_mode::ReadMode;
use crate::segment::Segment;
use crate::variables::AsVariables;
use crate::variables::change::Condition;
use crate::variables::expiry::expires_after;
use crate::variables::table_iter::TableIter;
use pyo3::exceptions::{PyException, PyKeyError, PyMemoryError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use std::ffi::CStr;
use std::time::Duration;

/// `pop`. The variable is read, then removed only if it still has the version that was read, so that nobody else gets
/// the same value. `None` if the variable is missing.
pub fn pop(segment: &PySegment, index: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    let (py, inner) = (index.py(), segment.inner());
    inner.for_change().map_err(|error| segment.error(py, error))?;
    let mut backoff = Backoff::default();
    while let Some((value, version)) = read(inner, index, ReadMode::Own)? {
        if remove(inner, index, Condition::Version(version))? {
            return Ok(Some(value));
        }
        before_retry(segment, py, &mut backoff)?;
    }
    Ok(None)
}

/// `popitem`: takes the first variable after a random place of the table that this process can read. It is taken as in
/// [`pop`].
pub fn popitem<'py>(segment: &PySegment, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
    segment.inner().for_change().map_err(|error| segment.error(py, error))?;
    let mut backoff = Backoff::default();
    loop {
        let mut place = [0; 8];
        crate::os::random(&mut place).map_err(|error| segment.error(py, error))?;
        let mut table_iter = TableIter::new(u64::from_ne_bytes(place));
        let (mut unreadable, mut lost) = (None, false);
        while let Some(index) = segment
            .call(py, |policy| segment.inner().attachment()?.variables().next_variable(&mut table_iter, policy))?
        {
            let index = convert::index_object(py, &index)?.into_bound(py);
            let (value, version) = match look_at(segment.inner(), &index)? {
                Look::Found(value, version) => (value, version),
                Look::Gone => {
                    lost = true;
                    continue;
                }
                // This process cannot read the value. It stays in the segment, and all others are handed out first.
                Look::Unreadable(error) => {
                    unreadable = unreadable.or(Some(error));
                    continue;
                }
            };
            // The item is created before the variable is removed, because there may be no memory for it.
            let item = create::tuple(py, [index.clone(), value.into_bound(py)].into_iter().map(Ok))?;
            if remove(segment.inner(), &index, Condition::Version(version))? {
                return Ok(item);
            }
            // Another process or thread removed or changed the variable meanwhile: try the next one.
            lost = true;
        }
        if !lost {
            return Err(unreadable.unwrap_or_else(|| errors::builtin::<PyKeyError>("popitem(): the segment is empty")));
        }
        before_retry(segment, py, &mut backoff)?;
    }
}

/// What [`popitem`] finds of a variable.
enum Look {
    /// The value and its version.
    Found(Py<PyAny>, u64),
    /// It is missing, or another process or thread removed or changed it meanwhile.
    Gone,
    /// This process cannot read the value.
    Unreadable(PyErr),
}

/// Looks at a variable. Fails for whatever is not about the value itself: no memory, no access, an interrupt, or what a
/// signal handler raises while the value is decoded.
fn look_at(segment: &Segment, index: &Bound<'_, PyAny>) -> PyResult<Look> {
    let py = index.py();
    let error = match look(segment, index) {
        Ok(Some((value, version))) => return Ok(Look::Found(value, version)),
        Ok(None) => return Ok(Look::Gone),
        Err(error) => error,
    };
    if !error.is_instance_of::<PyException>(py) || error.is_instance_of::<PyMemoryError>(py) {
        return Err(error);
    }
    let Some(version) = decode::version_of(py, &error) else {
        // Its entry cannot be read, let alone its value.
        return if errors::is_corrupt(py, &error) { Ok(Look::Unreadable(error)) } else { Err(error) };
    };
    match look(segment, index) {
        Ok(Some((_, again))) if again == version => Err(error),
        Ok(_) => Ok(Look::Gone),
        again if errors::comes_again(py, &error, &again)? => Ok(Look::Unreadable(error)),
        Err(_) => Err(error),
    }
}

/// `setdefault`: reads, and stores the default only if the variable is still missing; then it lives for `ttl`.
pub fn setdefault(
    segment: &PySegment,
    index: &Bound<'_, PyAny>,
    default: Option<Py<PyAny>>,
    ttl: Option<Duration>,
) -> PyResult<Py<PyAny>> {
    let (py, inner) = (index.py(), segment.inner());
    inner.for_change().map_err(|error| segment.error(py, error))?;
    let default = default.unwrap_or_else(|| py.None());
    let (name, mut encoded) = (convert::index(index)?, None);
    let mut backoff = Backoff::default();
    loop {
        if let Some((value, _)) = read(inner, index, ReadMode::Own)? {
            return Ok(value);
        }
        // The default is encoded when it is needed first, and only once.
        let encoded = match &mut encoded {
            Some(encoded) => encoded,
            none => none.insert(encode::encode(default.bind(py))?),
        };
        let expiry = ttl.map(expires_after);
        if store_encoded(py, inner, &name, encoded, Condition::Version(0), expiry)?.is_some() {
            return Ok(default);
        }
        before_retry(segment, py, &mut backoff)?;
    }
}

/// Called before a retry, when others changed a variable between the read and the change: waits a little, and lets
/// Ctrl-C through.
fn before_retry(segment: &PySegment, py: Python<'_>, backoff: &mut Backoff) -> PyResult<()> {
    py.check_signals()?;
    segment.call(py, |policy| backoff.again(Obstacle::Changed, segment.inner().attachment()?.variables(), policy))
}

/// `==`: a segment equals a mapping with the same items.
pub fn equals(slf: &Bound<'_, PySegment>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    if slf.is(other) {
        return Ok(true.into_pyobject(py)?.to_owned().into_any().unbind());
    }
    let Some(other) = calls::mapping(other)? else { return Ok(py.NotImplemented()) };
    let ours = contents::copy(slf)?;
    let theirs = match other.cast::<PySegment>() {
        Ok(segment) => contents::copy(segment)?,
        Err(_) => {
            let theirs = create::dict(py)?;
            theirs.update(other)?;
            theirs
        }
    };
    Ok(ours.eq(theirs)?.into_pyobject(py)?.to_owned().into_any().unbind())
}

/// `repr`: the key, with the number of variables and the sizes if the handle is attached.
pub fn repr<'py>(segment: &PySegment, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
    let inner = segment.inner();
    let key = convert::key_object(py, inner.key())?;
    let key = key.bind(py).repr()?.to_string_lossy().into_owned();
    let numbers = segment.call(py, |policy| match inner.len_with(policy) {
        Err(Error::Interrupted) => Err(Error::Interrupted),
        // Not `info`, which may have to wait for a writer.
        count => Ok(count.and_then(|count| inner.activity().map(|found| (count, found)))),
    })?;
    let text = match numbers {
        Ok((count, found)) => {
            format!("<shmvar.Segment key={key} variables={count} used={} size={}>", found.used, found.size)
        }
        Err(Error::Detached) => format!("<shmvar.Segment key={key} detached>"),
        Err(error) => format!("<shmvar.Segment key={key} unreadable: {error}>"),
    };
    create::text(py, &text)
}

/// `keys`, `values` and `items`: a view of that class over the segment.
pub fn view_of(slf: &Bound<'_, PySegment>, class: &CStr) -> PyResult<Py<PyAny>> {
    Ok(calls::call(&view_class(slf, class)?, [slf.clone().into_any()], None)?.unbind())
}

/// `keys(prefix)`: a view of the texts that begin with `prefix`, or of all indexes.
pub fn keys(slf: &Bound<'_, PySegment>, prefix: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
    let Some(prefix) = prefix else { return view_of(slf, c"SegmentKeys") };
    if !prefix.is_instance_of::<PyString>() {
        let name = prefix.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
        return Err(errors::builtin::<PyTypeError>(format!("prefix must be a str or None, not {name}")));
    }
    let class = view_class(slf, c"SegmentKeysWithPrefix")?;
    Ok(calls::call(&class, [slf.clone().into_any(), prefix.clone()], None)?.unbind())
}

fn view_class<'py>(slf: &Bound<'py, PySegment>, class: &CStr) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    slf.get().inner().attachment().map_err(|error| slf.get().error(py, error))?;
    calls::attribute(py, c"shmvar._mapping_views", class)
}
