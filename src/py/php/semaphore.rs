//! `shmvar.php.Semaphore`: one of PHP's semaphores, for threads and greenlets.
//!
//! The protocol is in [`crate::php::semaphore`]; who holds it is decided in `lock_owner`.

use crate::error::Error;
use crate::php::semaphore::{MAX_ACQUIRE, Owner, Semaphore};
use crate::process::held_locks::LockOwner;
use crate::py::calls;
use crate::py::convert;
use crate::py::errors;
use crate::py::lock_owner;
use crate::py::php::arguments;
use crate::py::php::waits::PyWaits;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[doc = stub!(php.Semaphore)]
#[pyclass(frozen, weakref, name = "Semaphore", module = "shmvar.php")]
pub struct PySemaphore {
    inner: Semaphore,
    permissions: u32,
}

/// The semaphore is held until this is dropped.
pub struct Guard<'a> {
    semaphore: &'a Semaphore,
    owner: Owner,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // If somebody has removed the semaphore meanwhile, nobody waits for it.
        let _ = self.semaphore.release(self.owner);
    }
}

/// Numbers of greenlets that no other greenlet ever gets: the interpreter's own may be given again, and a greenlet may
/// have ended without releasing the semaphore.
#[cold]
fn greenlet_number(py: Python<'_>) -> PyResult<u64> {
    static LOCAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Each greenlet has its own, because the program has let its library patch `threading`.
    let local = calls::once(py, &LOCAL, || calls::attribute(py, c"threading", c"local")?.call0().map(Bound::unbind))?;
    let (local, name) = (local.bind(py), pyo3::intern!(py, "number"));
    match local.getattr(name) {
        Ok(number) => number.extract(),
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            local.setattr(name, number)?;
            Ok(number)
        }
        Err(error) => Err(error),
    }
}

#[inline]
fn owner_of(py: Python<'_>, owner: LockOwner) -> PyResult<Owner> {
    let greenlet = if owner.greenlet == 0 { 0 } else { greenlet_number(py)? };
    Ok(Owner { thread: owner.id, greenlet })
}

#[inline]
fn current_owner(py: Python<'_>) -> PyResult<Owner> {
    owner_of(py, lock_owner::current(py, LockOwner::thread(0))?)
}

#[inline]
fn releasing_owner(py: Python<'_>) -> PyResult<Owner> {
    owner_of(py, lock_owner::releasing(py, LockOwner::thread(0))?)
}

impl PySemaphore {
    /// Takes the semaphore for the time of one call; a thread that holds it already does not wait.
    #[inline]
    pub fn hold(&self, py: Python<'_>) -> PyResult<Guard<'_>> {
        let owner = current_owner(py)?;
        self.take(py, owner, None)?;
        let guard = Guard { semaphore: &self.inner, owner };
        // Once for each time that the place is taken, be it by this call or by a `with` around it.
        if !self.inner.is_known_alone(owner) {
            self.must_exclude_others(py)?;
            self.inner.note_alone(owner);
        }
        Ok(guard)
    }

    /// Checks that nobody else can get in while this thread holds the semaphore.
    fn must_exclude_others(&self, py: Python<'_>) -> PyResult<()> {
        match self.inner.free_places().map_err(|error| self.error(py, error))? {
            0 => Ok(()),
            free => Err(self.too_many_places(free)),
        }
    }

    #[cold]
    fn too_many_places(&self, free: i32) -> PyErr {
        let key = self.inner.key();
        errors::builtin::<PyValueError>(format!(
            "lock= needs a semaphore that one at a time holds: of the one with key {key} (0x{key:08x}), {free} more may be \
             held meanwhile, because whoever opened it first gave it more than 1; close it everywhere, and open it with 1"
        ))
    }

    /// Checks that this semaphore lets in one at a time, as the lock of a segment has to.
    pub fn must_be_lock(&self, py: Python<'_>) -> PyResult<()> {
        let key = self.inner.key();
        if self.inner.max_acquire() != 1 {
            return Err(errors::builtin::<PyValueError>(format!(
                "lock= needs a semaphore that one at a time holds: max_acquire is {}, not 1 (key {key}, 0x{key:08x})",
                self.inner.max_acquire()
            )));
        }
        // The place of this thread is no free one, if it has it.
        let own = i32::from(self.inner.held(current_owner(py)?) == 0);
        match self.inner.free_places().map_err(|error| self.error(py, error))? - own {
            ..=0 => Ok(()),
            more => Err(self.too_many_places(more)),
        }
    }

    fn take(&self, py: Python<'_>, owner: Owner, timeout: Option<Duration>) -> PyResult<bool> {
        let waits = PyWaits::new(py);
        self.inner.acquire(owner, timeout, &waits).map_err(|error| match error {
            Error::Interrupted => waits.error(error),
            error => self.error(py, error),
        })
    }

    #[cold]
    fn error(&self, py: Python<'_>, error: Error) -> PyErr {
        match error {
            Error::Detached => {
                let key = self.inner.key();
                let text = format!("semaphore with key {key} (0x{key:08x}): this handle was closed: open another one");
                errors::raise_text(py, c"DetachedError", &text)
            }
            error => errors::to_py(py, error),
        }
    }
}

#[pymethods]
impl PySemaphore {
    #[new]
    #[pyo3(
        signature = (key, max_acquire = None, permissions = None),
        text_signature = "(key, max_acquire=1, permissions=0o666)"
    )]
    fn new(
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        max_acquire: Option<&Bound<'_, PyAny>>,
        permissions: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let key = arguments::key(key, "semaphore")?;
        let max_acquire = max_acquire.map_or(Ok(Ok(1)), |most| arguments::wide_int(most, "max_acquire"))?;
        let Some(most) = max_acquire.ok().filter(|most| (1..=MAX_ACQUIRE.into()).contains(most)) else {
            let given = match max_acquire {
                Ok(number) => number.to_string(),
                Err(side) if side.is_lt() => "a smaller number".to_owned(),
                Err(_) => "a larger number".to_owned(),
            };
            return Err(errors::builtin::<PyValueError>(format!(
                "max_acquire says how many may hold the semaphore at once, 1 to {MAX_ACQUIRE}: not {given}"
            )));
        };
        let permissions = arguments::permissions(permissions)?;
        let waits = PyWaits::new(py);
        let inner = Semaphore::open(key, most as u16, permissions, &waits).map_err(|error| waits.error(error))?;
        Ok(PySemaphore { inner, permissions })
    }

    #[doc = stub!(php.Semaphore.key)]
    #[getter]
    fn key(&self) -> i32 {
        self.inner.key()
    }

    #[doc = stub!(php.Semaphore.id)]
    #[getter]
    fn id(&self) -> i32 {
        self.inner.id()
    }

    #[doc = stub!(php.Semaphore.max_acquire)]
    #[getter]
    fn max_acquire(&self) -> u16 {
        self.inner.max_acquire()
    }

    #[doc = stub!(php.Semaphore.held)]
    #[getter]
    fn held(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.inner.held(releasing_owner(py)?))
    }

    #[doc = stub!(php.Semaphore.closed)]
    #[getter]
    fn closed(&self) -> bool {
        self.inner.is_closed()
    }

    #[doc = stub!(php.Semaphore.acquire)]
    #[pyo3(signature = (timeout = None))]
    fn acquire(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        self.take(py, current_owner(py)?, convert::timeout(timeout)?)
    }

    #[doc = stub!(php.Semaphore.release)]
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        if self.inner.release(releasing_owner(py)?).map_err(|error| self.error(py, error))? {
            return Ok(());
        }
        let key = self.inner.key();
        Err(errors::builtin::<PyRuntimeError>(format!(
            "cannot release the semaphore with key {key} (0x{key:08x}): this thread has not acquired it through this \
             handle ({} other threads of this process have); whoever acquires it releases it",
            self.inner.holders()
        )))
    }

    #[doc = stub!(php.Semaphore.remove)]
    fn remove(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.remove().map_err(|error| self.error(py, error))
    }

    #[doc = stub!(php.Semaphore.close)]
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.close(releasing_owner(py)?);
        Ok(())
    }

    #[doc = stub!(php.Semaphore.__enter__)]
    fn __enter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Self>> {
        slf.get().take(py, current_owner(py)?, None)?;
        Ok(slf)
    }

    #[doc = stub!(php.Semaphore.__exit__)]
    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release(py)
    }

    #[doc = stub!(php.Semaphore.__reduce__)]
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (i32, u16, u32))> {
        let this = slf.get();
        if this.inner.is_closed() {
            return Err(this.error(slf.py(), Error::Detached));
        }
        let arguments = (this.inner.key(), this.inner.max_acquire(), this.permissions);
        Ok((slf.get_type().into_any(), arguments))
    }

    fn __repr__(&self) -> String {
        let key = self.inner.key();
        let closed = if self.inner.is_closed() { ", closed" } else { "" };
        format!("<shmvar.php.Semaphore 0x{key:08x}, max_acquire {}{closed}>", self.inner.max_acquire())
    }
}
