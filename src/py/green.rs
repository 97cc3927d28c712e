//! What the program takes for a thread: one of the system's or, under gevent and eventlet, a greenlet of one; and sleeping so
//! that the other greenlets of the thread run meanwhile.

use crate::coordination::AsCoordination;
use crate::key::Index;
use crate::process::attachment::Attachment;
use crate::process::held_locks::LockOwner;
use crate::py::convert;
use crate::segment::Segment;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::{MutexExt, PyOnceLock};
use pyo3::types::{PyBytes, PyCFunction, PyDict};
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Who has taken a lock was seen to be a greenlet, or a thread among greenlets: those who let go are asked, too.
static AMONG_GREENLETS: AtomicBool = AtomicBool::new(false);

/// Who the caller is that wants a lock: a program may patch `threading` at any time.
#[inline]
pub fn who(py: Python<'_>, segment: &Segment) -> PyResult<LockOwner> {
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
pub fn who_holds(py: Python<'_>, segment: &Segment) -> PyResult<LockOwner> {
    if AMONG_GREENLETS.load(Ordering::Relaxed) { who(py, segment) } else { Ok(segment.thread()) }
}

/// The number of the running greenlet; 0 for the one in which its thread began, which is the thread.
#[cold]
fn greenlet(get_ident: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = get_ident.py();
    AMONG_GREENLETS.store(true, Ordering::Relaxed);
    if let Some(module) = loaded(py, "greenlet")? {
        if module.getattr("getcurrent")?.call0()?.getattr("parent")?.is_none() {
            return Ok(0);
        }
    }
    get_ident.call0()?.extract()
}

/// A module, if the program has imported it.
fn loaded<'py>(py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let modules = py.import("sys")?.getattr("modules")?;
    let found = modules.cast::<PyDict>()?.get_item(name)?;
    Ok(found.filter(|module| !module.is_none()))
}

/// In what the program takes for a thread's own: lets go of the greenlet's locks when that is cleared, at its end.
#[pyclass(frozen, module = "shmvar._core")]
pub struct _Keeper {
    who: LockOwner,
    attachments: Mutex<Vec<Weak<Attachment>>>,
}

impl Drop for _Keeper {
    fn drop(&mut self) {
        let attachments = std::mem::take(self.attachments.get_mut().unwrap_or_else(|e| e.into_inner()));
        let let_go = || {
            for attachment in attachments.iter().filter_map(Weak::upgrade) {
                attachment.coordination().release_locks_of(|who| who.is(self.who));
            }
        };
        // While the interpreter ends it may not be attached to any more.
        Python::try_attach(|py| py.detach(let_go));
    }
}

/// Before a greenlet takes a lock: it shall be let go if the greenlet ends without doing so.
#[cold]
pub fn keep(py: Python<'_>, who: LockOwner, attachment: &Attachment) -> PyResult<()> {
    static LOCAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let local = LOCAL.get_or_try_init(py, || py.import("threading")?.getattr("local")?.call0().map(Bound::unbind))?;
    let local = local.bind(py);
    let kept = match local.getattr("keeper") {
        Ok(kept) => kept.cast_into::<_Keeper>().ok().filter(|kept| kept.get().who.is(who)),
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => None,
        Err(error) => return Err(error),
    };
    let kept = match kept {
        Some(kept) => kept,
        None => {
            let made = Bound::new(py, _Keeper { who, attachments: Mutex::default() })?;
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

fn is_loaded(py: Python<'_>) -> PyResult<bool> {
    Ok(loaded(py, "gevent.monkey")?.is_some() || loaded(py, "eventlet.patcher")?.is_some())
}

/// A place in line with this thread's greenlets that wait for the same lock. `None`: it has none, as for [`sleeper`].
#[cold]
pub fn place<'py>(py: Python<'py>, segment: &Segment, name: &Index<'_>) -> PyResult<Option<Bound<'py, PyAny>>> {
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
    if AMONG_GREENLETS.load(Ordering::Relaxed) { tell(py, segment, name) } else { Ok(()) }
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
