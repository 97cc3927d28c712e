//! `shmvar.Queue`: the methods of the class.

use super::handle::{PyQueue, timeout_of_task};
use super::put::encode_once;
use super::taken_item::PyTakenItem;
use crate::coordination::AsCoordination;
use crate::py::calls;
use crate::py::convert::{self, OptionalArgument};
use crate::py::create;
use crate::py::displays;
use crate::py::interpreter;
use crate::py::segment::PySegment;
use crate::py::wait::PyWait;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// What `Queue._tickets` returns.
type Tickets = (u64, Vec<u64>, u64, u64);

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
        Ok(PyTakenItem::new(slf.clone().unbind(), timeout))
    }

    #[doc = stub!(Queue.aput)]
    #[pyo3(signature = (value, timeout = None))]
    fn aput<'py>(
        slf: &Bound<'py, Self>,
        value: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let timeout = convert::timeout(timeout)?.map(|timeout| timeout.as_secs_f64());
        calls::attribute(slf.py(), c"shmvar._queue", c"put")?.call1((slf, value, timeout))
    }

    #[doc = stub!(Queue.aget)]
    #[pyo3(signature = (timeout = None))]
    fn aget<'py>(slf: &Bound<'py, Self>, timeout: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let timeout = convert::timeout(timeout)?.map(|timeout| timeout.as_secs_f64());
        calls::attribute(slf.py(), c"shmvar._queue", c"get")?.call1((slf, timeout))
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
        cleared.map(drop).map_err(|error| self.error(py, &policy, error))
    }

    #[doc = stub!(Queue.__reduce__)]
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let (py, queue) = (slf.py(), slf.get());
        let again = calls::attribute(py, c"shmvar._core", c"_queue")?;
        let segment = queue.segment.clone_ref(py);
        Ok((again, (segment, convert::index_object(py, &queue.name)?, queue.maxsize).into_pyobject(py)?))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let key = convert::key_object(py, self.inner().key())?;
        Ok(format!("<shmvar.Queue {} of segment {}>", self.name.as_index(), key.bind(py).repr()?))
    }

    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        displays::html(slf.as_any())
    }

    #[pyo3(signature = (include = None, exclude = None))]
    fn _repr_mimebundle_<'py>(
        slf: &Bound<'py, Self>,
        include: Option<&Bound<'py, PyAny>>,
        exclude: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        displays::mimebundle(slf.as_any(), include, exclude)
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

    /// Puts a value if there is room now. Returns whether it did. The `last` try of a task that waited `seconds` raises
    /// `QueueFullError`.
    fn _try_put(&self, value: &Bound<'_, PyAny>, last: bool, seconds: Option<f64>) -> PyResult<bool> {
        let full = self.put_within(value, Some(Duration::ZERO), &self.next_collection)?;
        self.tried_put(value.py(), full, last, seconds)
    }

    /// The same with what `_encode` returned.
    fn _try_put_pickle(&self, py: Python<'_>, pickle: &[u8], last: bool, seconds: Option<f64>) -> PyResult<bool> {
        let full = self.put_pickle(py, pickle, self.most(), &self.next_collection)?;
        self.tried_put(py, full, last, seconds)
    }

    /// Gets the first item, if one waits: in a tuple. The `last` try of a task that waited `seconds` raises
    /// `QueueEmptyError`.
    fn _try_get(&self, py: Python<'_>, last: bool, seconds: Option<f64>) -> PyResult<Option<(Py<PyAny>,)>> {
        match self.take_within(py, None, Some(Duration::ZERO))? {
            None if last => Err(self.empty_error(py, timeout_of_task(seconds))),
            got => Ok(got.map(|(value, _)| (value,))),
        }
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

    /// The pickle of a value, for a task that waits for room. `None`: the value has buffers.
    #[staticmethod]
    fn _encode<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        encode_once(value)
    }

    /// Puts a value that is a pickle already, if the segment has room now.
    fn _put_pickle(&self, py: Python<'_>, pickle: &[u8]) -> PyResult<()> {
        let full = self.put_pickle(py, pickle, u64::MAX, &AtomicU64::new(0))?;
        full.map_or(Ok(()), |full| Err(self.loading_error(py, full)))
    }
}

/// Unpickles a `Queue`.
#[pyfunction]
pub fn _queue(segment: Py<PySegment>, name: &Bound<'_, PyAny>, maxsize: i64) -> PyResult<PyQueue> {
    PyQueue::new(name.py(), segment, Some(name), maxsize)
}

/// `segment.queue(name, maxsize=...)`
pub fn queue(slf: &Bound<'_, PySegment>, name: &OptionalArgument, maxsize: &OptionalArgument) -> PyResult<PyQueue> {
    slf.get().inner().attachment().map_err(|error| slf.get().error(slf.py(), error))?;
    interpreter::python_code_follows();
    let maxsize = maxsize.0.as_ref().map_or(Ok(0), |maxsize| maxsize.bind(slf.py()).extract())?;
    PyQueue::new(slf.py(), slf.clone().unbind(), name.0.as_ref().map(|name| name.bind(slf.py())), maxsize)
}
