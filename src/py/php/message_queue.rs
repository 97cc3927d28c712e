//! `shmvar.php.MessageQueue`: a message queue that PHP's `msg_*` functions use, too.

use crate::error::Error;
use crate::os::sysv_msg::{Changes, Status};
use crate::php::message_queue::{MessageQueue, Wanted};
use crate::py::calls;
use crate::py::convert;
use crate::py::create;
use crate::py::errors;
use crate::py::php::arguments;
use crate::py::php::message_text::{self, with_bytes};
use crate::py::php::waits::PyWaits;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::time::Duration;

#[doc = stub!(php.MessageQueue)]
#[pyclass(frozen, weakref, name = "MessageQueue", module = "shmvar.php")]
pub struct PyMessageQueue {
    inner: MessageQueue,
    permissions: u32,
}

/// A type that a message has: above 0.
fn kind(object: &Bound<'_, PyAny>) -> PyResult<i64> {
    match arguments::int(object, "the type of a message")? {
        Some(kind @ 1..) => Ok(kind),
        _ => Err(errors::builtin::<PyValueError>(format!(
            "the type of a message is a number from 1 to 2**63 - 1, not {}: 0 and less say which messages to receive",
            arguments::shown(object)?
        ))),
    }
}

/// A number that a queue may be changed to. `None` stays `None`.
fn change<T: TryFrom<i64>>(object: Option<&Bound<'_, PyAny>>, name: &str) -> PyResult<Option<T>> {
    let Some(object) = object else { return Ok(None) };
    match arguments::int(object, name)?.and_then(|number| T::try_from(number).ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(errors::builtin::<PyValueError>(format!("{name} cannot be {}", arguments::shown(object)?))),
    }
}

impl PyMessageQueue {
    fn call<'py, T>(py: Python<'py>, act: impl FnOnce(&PyWaits<'py>) -> Result<T, Error>) -> PyResult<T> {
        let waits = PyWaits::new(py);
        act(&waits).map_err(|error| waits.error(error))
    }

    fn status(&self, py: Python<'_>) -> PyResult<Status> {
        self.inner.status().map_err(|error| errors::to_py(py, error))
    }
}

#[pymethods]
impl PyMessageQueue {
    #[new]
    #[pyo3(signature = (key, permissions = None), text_signature = "(key, permissions=0o666)")]
    fn new(py: Python<'_>, key: &Bound<'_, PyAny>, permissions: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let (key, permissions) = (arguments::key(key, "queue")?, arguments::permissions(permissions)?);
        let inner = MessageQueue::open(key, permissions).map_err(|error| errors::to_py(py, error))?;
        Ok(PyMessageQueue { inner, permissions })
    }

    #[doc = stub!(php.MessageQueue.key)]
    #[getter]
    fn key(&self) -> i32 {
        self.inner.key()
    }

    #[doc = stub!(php.MessageQueue.id)]
    #[getter]
    fn id(&self) -> i32 {
        self.inner.id()
    }

    #[doc = stub!(php.MessageQueue.send)]
    #[pyo3(
        signature = (message, r#type = None, *, serialize = true, timeout = None),
        text_signature = "($self, message, type=1, *, serialize=True, timeout=None)"
    )]
    fn send(
        &self,
        message: &Bound<'_, PyAny>,
        r#type: Option<&Bound<'_, PyAny>>,
        serialize: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let (kind, timeout) = (r#type.map_or(Ok(1), kind)?, convert::timeout(timeout)?);
        with_bytes(message, serialize, |bytes| {
            Self::call(message.py(), |waits| self.inner.send(kind, bytes, timeout, waits))
        })
    }

    /// Sends if there is room now; otherwise it raises the error of a full queue.
    fn _send_now(&self, message: &Bound<'_, PyAny>, r#type: &Bound<'_, PyAny>, serialize: bool) -> PyResult<()> {
        let kind = kind(r#type)?;
        with_bytes(message, serialize, |bytes| {
            Self::call(message.py(), |waits| self.inner.send_now(kind, bytes, waits))
        })
    }

    #[doc = stub!(php.MessageQueue.receive)]
    #[pyo3(
        signature = (
            r#type = None, *, max_size = None, unserialize = true, timeout = None, except_ = false, truncate = false
        ),
        text_signature = "($self, type=0, *, max_size=None, unserialize=True, timeout=None, except_=False, \
            truncate=False)"
    )]
    #[allow(clippy::too_many_arguments, reason = "as the stub has them")]
    fn receive<'py>(
        &self,
        py: Python<'py>,
        r#type: Option<&Bound<'py, PyAny>>,
        max_size: Option<&Bound<'py, PyAny>>,
        unserialize: bool,
        timeout: Option<&Bound<'py, PyAny>>,
        except_: bool,
        truncate: bool,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let beyond = |what: &str, object: &Bound<'_, PyAny>| {
            arguments::shown(object).map_or_else(
                |raised| raised,
                |shown| errors::builtin::<PyValueError>(format!("{what} cannot be {shown}")),
            )
        };
        let kind = match r#type {
            None => 0,
            Some(kind) => arguments::int(kind, "type")?.ok_or_else(|| beyond("type", kind))?,
        };
        if except_ && kind <= 0 {
            let text = format!("except_ needs the type that is not wanted, above 0: {kind}");
            return Err(errors::builtin::<PyValueError>(text));
        }
        let max_size = match max_size {
            None => None,
            Some(size) => match arguments::int(size, "max_size")? {
                Some(most @ 1..) => Some(most as usize),
                _ => return Err(beyond("max_size", size)),
            },
        };
        if truncate && max_size.is_none() {
            return Err(errors::builtin::<PyTypeError>("truncate=True needs max_size="));
        }
        let wanted = Wanted { kind, except: except_, max_size, truncate };
        let timeout: Option<Duration> = convert::timeout(timeout)?;
        let Some(message) = Self::call(py, |waits| self.inner.receive(wanted, timeout, waits))? else {
            return Ok(None);
        };
        let (kind, bytes) = (message.kind(), message.bytes());
        let value = match unserialize {
            true => message_text::unserialize(py, self.inner.key(), kind, bytes)?,
            false => create::bytes(py, bytes)?.into_any(),
        };
        let kind = create::int(py, kind)?.into_any();
        create::tuple(py, [kind, value].into_iter().map(Ok)).map(Some)
    }

    #[doc = stub!(php.MessageQueue.stat)]
    fn stat<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let status = self.status(py)?;
        let class = calls::attribute(py, c"shmvar.php._message_queue_info", c"MessageQueueInfo")?;
        let number = |number: u64| create::uint(py, number).map(Bound::into_any);
        let time = |time: i64| match time {
            0 => Ok(py.None().into_bound(py)),
            time => create::int(py, time).map(Bound::into_any),
        };
        let pid = |pid: i32| number(pid.unsigned_abs().into());
        calls::call(
            &class,
            [
                create::int(py, self.inner.key().into())?.into_any(),
                create::int(py, self.inner.id().into())?.into_any(),
                number(status.messages)?,
                number(status.bytes)?,
                number(status.max_bytes)?,
                number(status.mode.into())?,
                number(status.uid.into())?,
                number(status.gid.into())?,
                pid(status.last_sender)?,
                pid(status.last_receiver)?,
                time(status.sent_at)?,
                time(status.received_at)?,
                time(status.changed_at)?,
            ],
            None,
        )
    }

    #[doc = stub!(php.MessageQueue.set)]
    #[pyo3(signature = (*, uid = None, gid = None, permissions = None, max_bytes = None))]
    fn set(
        &self,
        py: Python<'_>,
        uid: Option<&Bound<'_, PyAny>>,
        gid: Option<&Bound<'_, PyAny>>,
        permissions: Option<&Bound<'_, PyAny>>,
        max_bytes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let changes = Changes {
            uid: change(uid, "uid")?,
            gid: change(gid, "gid")?,
            mode: permissions.map(|bits| arguments::permissions(Some(bits))).transpose()?,
            max_bytes: change(max_bytes, "max_bytes")?,
        };
        self.inner.change(changes).map_err(|error| errors::to_py(py, error))
    }

    #[doc = stub!(php.MessageQueue.remove)]
    fn remove(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.remove().map_err(|error| errors::to_py(py, error))
    }

    #[doc = stub!(php.MessageQueue.__reduce__)]
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyAny>, (i32, u32)) {
        (slf.get_type().into_any(), (slf.get().inner.key(), slf.get().permissions))
    }

    fn __repr__(&self) -> String {
        format!("<shmvar.php.MessageQueue 0x{:08x}>", self.inner.key())
    }
}

#[doc = stub!(php.msg_queue_exists)]
#[pyfunction]
pub fn msg_queue_exists(py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
    MessageQueue::exists(arguments::key(key, "queue")?).map_err(|error| errors::to_py(py, error))
}
