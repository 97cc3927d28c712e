//! What the program takes for a thread, and so for the owner of a lock: a thread of the system's or, under gevent and eventlet,
//! a greenlet.

use crate::coordination::AsCoordination;
use crate::process::attachment::Attachment;
use crate::process::held_locks::LockOwner;
use crate::py::greenlets::{self, loaded};
use crate::segment::Segment;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::{MutexExt, PyOnceLock};
use pyo3::types::{PyCFunction, PyDict};
use std::sync::{Mutex, Weak};

/// Where `threading.get_ident` is looked up each time, and what it is where nobody has patched it.
struct Threads {
    names: Py<PyDict>,
    builtin: Option<Py<PyAny>>,
}

/// `None`: the program has not imported it, so nobody has patched it.
fn threads(py: Python<'_>) -> PyResult<Option<&'static Threads>> {
    static THREADS: PyOnceLock<Threads> = PyOnceLock::new();
    if let Some(threads) = THREADS.get(py) {
        return Ok(Some(threads));
    }
    let Some(module) = loaded(py, "threading")? else { return Ok(None) };
    let threads = THREADS.get_or_try_init(py, || -> PyResult<Threads> {
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

/// Who the caller is that wants a lock: a program may patch `threading` at any time.
#[inline]
pub fn current_owner(py: Python<'_>, segment: &Segment) -> PyResult<LockOwner> {
    let Some(threads) = threads(py)? else { return Ok(segment.thread()) };
    let get_ident = threads.names.bind(py).get_item(pyo3::intern!(py, "get_ident"))?;
    match (get_ident, &threads.builtin) {
        (Some(get_ident), Some(builtin)) if get_ident.is(builtin) => Ok(segment.thread()),
        (Some(get_ident), _) => greenlet(&get_ident).map(|greenlet| segment.thread().as_greenlet(greenlet)),
        (None, _) => Ok(segment.thread()),
    }
}

/// Who the caller is that lets go of one: of what was taken before the program was patched, any greenlet of the thread may.
#[inline]
pub fn releasing_owner(py: Python<'_>, segment: &Segment) -> PyResult<LockOwner> {
    if greenlets::were_used() { current_owner(py, segment) } else { Ok(segment.thread()) }
}

/// The number of the running greenlet; 0 for the one in which its thread began, which is the thread.
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

/// In what the program takes for a thread's own: lets go of the greenlet's locks when that is cleared, at its end.
#[pyclass(frozen, name = "_Keeper", module = "shmvar._core")]
struct GreenletLocks {
    owner: LockOwner,
    attachments: Mutex<Vec<Weak<Attachment>>>,
}

impl Drop for GreenletLocks {
    fn drop(&mut self) {
        let attachments = std::mem::take(self.attachments.get_mut().unwrap_or_else(|e| e.into_inner()));
        let let_go = || {
            for attachment in attachments.iter().filter_map(Weak::upgrade) {
                attachment.coordination().release_those(|owner| owner.is(self.owner));
            }
        };
        // While the interpreter ends it may not be attached to any more.
        Python::try_attach(|py| py.detach(let_go));
    }
}

/// Before a greenlet takes a lock: it shall be let go if the greenlet ends without doing so.
#[cold]
pub fn release_at_greenlet_end(py: Python<'_>, owner: LockOwner, attachment: &Attachment) -> PyResult<()> {
    static LOCAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let local = LOCAL.get_or_try_init(py, || py.import("threading")?.getattr("local")?.call0().map(Bound::unbind))?;
    let local = local.bind(py);
    let kept = match local.getattr("keeper") {
        Ok(kept) => kept.cast_into::<GreenletLocks>().ok().filter(|kept| kept.get().owner.is(owner)),
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => None,
        Err(error) => return Err(error),
    };
    let kept = match kept {
        Some(kept) => kept,
        None => {
            let made = Bound::new(py, GreenletLocks { owner, attachments: Mutex::default() })?;
            local.setattr("keeper", &made)?;
            made
        }
    };
    let mut attachments = kept.get().attachments.lock_py_attached(py).unwrap_or_else(|e| e.into_inner());
    if !attachments.iter().any(|weak| std::ptr::eq(weak.as_ptr(), attachment)) {
        attachments.retain(|weak| weak.strong_count() > 0);
        attachments.push(attachment.downgrade());
    }
    Ok(())
}
