//! The link to gevent and eventlet: how to sleep so that the other greenlets of the thread run, and how the greenlets
//! of a thread queue for the same lock.
//!
//! The Python half is `shmvar._greenlets`. Which thread or greenlet owns a lock is decided in `lock_owner`.

use crate::key::Index;
use crate::py::calls;
use crate::py::convert;
use crate::segment::Segment;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::sync::atomic::{AtomicBool, Ordering};

/// A lock was taken in this process by a greenlet, or by a thread that has greenlets. Until then, a release need not
/// ask which greenlet runs.
static AMONG_GREENLETS: AtomicBool = AtomicBool::new(false);

/// Notes that a greenlet, or a thread that has greenlets, takes a lock.
pub fn note_use() {
    AMONG_GREENLETS.store(true, Ordering::Relaxed);
}

/// Whether [`note_use`] was called in this process.
#[inline]
pub fn were_used() -> bool {
    AMONG_GREENLETS.load(Ordering::Relaxed)
}

/// A module, if the program has imported it.
pub fn loaded<'py>(py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let modules = calls::attribute(py, c"sys", c"modules")?;
    let found = modules.cast::<PyDict>()?.get_item(name)?;
    Ok(found.filter(|module| !module.is_none()))
}

/// Whether the program has imported gevent's or eventlet's module for patching.
fn is_loaded(py: Python<'_>) -> PyResult<bool> {
    Ok(loaded(py, "gevent.monkey")?.is_some() || loaded(py, "eventlet.patcher")?.is_some())
}

/// A place for the queue of this thread's greenlets that wait for the same lock; its `join` enters the queue. `None`
/// where [`sleeper`] gives `None`.
#[cold]
pub fn queue_place<'py>(py: Python<'py>, segment: &Segment, name: &Index<'_>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if !is_loaded(py)? {
        return Ok(None);
    }
    let what = (PyBytes::new(py, &segment.id()), convert::index_object(py, &name.to_owned())?);
    let found = calls::attribute(py, c"shmvar._greenlets", c"place")?.call1(what)?;
    Ok((!found.is_none()).then_some(found))
}

/// Notifies the first greenlet in the queue that a lock was released, so that it tries at once.
#[inline]
pub fn released(py: Python<'_>, segment: &Segment, name: &Index<'_>) -> PyResult<()> {
    if were_used() { notify(py, segment, name) } else { Ok(()) }
}

#[cold]
fn notify(py: Python<'_>, segment: &Segment, name: &Index<'_>) -> PyResult<()> {
    let what = (PyBytes::new(py, &segment.id()), convert::index_object(py, &name.to_owned())?);
    calls::attribute(py, c"shmvar._greenlets", c"released")?.call1(what).map(drop)
}

/// A callable that sleeps and lets other greenlets of this thread run. `None` if there are none, or if the program did
/// not patch its modules for that. In the hub, which must not sleep, `strictly` asks for an error instead of `None`.
#[cold]
pub fn sleeper(py: Python<'_>, strictly: bool) -> PyResult<Option<Bound<'_, PyAny>>> {
    if !is_loaded(py)? {
        return Ok(None);
    }
    let found = calls::attribute(py, c"shmvar._greenlets", c"sleeper")?.call1((strictly,))?;
    Ok((!found.is_none()).then_some(found))
}
