//! Under gevent and eventlet: sleeping so that the other greenlets of the thread run meanwhile, and their line for a lock.
//!
//! The Python half is `shmvar._greenlets`. Who takes a lock, thread or greenlet, is told by `lock_owner`.

use crate::key::Index;
use crate::py::convert;
use crate::segment::Segment;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::sync::atomic::{AtomicBool, Ordering};

/// Who has taken a lock was seen to be a greenlet, or a thread among greenlets: those who let go are asked, too.
static AMONG_GREENLETS: AtomicBool = AtomicBool::new(false);

/// A lock is being taken by a greenlet, or by a thread among greenlets.
pub fn note_use() {
    AMONG_GREENLETS.store(true, Ordering::Relaxed);
}

/// Has a lock been taken so in this process?
#[inline]
pub fn were_used() -> bool {
    AMONG_GREENLETS.load(Ordering::Relaxed)
}

/// A module, if the program has imported it.
pub fn loaded<'py>(py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let modules = py.import("sys")?.getattr("modules")?;
    let found = modules.cast::<PyDict>()?.get_item(name)?;
    Ok(found.filter(|module| !module.is_none()))
}

fn is_loaded(py: Python<'_>) -> PyResult<bool> {
    Ok(loaded(py, "gevent.monkey")?.is_some() || loaded(py, "eventlet.patcher")?.is_some())
}

/// A place in line with this thread's greenlets that wait for the same lock. `None`: it has none, as for [`sleeper`].
#[cold]
pub fn queue_place<'py>(py: Python<'py>, segment: &Segment, name: &Index<'_>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if !is_loaded(py)? {
        return Ok(None);
    }
    let what = (PyBytes::new(py, &segment.id()), convert::index_object(py, &name.to_owned())?);
    let found = py.import("shmvar._greenlets")?.getattr("place")?.call1(what)?;
    Ok((!found.is_none()).then_some(found))
}

/// A lock was let go, perhaps by a greenlet: the first one in line looks at once.
#[inline]
pub fn released(py: Python<'_>, segment: &Segment, name: &Index<'_>) -> PyResult<()> {
    if were_used() { tell(py, segment, name) } else { Ok(()) }
}

#[cold]
fn tell(py: Python<'_>, segment: &Segment, name: &Index<'_>) -> PyResult<()> {
    let what = (PyBytes::new(py, &segment.id()), convert::index_object(py, &name.to_owned())?);
    py.import("shmvar._greenlets")?.getattr("released")?.call1(what).map(drop)
}

/// What sleeps and lets other greenlets of this thread run. `None`: there are none, or the program did not ask for that.
/// `strictly`: in the hub, too, where it is an error.
#[cold]
pub fn sleeper(py: Python<'_>, strictly: bool) -> PyResult<Option<Bound<'_, PyAny>>> {
    if !is_loaded(py)? {
        return Ok(None);
    }
    let found = py.import("shmvar._greenlets")?.getattr("sleeper")?.call1((strictly,))?;
    Ok((!found.is_none()).then_some(found))
}
