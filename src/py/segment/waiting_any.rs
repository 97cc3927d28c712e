//! Waits for the first of several variables to change: `wait_any`, and what `changed_any` of `shmvar._task_watcher` needs.
//!
//! How one thread sleeps for all of them is in [`crate::coordination::wait_any`].

use super::handle::PySegment;
use crate::coordination::AsCoordination;
use crate::coordination::wait_any::Awaited;
use crate::py::calls;
use crate::py::convert;
use crate::py::create;
use crate::py::errors;
use crate::py::wait::{PyWait, StopWhenDetached};
use crate::segment::Segment;
use crate::variables::AsVariables;
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

/// So many indexes are named in the text of an error.
const NAMED: usize = 3;
/// So many characters of each.
const NAMED_CHARACTERS: usize = 40;

/// The indexes of a call, which may come from any iterable.
fn objects<'py>(indices: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    if indices.is_instance_of::<PyString>() {
        let shown: String = indices.repr()?.to_str()?.chars().take(NAMED_CHARACTERS).collect();
        return Err(errors::builtin::<PyTypeError>(format!(
            "indices must be an iterable of indexes, not a str: for one index write [{shown}]"
        )));
    }
    let tuple = create::tuple_of(indices)?;
    if tuple.is_empty() {
        return Err(errors::builtin::<PyValueError>("indices is empty: there is nothing to wait for"));
    }
    create::collect(tuple.iter().map(Ok))
}

/// What is awaited of these variables, with the versions of `newer_than`, a mapping of some of the indexes.
fn awaited<'a>(objects: &'a [Bound<'_, PyAny>], newer_than: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Awaited<'a>>> {
    let mut all = create::collect(
        objects.iter().map(|object| convert::index(object).map(|index| Awaited { index, seen: None })),
    )?;
    let Some(newer_than) = newer_than else { return Ok(all) };
    if !newer_than.is_instance_of::<PyDict>() && calls::mapping(newer_than)?.is_none() {
        let name = newer_than.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
        return Err(errors::builtin::<PyTypeError>(format!(
            "newer_than must be a dict of indexes and their versions, not {name}"
        )));
    }
    for (one, object) in all.iter_mut().zip(objects) {
        let key = convert::index_key(object, &one.index)?;
        // A dict makes no item for a key that it has not, whatever its class does elsewhere.
        let version = match newer_than.cast::<PyDict>() {
            Ok(dict) => dict.get_item(&key)?,
            Err(_) => match newer_than.get_item(&key) {
                Err(error) if error.is_instance_of::<PyKeyError>(key.py()) => None,
                found => Some(found?),
            },
        };
        if let Some(version) = version.filter(|version| !version.is_none()) {
            one.seen = Some(convert::version(&version)?);
        }
    }
    Ok(all)
}

/// `wait_any`: the index of the first variable that has changed, and its version after the change.
pub fn wait_any<'py>(
    segment: &Segment,
    several: &Bound<'py, PyAny>,
    timeout: Option<&Bound<'_, PyAny>>,
    newer_than: Option<&Bound<'_, PyAny>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let (py, policy) = (several.py(), PyWait::new(several.py(), segment.key()));
    let objects = objects(several)?;
    let (mut awaited, limit) = (awaited(&objects, newer_than)?, convert::timeout(timeout)?);
    let att = segment.attachment().map_err(|error| policy.error(error))?;
    match att
        .coordination()
        .wait_any(&mut awaited, limit, &StopWhenDetached(&policy, segment))
        .map_err(|error| policy.error(error))?
    {
        Some((place, version)) => {
            let index = convert::index_key(&objects[place], &awaited[place].index)?;
            create::tuple(py, [Ok(index), create::uint(py, version).map(Bound::into_any)].into_iter())
        }
        None => Err(late(py, &awaited, limit.map_or(0.0, |limit| limit.as_secs_f64()))),
    }
}

/// `changed_any`, as far as it is done when it is called: the indexes as a list, and the versions that count.
pub fn of_now<'py>(
    segment: &Segment,
    several: &Bound<'py, PyAny>,
    newer_than: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>)> {
    let (py, policy) = (several.py(), PyWait::new(several.py(), segment.key()));
    let objects = objects(several)?;
    let awaited = awaited(&objects, newer_than)?;
    let att = segment.attachment().map_err(|error| policy.error(error))?;
    let seen = create::list(
        py,
        awaited.iter().map(|one| {
            let of_now = || att.variables().version(&one.index, &policy).map(|(version, _)| version);
            let version = one.seen.map_or_else(of_now, Ok).map_err(|error| policy.error(error))?;
            create::uint(py, version).map(Bound::into_any)
        }),
    )?;
    let own = objects.iter().zip(&awaited).map(|(object, one)| convert::index_key(object, &one.index));
    Ok((create::list(py, own)?, seen))
}

/// For a task that waits for several variables: marks their wake words as watched. Returns the place of the first one
/// whose version is not the one of `seen` (`None`: there is none), this version, and in how many seconds the first of
/// them expires.
pub fn mark_any(
    segment: &PySegment,
    several: &Bound<'_, PyList>,
    seen: &Bound<'_, PyList>,
) -> PyResult<(Option<usize>, u64, Option<f64>)> {
    let policy = segment.policy(several.py());
    let objects = create::collect(several.iter().map(Ok))?;
    let mut awaited = create::collect(objects.iter().zip(seen.iter()).map(|(object, version)| {
        Ok(Awaited { index: convert::index(object)?, seen: Some(convert::version(&version)?) })
    }))?;
    let att = segment.inner().attachment().map_err(|error| policy.error(error))?;
    let looked = att.coordination().mark_and_look(&mut awaited, &policy).map_err(|error| policy.error(error))?;
    if let Some((place, version)) = looked.changed {
        return Ok((Some(place), version, None));
    }
    att.coordination().check_not_gone().map_err(|error| policy.error(error))?;
    let left = looked.expiry.map(|at| at.saturating_sub(crate::os::boottime_ns()) as f64 * 1e-9);
    Ok((None, 0, left))
}

/// The `WaitTimeoutError` of a task that waited for several variables.
pub fn late_any(several: &Bound<'_, PyList>, seconds: Option<f64>) -> PyErr {
    let Ok(objects) = create::collect(several.iter().map(Ok)) else { return create::no_memory() };
    let all =
        create::collect(objects.iter().map(|object| convert::index(object).map(|index| Awaited { index, seen: None })));
    all.map_or_else(|error| error, |all| late(several.py(), &all, seconds.unwrap_or_default()))
}

/// `WaitTimeoutError` for several variables, of which it names the first ones.
#[cold]
fn late(py: Python<'_>, awaited: &[Awaited<'_>], seconds: f64) -> PyErr {
    let mut names = String::new();
    for (number, one) in awaited.iter().take(NAMED).enumerate() {
        let name = one.index.to_string();
        names.push_str(if number == 0 { "" } else { ", " });
        names.extend(name.chars().take(NAMED_CHARACTERS));
        names.push_str(if name.chars().nth(NAMED_CHARACTERS).is_some() { "…" } else { "" });
    }
    if awaited.len() > NAMED {
        names.push_str(&format!(" and {} more", awaited.len() - NAMED));
    }
    errors::any_timeout(py, &names, seconds)
}
