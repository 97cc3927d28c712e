//! Who owns a lock: what the program takes for a thread. That is a thread of the system or, under gevent and eventlet,
//! a greenlet.
//!
//! The locks themselves are in [`crate::coordination`]; how greenlets wait is in `wait`.

use crate::coordination::AsCoordination;
use crate::process::attachment::Attachment;
use crate::process::held_locks::LockOwner;
use crate::py::calls;
use crate::py::greenlets::{self, loaded};
use crate::segment::Segment;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::{MutexExt, PyOnceLock};
use pyo3::types::{PyCFunction, PyDict};
use std::sync::{Mutex, Weak};

/// The namespace of `threading`, in which `get_ident` is looked up each time, and the function that stands there unless
/// the program has patched it.
struct Threads {
    names: Py<PyDict>,
    builtin: Option<Py<PyAny>>,
}

/// `None` if the program has not imported `threading`; then nobody has patched it.
fn threads(py: Python<'_>) -> PyResult<Option<&'static Threads>> {
    static THREADS: PyOnceLock<Threads> = PyOnceLock::new();
    if let Some(threads) = THREADS.get(py) {
        return Ok(Some(threads));
    }
    let Some(module) = loaded(py, "threading")? else { return Ok(None) };
    let threads = calls::once(py, &THREADS, || {
        let names = module.getattr("__dict__")?.cast_into::<PyDict>()?;
        let found = names.get_item("get_ident")?;
        let is_builtin = |found: &Bound<'_, PyAny>| {
            found.is_instance_of::<PyCFunction>()
                && found.getattr("__module__").and_then(|module| module.eq("_thread")).unwrap_or(false)
        };
        let builtin = found.filter(is_builtin).map(Bound::unbind);
        Ok(Threads { names: names.unbind(), builtin })
    })?;
    Ok(Some(threads))
}

/// The owner that the caller is when it takes a lock of a segment.
#[inline]
pub fn current_owner(py: Python<'_>, segment: &Segment) -> PyResult<LockOwner> {
    current(py, segment.thread())
}

/// The owner that the caller is when it releases a lock of a segment.
#[inline]
pub fn releasing_owner(py: Python<'_>, segment: &Segment) -> PyResult<LockOwner> {
    releasing(py, segment.thread())
}

/// The owner that the caller is when it takes something; `thread` is the running thread. `threading` is looked at each
/// time, because a program may patch it at any time.
#[inline]
pub fn current(py: Python<'_>, thread: LockOwner) -> PyResult<LockOwner> {
    let Some(threads) = threads(py)? else { return Ok(thread) };
    let get_ident = threads.names.bind(py).get_item(pyo3::intern!(py, "get_ident"))?;
    match (get_ident, &threads.builtin) {
        (Some(get_ident), Some(builtin)) if get_ident.is(builtin) => Ok(thread),
        (Some(get_ident), _) => greenlet(&get_ident).map(|greenlet| thread.as_greenlet(greenlet)),
        (None, _) => Ok(thread),
    }
}

/// The owner that the caller is when it releases something. What was taken before the program was patched belongs to
/// the thread, so any greenlet of the thread may release it.
#[inline]
pub fn releasing(py: Python<'_>, thread: LockOwner) -> PyResult<LockOwner> {
    if greenlets::were_used() { current(py, thread) } else { Ok(thread) }
}

/// The number of the running greenlet. It is 0 for the greenlet in which the thread began, which counts as the thread.
#[cold]
fn greenlet(get_ident: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = get_ident.py();
    greenlets::note_use();
    if let Some(module) = loaded(py, "greenlet")? {
        if module.getattr("getcurrent")?.call0()?.getattr("parent")?.is_none() {
            return Ok(0);
        }
    }
    get_ident.call0()?.extract()
}

/// Releases the locks of a greenlet when it is dropped. It lies in the greenlet's `threading.local`, which is cleared
/// when the greenlet ends.
#[pyclass(frozen, name = "_Keeper", module = "shmvar._core")]
struct GreenletLocks {
    owner: LockOwner,
    attachments: Mutex<Vec<Weak<Attachment>>>,
}

impl Drop for GreenletLocks {
    fn drop(&mut self) {
        let attachments = std::mem::take(self.attachments.get_mut().unwrap_or_else(|e| e.into_inner()));
        let release = || {
            for attachment in attachments.iter().filter_map(Weak::upgrade) {
                attachment.coordination().release_locks_of(|owner| owner.is(self.owner));
            }
        };
        // This fails while the interpreter is shutting down; then nothing is released.
        Python::try_attach(|py| py.detach(release));
    }
}

/// Called before a greenlet takes a lock: makes sure that the lock is released if the greenlet ends without releasing
/// it.
#[cold]
pub fn release_at_greenlet_end(py: Python<'_>, owner: LockOwner, attachment: &Attachment) -> PyResult<()> {
    static LOCAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let local = calls::once(py, &LOCAL, || calls::attribute(py, c"threading", c"local")?.call0().map(Bound::unbind))?;
    let local = local.bind(py);
    let existing = match local.getattr("keeper") {
        Ok(locks) => locks.cast_into::<GreenletLocks>().ok().filter(|locks| locks.get().owner.is(owner)),
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => None,
        Err(error) => return Err(error),
    };
    let locks = match existing {
        Some(locks) => locks,
        None => {
            let locks = Bound::new(py, GreenletLocks { owner, attachments: Mutex::default() })?;
            local.setattr("keeper", &locks)?;
            locks
        }
    };
    let mut attachments = locks.get().attachments.lock_py_attached(py).unwrap_or_else(|e| e.into_inner());
    if !attachments.iter().any(|weak| std::ptr::eq(weak.as_ptr(), attachment)) {
        attachments.retain(|weak| weak.strong_count() > 0);
        attachments.push(attachment.downgrade());
    }
    Ok(())
}
