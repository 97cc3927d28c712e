//! `shmvar.Queue`: a queue of a segment; and `shmvar.TakenItem`, the context manager that `Queue.take` returns.
//!
//! How items are put, taken and given back is in [`crate::coordination`]; waiting in asyncio is `shmvar._queue`.

use crate::coordination::AsCoordination;
use crate::coordination::queue_finish::HoldEnd;
use crate::coordination::queue_keys::ItemKey;
use crate::coordination::queue_put::{NewItem, PutOutcome};
use crate::coordination::queue_take::{Taken, Wanted};
use crate::error::Error;
use crate::key::IndexBuf;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::deadline::WithDeadline;
use crate::process::queue_holds::QueueHold;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::py::convert::{self, OptionalArgument};
use crate::py::create;
use crate::py::decode::{self, LargeRead};
use crate::py::encode;
use crate::py::errors;
use crate::py::read_mode::ReadMode;
use crate::py::segment::PySegment;
use crate::py::wait::{PyWait, StopWhenDetached, UninterruptibleWait};
use crate::segment::Segment;
use crate::variables::AsVariables;
use crate::variables::read::FoundValue;
use crate::variables::stored::{Layout, Stored, ValueSource};
use pyo3::exceptions::{PyException, PyMemoryError, PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyTuple};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long the end of a task's block may keep its event loop from everything else. Then a thread ends the block.
const LEAVE_LIMIT: Duration = Duration::from_millis(10);

#[doc = stub!(Queue)]
#[pyclass(frozen, weakref, name = "Queue", module = "shmvar")]
pub struct PyQueue {
    segment: Py<PySegment>,
    name: IndexBuf,
    maxsize: i64,
    /// When it is time to ask again whether those live who hold items.
    next_look: AtomicU64,
    /// When it is time to collect again what has expired, for tasks that wait for room.
    next_collection: AtomicU64,
}

#[doc = stub!(TakenItem)]
#[pyclass(frozen, weakref, name = "TakenItem", module = "shmvar")]
pub struct PyTakenItem {
    queue: Py<PyQueue>,
    timeout: Option<Duration>,
    attempts: AtomicU32,
    /// What this process holds between entry and exit.
    hold: Mutex<Option<QueueHold>>,
}

/// What a call got: the value, and what this process holds then.
type GotItem = (Py<PyAny>, Option<QueueHold>);

/// What `Queue._tickets` returns.
type Tickets = (u64, Vec<u64>, u64, u64);

impl PyQueue {
    /// `segment.queue(name, maxsize=...)`
    pub fn new(segment: Py<PySegment>, name: Option<&Bound<'_, PyAny>>, maxsize: i64) -> PyResult<Self> {
        let name = name.map(convert::index).transpose()?.map_or(IndexBuf::Int(0), |name| name.to_owned());
        Ok(PyQueue { segment, name, maxsize, next_look: AtomicU64::new(0), next_collection: AtomicU64::new(0) })
    }

    fn inner(&self) -> &Segment {
        self.segment.get().inner()
    }

    /// The most items that may wait.
    fn most(&self) -> u64 {
        if self.maxsize > 0 { self.maxsize as u64 } else { u64::MAX }
    }

    /// Puts a value. `Ok(None)`: it is in the queue; else why it is not.
    fn put_within(
        &self,
        value: &Bound<'_, PyAny>,
        timeout: Option<Duration>,
        next_collection: &AtomicU64,
    ) -> PyResult<Option<PutOutcome>> {
        let (py, segment) = (value.py(), self.inner());
        segment.for_change().map_err(|error| errors::of_segment(py, segment.key(), error))?;
        // Encoding runs user code, which may even detach this handle. It is therefore looked at again afterwards.
        let encoded = encode::encode(value)?;
        let policy = PyWait::new(py, segment.key());
        let att = segment.for_change().map_err(|error| policy.error(error))?;
        let (name, waits) = (self.name.as_index(), StopWhenDetached(&policy, segment));
        let outcome = encoded.with(|stored| {
            let item = NewItem { stored, source: encoded.source(), most: self.most(), next_collection };
            att.coordination().queue_put(&name, item, timeout, &waits)
        });
        match outcome.map_err(|error| self.error(py, &policy, error))? {
            PutOutcome::Put => Ok(None),
            full => Ok(Some(full)),
        }
    }

    /// How many items wait, for the text of an error.
    fn waiting(&self, py: Python<'_>) -> u64 {
        self.look(py, |att, policy| att.queue_len(&self.name.as_index(), policy)).unwrap_or(0)
    }

    /// The exception for an error about an item. Its text names the queue.
    #[cold]
    fn error(&self, py: Python<'_>, policy: &PyWait<'_>, error: Error) -> PyErr {
        match error {
            Error::Interrupted => policy.error(error),
            error => errors::of_queue(py, self.inner().key(), &self.name.as_index(), error),
        }
    }

    /// `QueueFullError`.
    #[cold]
    fn full_error(&self, py: Python<'_>, full: PutOutcome, timeout: Option<Duration>) -> PyErr {
        let name = self.name.as_index();
        let within = within(timeout);
        let text = match full {
            PutOutcome::SegmentFull(error) => {
                format!("queue {name}: the segment had no room for the item{within}: {error}")
            }
            PutOutcome::Busy => {
                format!(
                    "queue {name}: no item could be put{within}, for another process held the segment's writer lock"
                )
            }
            _ => format!("queue {name} had no room{within}: {} items wait in it", self.waiting(py)),
        };
        errors::raise_text(py, c"QueueFullError", &text)
    }

    /// `QueueEmptyError`.
    #[cold]
    fn empty_error(&self, py: Python<'_>, timeout: Option<Duration>) -> PyErr {
        let (name, within) = (self.name.as_index(), within(timeout));
        let text = match self.waiting(py) {
            0 => format!("queue {name} had no item{within}"),
            // The writer lock was held by another process, say.
            waiting => format!("queue {name}: no item could be taken{within}; now {waiting} items wait in it"),
        };
        errors::raise_text(py, c"QueueEmptyError", &text)
    }

    /// Gets or takes the first item. `None`: none came in time.
    #[inline]
    fn take_within(
        &self,
        py: Python<'_>,
        attempts: Option<&AtomicU32>,
        timeout: Option<Duration>,
    ) -> PyResult<Option<GotItem>> {
        let hold = attempts.is_some();
        let (policy, segment) = (PyWait::new(py, self.inner().key()), self.inner());
        let att = segment.for_change().map_err(|error| policy.error(error))?;
        let (name, waits, mut scratch) = (self.name.as_index(), StopWhenDetached(&policy, segment), Scratch::new());
        let wanted = if hold { Wanted::Hold(segment.thread().handle) } else { Wanted::Value };
        let taken = att.coordination().queue_take(&name, wanted, timeout, (&mut scratch, &self.next_look), &waits);
        let Some(taken) = taken.map_err(|error| policy.error(error))? else { return Ok(None) };
        if let Some(attempts) = attempts {
            // Also where the value cannot be rebuilt: the caller then learns how often that has happened.
            attempts.store(taken.attempts, Ordering::Relaxed);
        }
        let value = match taken.value {
            Taken::Small(start) => {
                decode::decode(py, &name, &scratch.bytes()[start..], segment.trusted(), ReadMode::Own)
            }
            Taken::Large => self.read_large(py, &policy, taken.hold.as_ref()),
        };
        let Some(held) = taken.hold else { return value.map(|value| Some((value, None))) };
        if value.is_ok() && hold && !segment.detached() {
            return Ok(Some((value?, Some(held))));
        }
        // Either the caller wanted the value alone, or it cannot be had. An item that cannot be decoded is gone, as it
        // would be if it were a small one: else it would be in the way of all others.
        // What kept the value from being read at all may not last: a lack of memory, say. Then the error is this
        // module's own; one that a function of the value raised has a traceback.
        let gone = match &value {
            Ok(_) => !hold,
            Err(error) => {
                let may_pass = (error.is_instance_of::<PyMemoryError>(py) || error.is_instance_of::<PyOSError>(py))
                    && error.traceback(py).is_none();
                !hold && error.is_instance_of::<PyException>(py) && !may_pass && !segment.detached()
            }
        };
        let waits = UninterruptibleWait::new(py);
        if gone {
            let done = att.coordination().end_hold(&held, HoldEnd::Done, &waits);
            if done.is_err() && !att.coordination().give_back_or_abandon(&held, &waits) {
                self.give_back_later(py);
            }
            waits.end(done.map(drop).map_err(|error| errors::of_segment(py, segment.key(), error)))?;
        } else {
            if !att.coordination().give_back_or_abandon(&held, &waits) {
                self.give_back_later(py);
            }
            waits.end(Ok(()))?;
        }
        let value = value?;
        if hold {
            // Another thread detached the handle meanwhile.
            return Err(errors::of_segment(py, segment.key(), Error::Detached));
        }
        Ok(Some((value, None)))
    }

    /// Reads the value of a large item that this process holds, so that it stays.
    fn read_large(&self, py: Python<'_>, policy: &PyWait<'_>, hold: Option<&QueueHold>) -> PyResult<Py<PyAny>> {
        let (segment, name) = (self.inner(), self.name.as_index());
        let key = hold.map_or(ItemKey::new(0, 0), |hold| ItemKey::new(hold.queue, hold.ticket));
        let mut backoff = Backoff::default();
        loop {
            let att = segment.attachment().map_err(|error| policy.error(error))?;
            let mut scratch = Scratch::new();
            let found = att.variables().find_entry(&key.name(), &mut scratch, policy);
            let found = found.and_then(|found| found.ok_or_else(|| Error::corrupt("an item that is held")));
            let value = found.and_then(|found| att.variables().value_of(found, policy));
            if let FoundValue::Large(large) = value.map_err(|error| policy.error(error))? {
                let read = LargeRead { py, policy, segment, index: &name, mode: ReadMode::Own }.read(large)?;
                if let Some(value) = read {
                    return Ok(value);
                }
            }
            // The value was moved while it was copied.
            backoff.again(Obstacle::Replaced, &att, policy).map_err(|error| policy.error(error))?;
        }
    }

    /// Leaves to a thread what could not be given back now. Where no thread can be started, this process's next
    /// acquisition of the writer lock does it.
    #[cold]
    fn give_back_later(&self, py: Python<'_>) {
        let (segment, id) = (self.segment.clone_ref(py), self.inner().id());
        let started = create::bytes(py, &id)
            .and_then(|id| py.import("shmvar._queue")?.call_method1("give_back_later", (segment, id)));
        drop(started);
    }

    fn look<T>(
        &self,
        py: Python<'_>,
        look: impl FnOnce(&crate::coordination::Coordination, &dyn WaitPolicy) -> crate::error::Result<T>,
    ) -> PyResult<T> {
        let policy = PyWait::new(py, self.inner().key());
        let att = self.inner().attachment().map_err(|error| policy.error(error))?;
        look(att.coordination(), &policy).map_err(|error| policy.error(error))
    }
}

/// " within 3 s", or nothing where the call did not wait.
fn within(timeout: Option<Duration>) -> String {
    match timeout {
        Some(timeout) if !timeout.is_zero() => format!(" within {} s", timeout.as_secs_f64()),
        _ => String::new(),
    }
}

/// The truth of an argument, which may be any object, as in `queue.Queue`.
#[derive(Clone, Copy)]
pub struct Truth(bool);

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Truth)
    }
}

/// The timeout of a call with the arguments of `queue.Queue`.
fn timeout_of(block: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    if block.0 { convert::timeout(timeout) } else { Ok(Some(Duration::ZERO)) }
}

#[pymethods]
impl PyQueue {
    #[doc = stub!(Queue.name)]
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        convert::index_object(py, &self.name)
    }

    #[doc = stub!(Queue.segment)]
    #[getter]
    fn segment(&self, py: Python<'_>) -> Py<PySegment> {
        self.segment.clone_ref(py)
    }

    #[doc = stub!(Queue.maxsize)]
    #[getter]
    fn maxsize(&self) -> i64 {
        self.maxsize
    }

    #[doc = stub!(Queue.put)]
    #[pyo3(
        signature = (value, block = Truth(true), timeout = None),
        text_signature = "($self, value, block=True, timeout=None)"
    )]
    fn put(&self, value: &Bound<'_, PyAny>, block: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let timeout = timeout_of(block, timeout)?;
        match self.put_within(value, timeout, &AtomicU64::new(0))? {
            None => Ok(()),
            Some(full) => Err(self.full_error(value.py(), full, timeout)),
        }
    }

    #[doc = stub!(Queue.put_nowait)]
    fn put_nowait(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(value, Truth(false), None)
    }

    #[doc = stub!(Queue.get)]
    #[pyo3(signature = (block = Truth(true), timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn get(&self, py: Python<'_>, block: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let timeout = timeout_of(block, timeout)?;
        match self.take_within(py, None, timeout)? {
            Some((value, ..)) => Ok(value),
            None => Err(self.empty_error(py, timeout)),
        }
    }

    #[doc = stub!(Queue.get_nowait)]
    fn get_nowait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.get(py, Truth(false), None)
    }

    #[doc = stub!(Queue.take)]
    #[pyo3(signature = (timeout = None))]
    fn take(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<PyTakenItem> {
        let timeout = convert::timeout(timeout)?;
        let queue = slf.clone().unbind();
        Ok(PyTakenItem { queue, timeout, attempts: AtomicU32::new(0), hold: Mutex::default() })
    }

    #[doc = stub!(Queue.aput)]
    #[pyo3(signature = (value, timeout = None))]
    fn aput<'py>(
        slf: &Bound<'py, Self>,
        value: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let timeout = convert::timeout(timeout)?.map(|timeout| timeout.as_secs_f64());
        slf.py().import("shmvar._queue")?.call_method1("put", (slf, value, timeout))
    }

    #[doc = stub!(Queue.aget)]
    #[pyo3(signature = (timeout = None))]
    fn aget<'py>(slf: &Bound<'py, Self>, timeout: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let timeout = convert::timeout(timeout)?.map(|timeout| timeout.as_secs_f64());
        slf.py().import("shmvar._queue")?.call_method1("get", (slf, timeout))
    }

    #[doc = stub!(Queue.qsize)]
    fn qsize(&self, py: Python<'_>) -> PyResult<u64> {
        self.look(py, |att, policy| att.queue_len(&self.name.as_index(), policy))
    }

    #[doc = stub!(Queue.empty)]
    fn empty(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.qsize(py)? == 0)
    }

    #[doc = stub!(Queue.full)]
    fn full(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.qsize(py)? >= self.most())
    }

    #[doc = stub!(Queue.clear)]
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let policy = PyWait::new(py, self.inner().key());
        let cleared =
            self.inner().for_change().and_then(|att| att.coordination().clear_queue(&self.name.as_index(), &policy));
        cleared.map(drop).map_err(|error| policy.error(error))
    }

    #[doc = stub!(Queue.__reduce__)]
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let (py, queue) = (slf.py(), slf.get());
        let again = py.import("shmvar._core")?.getattr("_queue")?;
        let segment = queue.segment.clone_ref(py);
        Ok((again, (segment, convert::index_object(py, &queue.name)?, queue.maxsize).into_pyobject(py)?))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let key = convert::key_object(py, self.inner().key())?;
        Ok(format!("<shmvar.Queue {} of segment {}>", self.name.as_index(), key.bind(py).repr()?))
    }

    // The methods from here on are for `shmvar._queue`.

    /// The segment's id and the queue's name. They are the same through all handles on the segment.
    fn _what(&self, py: Python<'_>) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
        let id = create::bytes(py, &self.inner().id())?.into_any().unbind();
        Ok((id, convert::index_object(py, &self.name)?))
    }

    /// Marks what a task waits for as watched: an item or, with `room`, room. Returns whether a try may help, and
    /// whether somebody holds items.
    fn _mark(&self, py: Python<'_>, room: bool) -> PyResult<(bool, bool)> {
        let most = room.then(|| self.most());
        self.look(py, |att, policy| att.may_try_queue(&self.name.as_index(), most, policy))
    }

    /// Puts a value if there is room now. Returns whether it did.
    fn _try_put(&self, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.put_within(value, Some(Duration::ZERO), &self.next_collection)?.is_none())
    }

    /// Gets the first item, if one waits: in a tuple.
    fn _try_get(&self, py: Python<'_>) -> PyResult<Option<(Py<PyAny>,)>> {
        Ok(self.take_within(py, None, Some(Duration::ZERO))?.map(|(value, _)| (value,)))
    }

    /// The items, for a dump: the queue's number, the tickets of those that were taken, and the first and the next
    /// ticket of the others. `None`: there is none.
    fn _tickets(&self, py: Python<'_>) -> PyResult<Option<Tickets>> {
        let state = self.look(py, |att, policy| att.read_queue(&self.name.as_index(), policy))?;
        Ok(state.map(|state| {
            let taken = state.entries.iter().map(|entry| entry.ticket).collect();
            (state.queue, taken, state.head, state.tail)
        }))
    }

    /// The pickle of an item, which stays where it is. `None`: it is gone.
    fn _pickle<'py>(&self, py: Python<'py>, queue: u64, ticket: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let pickle = self.look(py, |att, policy| att.queue_item_pickle(queue, ticket, policy))?;
        pickle.map(|pickle| create::bytes(py, &pickle)).transpose()
    }

    /// The pickle of a value, for a task that waits for room: it is made once, and what is put is the value as it was
    /// at the call. `None`: the value has buffers, which are not copied before there is room.
    #[staticmethod]
    fn _encode<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let encoded = encode::encode(value)?;
        if !encoded.is_whole() {
            return Ok(None);
        }
        let parts = encoded.whole_parts();
        let parts = parts.as_slice();
        let len = parts.iter().map(|part| part.len()).sum();
        let mut whole = Vec::new();
        crate::fallible::reserve(&mut whole, len, "an item").map_err(|error| errors::to_py(value.py(), error))?;
        parts.iter().for_each(|part| whole.extend_from_slice(part));
        create::bytes(value.py(), &whole).map(Some)
    }

    /// Puts what `_encode` returned if there is room now. Returns whether it did.
    fn _try_put_pickle(&self, py: Python<'_>, pickle: &[u8]) -> PyResult<bool> {
        let (policy, name) = (PyWait::new(py, self.inner().key()), self.name.as_index());
        let att = self.inner().for_change().map_err(|error| policy.error(error))?;
        let stored = Stored { parts: &[pickle], layout: Layout::Pickle, expiry: None };
        let (source, most) = (ValueSource::OwnMemory, self.most());
        let item = NewItem { stored, source, most, next_collection: &self.next_collection };
        let waits = StopWhenDetached(&policy, self.inner());
        let outcome = att.coordination().queue_put(&name, item, Some(Duration::ZERO), &waits);
        Ok(matches!(outcome.map_err(|error| self.error(py, &policy, error))?, PutOutcome::Put))
    }

    /// Puts a value that is a pickle already, if there is room now. Returns whether it did.
    fn _put_pickle(&self, py: Python<'_>, pickle: &[u8]) -> PyResult<()> {
        let (policy, name) = (PyWait::new(py, self.inner().key()), self.name.as_index());
        let att = self.inner().for_change().map_err(|error| policy.error(error))?;
        let stored = Stored { parts: &[pickle], layout: Layout::Pickle, expiry: None };
        let (most, next_collection) = (u64::MAX, &AtomicU64::new(0));
        let item = NewItem { stored, source: ValueSource::Anywhere, most, next_collection };
        match att.coordination().queue_put(&name, item, Some(Duration::ZERO), &policy) {
            Ok(PutOutcome::Put) => Ok(()),
            Ok(PutOutcome::SegmentFull(error)) | Err(error) => Err(self.error(py, &policy, error)),
            Ok(full) => Err(self.full_error(py, full, None)),
        }
    }

    /// Raises `QueueFullError` or, for a task that waited for an item, `QueueEmptyError`.
    #[pyo3(signature = (room, seconds))]
    fn _late(&self, py: Python<'_>, room: bool, seconds: Option<f64>) -> PyResult<()> {
        let timeout = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        if !room {
            return Err(self.empty_error(py, timeout));
        }
        Err(self.full_error(py, PutOutcome::QueueFull, timeout))
    }
}

impl PyTakenItem {
    /// Takes the first item, if one comes in time.
    #[inline]
    fn enter_within(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<Option<Py<PyAny>>> {
        if self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner()).is_some() {
            return Err(errors::builtin::<PyRuntimeError>("the item is taken already: call take() for another one"));
        }
        let taken = self.queue.get().take_within(py, Some(&self.attempts), timeout)?;
        let Some((value, hold)) = taken else { return Ok(None) };
        let mut place = self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner());
        let other = std::mem::replace(&mut *place, hold);
        drop(place);
        if let Some(other) = other {
            // Another thread entered through the same object meanwhile: what it took is given back.
            self.give_back(py, &other)?;
        }
        Ok(Some(value))
    }

    /// Gives an item back. Errors of that are nobody's concern: if need be, it is done later.
    fn give_back(&self, py: Python<'_>, hold: &QueueHold) -> PyResult<()> {
        let Ok(att) = self.queue.get().inner().attachment() else { return Ok(()) };
        let waits = UninterruptibleWait::new(py);
        if !att.coordination().give_back_or_abandon(hold, &waits) {
            self.queue.get().give_back_later(py);
        }
        waits.end(Ok(()))
    }

    /// Ends the block of a task, if that can be done without a wait. Returns whether it did.
    fn leave_now(&self, py: Python<'_>, failed: bool) -> PyResult<bool> {
        let hold = self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner()).clone();
        let (Some(hold), Ok(att)) = (hold, self.queue.get().inner().attachment()) else { return Ok(false) };
        let waits = UninterruptibleWait::new(py);
        let until = WithDeadline::new(Instant::now().checked_add(LEAVE_LIMIT), &waits);
        let end = if failed { HoldEnd::GivenBack } else { HoldEnd::Done };
        // After an error the item is still held, and `leave` says why.
        let ended = matches!(att.coordination().end_hold(&hold, end, &until), Ok(true));
        if ended {
            self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner()).take();
        }
        waits.end(Ok(ended))
    }

    /// Ends the `with` block. `failed`: an exception ends it.
    fn leave(&self, py: Python<'_>, failed: bool) -> PyResult<()> {
        let hold = self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner()).take();
        let Some(hold) = hold else {
            return Err(errors::builtin::<PyRuntimeError>("the item was not taken: it is taken by `with`"));
        };
        if failed {
            return self.give_back(py, &hold);
        }
        let segment = self.queue.get().inner();
        // Detaching has given back what was taken through the handle.
        let att = segment.attachment().map_err(|error| errors::of_segment(py, segment.key(), error))?;
        let waits = UninterruptibleWait::new(py);
        let done = att.coordination().end_hold(&hold, HoldEnd::Done, &waits);
        if done.is_err() && !att.coordination().give_back_or_abandon(&hold, &waits) {
            self.queue.get().give_back_later(py);
        }
        let held = waits.end(done.map_err(|error| errors::of_segment(py, segment.key(), error)))?;
        if held {
            return Ok(());
        }
        let name = self.queue.get().name.as_index();
        let text = format!("the item of queue {name} is not done: this process does not hold it (was it forked?)");
        Err(errors::builtin::<PyRuntimeError>(text))
    }
}

impl Drop for PyTakenItem {
    fn drop(&mut self) {
        let Some(hold) = self.hold.get_mut().unwrap_or_else(|e| e.into_inner()).take() else { return };
        // The block never ended: the task was never finished, or nobody called `__exit__`. This fails while the
        // interpreter is shutting down; then the item is given back when the process has ended.
        let queue = self.queue.get();
        Python::try_attach(|py| {
            let given_back = py.detach(|| {
                let att = queue.inner().attachment();
                att.map_or(true, |att| att.coordination().give_back_or_abandon(&hold, &Blocking))
            });
            if !given_back {
                queue.give_back_later(py);
            }
        });
    }
}

#[pymethods]
impl PyTakenItem {
    #[doc = stub!(TakenItem.attempts)]
    #[getter]
    fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    #[doc = stub!(TakenItem.queue)]
    #[getter]
    fn queue(&self, py: Python<'_>) -> Py<PyQueue> {
        self.queue.clone_ref(py)
    }

    #[doc = stub!(TakenItem.__enter__)]
    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.enter_within(py, self.timeout)? {
            Some(value) => Ok(value),
            None => Err(self.queue.get().empty_error(py, self.timeout)),
        }
    }

    #[doc = stub!(TakenItem.__exit__)]
    #[pyo3(signature = (exception = None, *_rest))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exception: Option<&Bound<'_, PyAny>>,
        _rest: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        self.leave(py, exception.is_some())
    }

    #[doc = stub!(TakenItem.__aenter__)]
    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let timeout = slf.get().timeout.map(|timeout| timeout.as_secs_f64());
        slf.py().import("shmvar._queue")?.call_method1("enter", (slf, timeout))
    }

    #[doc = stub!(TakenItem.__aexit__)]
    #[pyo3(signature = (exception = None, *_rest))]
    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        exception: Option<&Bound<'py, PyAny>>,
        _rest: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("shmvar._queue")?.call_method1("leave", (slf, exception.is_some()))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let held = self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner()).is_some();
        let name = self.queue.get().name.as_index();
        Ok(format!("<shmvar.TakenItem of queue {name}, {}>", if held { "taken" } else { "not taken" }))
    }

    // The methods from here on are for `shmvar._queue`.

    /// Takes the first item, if one waits: its value in a tuple.
    fn _try(&self, py: Python<'_>) -> PyResult<Option<(Py<PyAny>,)>> {
        Ok(self.enter_within(py, Some(Duration::ZERO))?.map(|value| (value,)))
    }

    /// Whether this process holds the item.
    fn _held(&self, py: Python<'_>) -> bool {
        self.hold.lock_py_attached(py).unwrap_or_else(|e| e.into_inner()).is_some()
    }

    /// Ends the block if that needs no wait. Returns whether it did.
    fn _leave_now(&self, py: Python<'_>, failed: bool) -> PyResult<bool> {
        self.leave_now(py, failed)
    }

    /// Ends the block.
    fn _leave(&self, py: Python<'_>, failed: bool) -> PyResult<()> {
        self.leave(py, failed)
    }
}

/// Unpickles a `Queue`.
#[pyfunction]
pub fn _queue(segment: Py<PySegment>, name: &Bound<'_, PyAny>, maxsize: i64) -> PyResult<PyQueue> {
    PyQueue::new(segment, Some(name), maxsize)
}

/// `segment.queue(name, maxsize=...)`
pub fn queue(slf: &Bound<'_, PySegment>, name: &OptionalArgument, maxsize: &OptionalArgument) -> PyResult<PyQueue> {
    slf.get().inner().attachment().map_err(|error| slf.get().error(slf.py(), error))?;
    let maxsize = maxsize.0.as_ref().map_or(Ok(0), |maxsize| maxsize.bind(slf.py()).extract())?;
    PyQueue::new(slf.clone().unbind(), name.0.as_ref().map(|name| name.bind(slf.py())), maxsize)
}
