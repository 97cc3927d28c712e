//! `shmvar.Changes`: every change of a segment, for `for` and `async for`.
//!
//! What is looked at, and when, is in [`crate::coordination::changes`]; the asyncio half is in `shmvar._task_watcher`.

use crate::coordination::changes::Changes;
use crate::coordination::changes_wait::Step;
use crate::coordination::{AsCoordination, Coordination};
use crate::error::Error;
use crate::key::IndexBuf;
use crate::os::fork;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::py::calls;
use crate::py::convert;
use crate::py::create;
use crate::py::errors;
use crate::py::segment::PySegment;
use crate::py::wait::StopWhenDetached;
use crate::variables::AsVariables;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// A thread that finds another one at the iterator looks again after this time.
const BEHIND: Duration = Duration::from_millis(1);
/// So often `close` wakes the threads that sleep in the iterator, a millisecond apart.
const WAKES: u32 = 100;
/// In a segment of more variables than this, a task leaves the round to another thread.
const MOST_IN_LOOP: u64 = 20_000;

#[doc = stub!(Changes)]
#[pyclass(frozen, weakref, name = "Changes", module = "shmvar")]
pub struct PyChanges {
    segment: Py<PySegment>,
    timeout: Option<Duration>,
    /// The process that made it: a forked child does not go on with it.
    epoch: u32,
    closed: AtomicBool,
    /// Threads that sleep, or are about to.
    sleepers: AtomicUsize,
    /// The thread that looks just now: see [`this_thread`]. 0: none.
    owner: AtomicU64,
    state: Mutex<Changes>,
}

/// Access to what the iterator knows, for the thread that is its owner meanwhile.
struct Entered<'a> {
    state: MutexGuard<'a, Changes>,
    owner: &'a AtomicU64,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.owner.store(0, Ordering::Relaxed);
    }
}

/// Returns a number that no other living thread of the process has.
fn this_thread() -> u64 {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr() as u64)
}

/// `changes`: counts from now, or from the versions of `newer_than`.
pub fn changes(
    slf: &Bound<'_, PySegment>,
    newer_than: Option<&Bound<'_, PyAny>>,
    prefix: Option<&Bound<'_, PyAny>>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyChanges> {
    let (py, segment, timeout) = (slf.py(), slf.get().inner(), convert::timeout(timeout)?);
    let prefix = match prefix {
        None => None,
        Some(prefix) => Some(text_of(prefix)?),
    };
    let policy = slf.get().policy(py);
    let att = segment.attachment().map_err(|error| policy.error(error))?;
    let state = match newer_than {
        None => Changes::from_now(att.coordination(), prefix, &policy),
        Some(newer_than) => {
            let versions = versions_of(newer_than, |index| {
                att.variables().version(&index.as_index(), &policy).map_err(|error| policy.error(error))
            })?;
            Changes::since(att.coordination(), versions, prefix)
        }
    };
    Ok(PyChanges {
        segment: slf.clone().unbind(),
        timeout,
        epoch: fork::epoch(),
        closed: AtomicBool::new(false),
        sleepers: AtomicUsize::new(0),
        owner: AtomicU64::new(0),
        state: Mutex::new(state.map_err(|error| policy.error(error))?),
    })
}

/// The prefix as text.
fn text_of(prefix: &Bound<'_, PyAny>) -> PyResult<String> {
    let Ok(text) = prefix.cast::<PyString>() else {
        let name = type_of(prefix);
        return Err(errors::builtin::<PyTypeError>(format!("prefix must be a str or None, not {name}")));
    };
    crate::fallible::text(text.to_str()?, "a prefix").map_err(|error| errors::to_py(prefix.py(), error))
}

fn type_of(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string())
}

/// The versions of a mapping. One that is None is that of now.
fn versions_of(
    newer_than: &Bound<'_, PyAny>,
    now: impl Fn(&IndexBuf) -> PyResult<(u64, Option<u64>)>,
) -> PyResult<Vec<(IndexBuf, u64)>> {
    if !newer_than.is_instance_of::<PyDict>() && calls::mapping(newer_than)?.is_none() {
        let name = type_of(newer_than);
        return Err(errors::builtin::<PyTypeError>(format!(
            "newer_than must be a dict of indexes and their versions, not {name}"
        )));
    }
    let items = create::tuple_of(&newer_than.call_method0("items")?)?;
    create::collect(items.iter().map(|item| {
        let (index, version): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let index = convert::index(&index)?.to_owned();
        let version = if version.is_none() { now(&index)?.0 } else { convert::version(&version)? };
        Ok((index, version))
    }))
}

impl PyChanges {
    /// Whether the iteration has ended: it was closed, or this is a forked child.
    fn has_ended(&self) -> bool {
        self.closed.load(Ordering::SeqCst) || self.epoch != fork::epoch()
    }

    /// Enters, unless another thread is inside.
    fn enter(&self) -> PyResult<Option<Entered<'_>>> {
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if self.owner.load(Ordering::Relaxed) == this_thread() => {
                // In a signal handler, say: the thread would wait for itself.
                return Err(errors::builtin::<PyRuntimeError>("this thread is looking for changes already"));
            }
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        self.owner.store(this_thread(), Ordering::Relaxed);
        Ok(Some(Entered { state, owner: &self.owner }))
    }

    /// The next change. `None`: the iteration has ended.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Py<PyTuple>>> {
        let (policy, segment) = (self.segment.get().policy(py), self.segment.get().inner());
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut late = false;
        loop {
            if self.has_ended() {
                return Ok(None);
            }
            let att = segment.attachment().map_err(|error| policy.error(error))?;
            let (att, stop) = (att.coordination(), StopWhenDetached(&policy, segment));
            let step = match self.enter()? {
                Some(mut entered) => match att.step_changes(&mut entered.state, late, None, &stop) {
                    Ok(Step::Change(..)) if self.has_ended() => return Ok(None),
                    Ok(Step::Change(index, version)) => {
                        return hand_out(py, &mut entered.state, index, version).map(Some);
                    }
                    other => other.map_err(|error| policy.error(error))?,
                },
                None => Step::Pause(BEHIND),
            };
            if late && matches!(step, Step::Sleep(..)) {
                return Err(self.late(py));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            late = left.is_some_and(|left| left.is_zero());
            let left = left.filter(|_| !late);
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            let slept = match late && matches!(step, Step::Sleep(..)) || self.has_ended() {
                true => Ok(()),
                false => att.sleep_for_changes(&step, left, &stop),
            };
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
            slept.map_err(|error| policy.error(error))?;
        }
    }

    /// Lets a task look. `None`: the iteration has ended.
    fn look(
        &self,
        py: Python<'_>,
        look: impl FnOnce(&Coordination, &mut Changes, &dyn WaitPolicy) -> Result<Step, Error>,
    ) -> PyResult<Option<Look>> {
        if self.has_ended() {
            return Ok(None);
        }
        let (policy, segment) = (self.segment.get().policy(py), self.segment.get().inner());
        let att = segment.attachment().map_err(|error| policy.error(error))?;
        let Some(mut entered) = self.enter()? else { return Ok(Some(Look::Other(Step::Pause(BEHIND)))) };
        let step = look(att.coordination(), &mut entered.state, &StopWhenDetached(&policy, segment));
        Ok(Some(match step.map_err(|error| policy.error(error))? {
            Step::Change(index, version) => Look::Change(hand_out(py, &mut entered.state, index, version)?),
            other => Look::Other(other),
        }))
    }

    fn late(&self, py: Python<'_>) -> PyErr {
        errors::changes_timeout(py, self.timeout.map_or(0.0, |timeout| timeout.as_secs_f64()))
    }
}

/// What a task has found at a look.
enum Look {
    Change(Py<PyTuple>),
    Other(Step),
}

/// A change as Python gets it. Where there is no memory for that, it stays the next change. The caller is still inside,
/// so no other thread was handed a later one.
fn hand_out(py: Python<'_>, changes: &mut Changes, index: IndexBuf, version: u64) -> PyResult<Py<PyTuple>> {
    pair(py, &index, version).inspect_err(|_| changes.give_back(index, version))
}

/// A change as Python gets it.
fn pair(py: Python<'_>, index: &IndexBuf, version: u64) -> PyResult<Py<PyTuple>> {
    let index = convert::index_object(py, index)?.into_bound(py);
    let pair = [Ok(index), create::uint(py, version).map(Bound::into_any)];
    create::tuple(py, pair.into_iter()).map(Bound::unbind)
}

#[pymethods]
impl PyChanges {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyTuple>>> {
        self.next(py)
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        calls::attribute(slf.py(), c"shmvar._task_watcher", c"next_change")?.call1((slf,))
    }

    #[doc = stub!(Changes.close)]
    fn close(&self, py: Python<'_>) {
        self.closed.store(true, Ordering::SeqCst);
        if self.epoch != fork::epoch() {
            return;
        }
        if let Ok(Some(mut entered)) = self.enter() {
            *entered.state = Changes::default();
        }
        // A thread that was about to sleep when it was woken is woken again.
        for _ in 0..WAKES {
            let Ok(att) = self.segment.get().inner().attachment() else { return };
            att.coordination().nudge();
            if self.sleepers.load(Ordering::SeqCst) == 0 {
                return;
            }
            py.detach(|| Sleep::pause(BEHIND).sleep());
        }
    }

    #[doc = stub!(Changes.segment)]
    #[getter]
    fn segment(&self, py: Python<'_>) -> Py<PySegment> {
        self.segment.clone_ref(py)
    }

    #[doc = stub!(Changes.timeout)]
    #[getter]
    fn timeout(&self) -> Option<f64> {
        self.timeout.map(|timeout| timeout.as_secs_f64())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let key = convert::key_object(py, self.segment.get().inner().key())?;
        let closed = if self.has_ended() { ", closed" } else { "" };
        Ok(format!("<shmvar.Changes of segment {}{closed}>", key.bind(py).repr()?))
    }

    // What follows is for `shmvar._task_watcher`.

    /// One step of a task. Returns the change; or for how many seconds the task sleeps, and whether it is to be woken
    /// meanwhile; or, without seconds, that another thread is to make a round. All three None: the iteration has ended.
    #[allow(clippy::type_complexity, reason = "one caller")]
    fn _step(&self, py: Python<'_>, at_once: bool) -> PyResult<(Option<Py<PyTuple>>, Option<f64>, Option<bool>)> {
        let step = self.look(py, |att, changes, policy| att.step_changes(changes, at_once, Some(MOST_IN_LOOP), policy));
        Ok(match step? {
            Some(Look::Change(change)) => (Some(change), None, None),
            Some(Look::Other(Step::Sleep(_, slice))) => (None, Some(slice.as_secs_f64()), Some(true)),
            Some(Look::Other(Step::Pause(rest))) => (None, Some(rest.as_secs_f64()), Some(false)),
            Some(Look::Other(Step::Due | Step::Change(..))) => (None, None, Some(false)),
            None => (None, None, None),
        })
    }

    /// Makes a round. Called in a thread that is not the loop's.
    fn _round(&self, py: Python<'_>) -> PyResult<()> {
        let rest = |()| Step::Pause(Duration::ZERO);
        self.look(py, |att, changes, policy| att.fill_changes(changes, policy).map(rest)).map(drop)
    }

    /// Marks all wake words as watched, and returns whether there may be something to see for a task.
    fn _may_step(&self) -> bool {
        let Ok(att) = self.segment.get().inner().attachment() else { return true };
        if self.has_ended() {
            return true;
        }
        match self.enter() {
            Ok(Some(entered)) => att.coordination().mark_and_ask_changes(&entered.state),
            _ => true,
        }
    }

    /// Raises `WaitTimeoutError`.
    fn _late(&self, py: Python<'_>) -> PyResult<()> {
        Err(self.late(py))
    }
}
