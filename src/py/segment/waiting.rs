//! Waits for changes: `wait`, and what `shmvar._task_watcher` needs to wait for asyncio's tasks with one thread.
//!
//! The wake words that processes sleep on are in [`crate::coordination`].

use super::handle::PySegment;
use crate::coordination::AsCoordination;
use crate::coordination::lock_watch::LockWatch;
use crate::error::Error;
use crate::py::convert;
use crate::py::errors;
use crate::py::wait::{PyWait, StopWhenDetached};
use crate::segment::Segment;
use pyo3::prelude::*;
use pyo3::types::PyList;

/// `wait`: the version of the variable after the change.
pub fn wait(
    segment: &Segment,
    index: &Bound<'_, PyAny>,
    timeout: Option<&Bound<'_, PyAny>>,
    newer_than: Option<u64>,
) -> PyResult<u64> {
    let (py, policy) = (index.py(), PyWait::new(index.py(), segment.key()));
    let (name, limit) = (convert::index(index)?, convert::timeout(timeout)?);
    let att = segment.attachment().map_err(|error| policy.error(error))?;
    match att
        .coordination()
        .wait(&name, newer_than, limit, &StopWhenDetached(&policy, segment))
        .map_err(|error| policy.error(error))?
    {
        Some(version) => Ok(version),
        None => Err(errors::variable_timeout(py, &name, limit.map_or(0.0, |limit| limit.as_secs_f64()))),
    }
}

/// Called before a task waits: marks the wake word of a variable or a lock as watched. Returns the variable's version
/// (for a lock, the number means nothing), and in how many seconds the variable expires.
pub fn mark(segment: &PySegment, index: &Bound<'_, PyAny>, lock: bool) -> PyResult<(u64, Option<f64>)> {
    let (policy, name) = (segment.policy(index.py()), convert::index(index)?);
    let marked = segment.inner().attachment().and_then(|att| att.coordination().mark_watched(&name, lock, &policy));
    let (version, left) = marked.map_err(|error| policy.error(error))?;
    Ok((version, left.map(|nanos| nanos as f64 * 1e-9)))
}

/// For each of these locks, whose wake words must be marked before: whether a try may succeed now.
pub fn may_try<'py>(segment: &PySegment, names: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
    let (py, found) = (names.py(), PyList::empty(names.py()));
    let att = segment.inner().attachment().map_err(|error| segment.error(py, error))?;
    let (policy, mut watch) = (segment.policy(py), LockWatch::new(att.coordination()));
    for name in names {
        match watch.may_try(&convert::index(&name)?, &policy) {
            Err(error @ Error::Interrupted) => return Err(policy.error(error)),
            // The task that tries will report what is wrong with the lock.
            may => found.append(may.unwrap_or(true))?,
        }
    }
    Ok(found)
}

/// Waits until a watched wake word is notified or the watcher is nudged, at most for a time. `count` is the watch count
/// as it was before the caller marked what it waits for.
pub fn watch(segment: &PySegment, py: Python<'_>, count: u32, at_most: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let at_most = convert::timeout(at_most)?;
    let att = segment.inner().attachment().map_err(|error| segment.error(py, error))?;
    let policy = segment.policy(py);
    att.coordination().watch(count, at_most, &policy);
    policy.raised()
}
