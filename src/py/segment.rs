//! `shmvar.Segment`.

use crate::coordination::AsCoordination;
use crate::coordination::lock_watch::LockWatch;
use crate::error::Error;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;
use crate::py::convert;
use crate::py::decode::{self, Want};
use crate::py::encode;
use crate::py::errors;
use crate::py::info::{PyCheckReport, PySegmentInfo, PyVariableInfo};
use crate::py::lock::PyLock;
use crate::py::made;
use crate::py::together::{self, Given};
use crate::py::wait::PyWait;
use crate::segment::Segment;
use crate::variables::AsVariables;
use crate::variables::change::Condition;
use crate::variables::table_iter::TableIter;
use pyo3::exceptions::{PyException, PyKeyError, PyMemoryError, PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyInt, PyList, PyMapping, PyString, PyTuple};
use std::ffi::CStr;

#[doc = stub!(Segment)]
#[pyclass(frozen, mapping, weakref, name = "Segment", module = "shmvar")]
pub struct PySegment {
    inner: Segment,
    /// Of asyncio's waiters, made when the first one comes.
    watcher: PyOnceLock<Py<PyAny>>,
}

impl PySegment {
    /// A handle of the core, as Python sees it.
    pub fn of(inner: Segment) -> Self {
        PySegment { inner, watcher: PyOnceLock::new() }
    }

    /// The core's handle.
    pub fn inner(&self) -> &Segment {
        &self.inner
    }

    #[inline]
    fn read(&self, index: &Bound<'_, PyAny>) -> PyResult<Option<(Py<PyAny>, u64)>> {
        let py = index.py();
        decode::read(&self.policy(py), py, &self.inner, &convert::index(index)?, Want::Own)
    }

    #[inline]
    fn store(&self, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, condition: Condition) -> PyResult<bool> {
        Ok(together::store(&self.inner, index, value, condition, || Ok(None))?.is_some())
    }

    fn take_away(&self, index: &Bound<'_, PyAny>, condition: Condition) -> PyResult<bool> {
        let policy = self.policy(index.py());
        let name = convert::index(index)?;
        let removed = self.inner.for_change().and_then(|att| att.variables().remove(&name, condition, &policy));
        removed.map_err(|error| policy.error_at(&name, error))
    }

    #[inline]
    fn policy<'a>(&'a self, py: Python<'a>) -> PyWait<'a> {
        PyWait::new(py, self.inner.key())
    }

    fn error(&self, py: Python<'_>, error: Error) -> PyErr {
        errors::of(py, self.inner.key(), error)
    }

    /// Runs a call of the core that may wait.
    fn call<R>(&self, py: Python<'_>, call: impl FnOnce(&dyn WaitPolicy) -> Result<R, Error>) -> PyResult<R> {
        let policy = self.policy(py);
        call(&policy).map_err(|error| policy.error(error))
    }

    /// Others changed a variable between two looks at it.
    fn again(&self, py: Python<'_>, backoff: &mut Backoff) -> PyResult<()> {
        py.check_signals()?;
        self.call(py, |policy| backoff.again(Obstacle::Changed, self.inner.attachment()?.variables(), policy))
    }

    fn view_of(slf: &Bound<'_, Self>, class: &CStr) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        slf.borrow_inner().attachment().map_err(|error| slf.get().error(py, error))?;
        let class = made::attribute(py, c"shmvar._mapping_views", class)?;
        Ok(made::call(&class, [slf.clone().into_any()], None)?.unbind())
    }
}

/// Access to the frozen inside of a bound handle.
trait Inner {
    fn borrow_inner(&self) -> &Segment;
}

impl Inner for Bound<'_, PySegment> {
    fn borrow_inner(&self) -> &Segment {
        &self.get().inner
    }
}

#[cold]
fn missing(index: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err(index.clone().unbind())
}

#[pymethods]
impl PySegment {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Err(made::error::<PyTypeError>("segments are opened with shmvar.attach(key)"))
    }

    #[inline]
    fn __getitem__(&self, index: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        match self.read(index)? {
            Some((value, _)) => Ok(value),
            None => Err(missing(index)),
        }
    }

    #[inline]
    fn __setitem__(&self, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.store(index, value, Condition::Always).map(drop)
    }

    fn __delitem__(&self, index: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.take_away(index, Condition::Always)? { Ok(()) } else { Err(missing(index)) }
    }

    fn __contains__(&self, index: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.has(index)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.call(py, |policy| self.inner.len_with(policy)).map(|len| len as usize)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let list = self.indexes(py)?;
        Ok(list.try_iter()?.into_any())
    }

    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        if slf.is(other) {
            return Ok(true.into_pyobject(py)?.to_owned().into_any().unbind());
        }
        let Ok(other) = other.cast::<PyMapping>() else { return Ok(py.NotImplemented()) };
        let ours = made::dict(py)?;
        for item in Self::items(slf)?.bind(py).try_iter()? {
            let (index, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
            ours.set_item(index, value)?;
        }
        let theirs = made::dict(py)?;
        theirs.update(other)?;
        Ok(ours.eq(theirs)?.into_pyobject(py)?.to_owned().into_any().unbind())
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let key = convert::key_object(py, self.inner.key())?;
        let key = key.bind(py).repr()?.to_string_lossy().into_owned();
        let numbers = self.call(py, |policy| match (self.inner.len_with(policy), self.inner.info_with(policy)) {
            (Err(Error::Interrupted), _) | (_, Err(Error::Interrupted)) => Err(Error::Interrupted),
            numbers => Ok(numbers),
        })?;
        let text = match numbers {
            (Ok(count), Ok(info)) => {
                format!("<shmvar.Segment key={key} variables={count} used={} size={}>", info.used, info.size)
            }
            _ => format!("<shmvar.Segment key={key} detached>"),
        };
        made::text(py, &text)
    }

    #[doc = stub!(Segment.__enter__)]
    fn __enter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Self>> {
        slf.get().inner.attachment().map_err(|error| slf.get().error(py, error))?;
        Ok(slf)
    }

    #[doc = stub!(Segment.__exit__)]
    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.detach(py);
    }

    #[doc = stub!(Segment.__reduce__)]
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let (py, inner) = (slf.py(), slf.borrow_inner());
        inner.attachment().map_err(|error| slf.get().error(py, error))?;
        let again = py.import("shmvar._core")?.getattr("_reattach")?;
        let (key, options) = (convert::key_object(py, inner.key())?, inner.options());
        Ok((again, (key, made::bytes(py, &inner.id())?, options.readonly, options.trust).into_pyobject(py)?))
    }

    #[doc = stub!(Segment.key)]
    #[getter]
    fn key(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        convert::key_object(py, self.inner.key())
    }
    #[doc = stub!(Segment.size)]
    #[getter]
    fn size<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyInt>> {
        made::uint(py, self.inner.size().map_err(|error| self.error(py, error))?)
    }
    #[doc = stub!(Segment.created)]
    #[getter]
    fn created(&self) -> bool {
        self.inner.created()
    }
    #[doc = stub!(Segment.readonly)]
    #[getter]
    fn readonly(&self) -> bool {
        self.inner.options().readonly
    }
    #[doc = stub!(Segment.trusted)]
    #[getter]
    fn trusted(&self) -> bool {
        self.inner.trusted()
    }
    #[doc = stub!(Segment.detached)]
    #[getter]
    fn detached(&self) -> bool {
        self.inner.detached()
    }

    #[doc = stub!(Segment.put)]
    #[pyo3(signature = (index, value, *, ttl = None))]
    fn put(&self, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, ttl: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        together::store(&self.inner, index, value, Condition::Always, || convert::ttl(ttl)).map(drop)
    }

    #[doc = stub!(Segment.get)]
    #[pyo3(signature = (index, default = None))]
    fn get(&self, py: Python<'_>, index: &Bound<'_, PyAny>, default: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        Ok(match self.read(index)? {
            Some((value, _)) => value,
            None => default.unwrap_or_else(|| py.None()),
        })
    }

    #[doc = stub!(Segment.view)]
    fn view(&self, index: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = index.py();
        match decode::read(&self.policy(py), py, &self.inner, &convert::index(index)?, Want::View)? {
            Some((value, _)) => Ok(value),
            None => Err(missing(index)),
        }
    }

    #[doc = stub!(Segment.has)]
    fn has(&self, index: &Bound<'_, PyAny>) -> PyResult<bool> {
        let policy = self.policy(index.py());
        let name = convert::index(index)?;
        let found = self.inner.attachment().and_then(|att| att.variables().has(&name, &policy));
        found.map_err(|error| policy.error(error))
    }

    #[doc = stub!(Segment.remove)]
    fn remove(&self, index: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.take_away(index, Condition::Always)
    }

    #[doc = stub!(Segment.pop)]
    // Read, then removed only while it is still that version: nobody else gets the same one.
    #[pyo3(signature = (index, *default))]
    fn pop(&self, py: Python<'_>, index: &Bound<'_, PyAny>, default: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        if default.len() > 1 {
            return Err(made::error::<PyTypeError>(format!(
                "pop expected at most 2 arguments, got {}",
                1 + default.len()
            )));
        }
        self.inner.for_change().map_err(|error| self.error(py, error))?;
        let mut backoff = Backoff::default();
        while let Some((value, version)) = self.read(index)? {
            if self.take_away(index, Condition::Version(version))? {
                return Ok(value);
            }
            self.again(py, &mut backoff)?;
        }
        match default.iter().next() {
            Some(default) => Ok(default.unbind()),
            None => Err(missing(index)),
        }
    }

    #[doc = stub!(Segment.popitem)]
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.inner.for_change().map_err(|error| self.error(py, error))?;
        let mut backoff = Backoff::default();
        loop {
            let mut anywhere = [0; 8];
            crate::os::random(&mut anywhere).map_err(|error| self.error(py, error))?;
            let mut table_iter = TableIter::new(u64::from_ne_bytes(anywhere));
            let (mut unreadable, mut lost) = (None, false);
            while let Some(index) =
                self.call(py, |policy| self.inner.attachment()?.variables().next_variable(&mut table_iter, policy))?
            {
                let index = convert::index_object(py, &index)?.into_bound(py);
                // Made before it is taken away: it may be that there is no memory for it.
                let item = self.read(&index).and_then(|read| {
                    let Some((value, version)) = read else { return Ok(None) };
                    let item = [index.clone(), value.into_bound(py)];
                    Ok(Some((made::tuple(py, item.into_iter().map(Ok))?, version)))
                });
                match item {
                    Ok(Some((item, version))) if self.take_away(&index, Condition::Version(version))? => {
                        return Ok(item);
                    }
                    // Taken, or changed, by somebody else meanwhile: another one, then.
                    Ok(_) => lost = true,
                    // No memory, no access, or a stopped process: nothing of this value.
                    Err(error) if !is_of_the_value(py, &error) => return Err(error),
                    // It stays for who can read it; all others are handed out first.
                    Err(error) => unreadable = unreadable.or(Some(error)),
                }
            }
            if !lost {
                return Err(unreadable.unwrap_or_else(|| made::error::<PyKeyError>("popitem(): the segment is empty")));
            }
            self.again(py, &mut backoff)?;
        }
    }

    #[doc = stub!(Segment.setdefault)]
    #[pyo3(signature = (index, default = None))]
    fn setdefault(&self, py: Python<'_>, index: &Bound<'_, PyAny>, default: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        self.inner.for_change().map_err(|error| self.error(py, error))?;
        let default = default.unwrap_or_else(|| py.None());
        let (name, mut encoded) = (convert::index(index)?, None);
        let mut backoff = Backoff::default();
        loop {
            if let Some((value, _)) = self.read(index)? {
                return Ok(value);
            }
            // Where it is needed, and once.
            let encoded = match &mut encoded {
                Some(encoded) => encoded,
                none => none.insert(encode::encode(default.bind(py))?),
            };
            if together::place(py, &self.inner, &name, encoded, Condition::Version(0), None)?.is_some() {
                return Ok(default);
            }
            self.again(py, &mut backoff)?;
        }
    }

    #[doc = stub!(Segment.update)]
    #[pyo3(signature = (other = Given::default(), /, **named), text_signature = "($self, other=(), /, **named)")]
    fn update(&self, py: Python<'_>, other: Given, named: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let mut items = other.0.map(|other| together::items(other.bind(py))).transpose()?.unwrap_or_default();
        for (index, value) in named.into_iter().flatten() {
            made::push(&mut items, (index, value))?;
        }
        together::put_many(&self.inner, &items, None, py)
    }

    #[doc = stub!(Segment.put_many)]
    #[pyo3(signature = (mapping, *, ttl = None))]
    fn put_many(&self, mapping: &Bound<'_, PyAny>, ttl: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        together::put_many(&self.inner, &together::items(mapping)?, ttl, mapping.py())
    }

    #[doc = stub!(Segment.get_many)]
    fn get_many<'py>(&self, indices: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        together::get_many(&self.inner, indices)
    }

    #[doc = stub!(Segment.add)]
    #[pyo3(signature = (index, amount = Given::default()), text_signature = "($self, index, amount=1)")]
    fn add(&self, index: &Bound<'_, PyAny>, amount: Given) -> PyResult<Py<PyAny>> {
        match amount.0 {
            Some(amount) => together::add(&self.inner, index, amount.bind(index.py())),
            None => together::add(&self.inner, index, &1_i64.into_pyobject(index.py())?.into_any()),
        }
    }

    #[doc = stub!(Segment.swap)]
    #[pyo3(signature = (index, value, default = None))]
    fn swap(
        &self,
        py: Python<'_>,
        index: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        default: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let old = together::swap(&self.inner, index, value)?;
        Ok(old.or(default).unwrap_or_else(|| py.None()))
    }

    #[doc = stub!(Segment.version)]
    fn version(&self, index: &Bound<'_, PyAny>) -> PyResult<u64> {
        let (policy, name) = (self.policy(index.py()), convert::index(index)?);
        let version = self.inner.attachment().and_then(|att| att.variables().version(&name, &policy));
        version.map(|(version, _)| version).map_err(|error| policy.error(error))
    }

    #[doc = stub!(Segment.get_versioned)]
    fn get_versioned<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
        let (py, (value, version)) = (index.py(), self.read(index)?.ok_or_else(|| missing(index))?);
        made::tuple(py, [value.into_bound(py), made::uint(py, version)?.into_any()].into_iter().map(Ok))
    }

    #[doc = stub!(Segment.compare_and_put)]
    fn compare_and_put(
        &self,
        index: &Bound<'_, PyAny>,
        version: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        self.store(index, value, Condition::Version(convert::version(version)?))
    }

    #[doc = stub!(Segment.modify)]
    #[pyo3(signature = (index, function, default = Given::default()))]
    fn modify(&self, index: &Bound<'_, PyAny>, function: &Bound<'_, PyAny>, default: Given) -> PyResult<Py<PyAny>> {
        together::modify(&self.inner, index, function, &default)?.ok_or_else(|| missing(index))
    }

    #[doc = stub!(Segment.wait)]
    #[pyo3(signature = (index, timeout = None, *, newer_than = None))]
    fn wait(
        &self,
        index: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
        newer_than: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        together::wait(&self.inner, index, timeout, newer_than.map(convert::version).transpose()?)
    }

    #[doc = stub!(Segment.changed)]
    #[pyo3(signature = (index, timeout = None, *, newer_than = None))]
    fn changed<'py>(
        slf: &Bound<'py, Self>,
        index: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
        newer_than: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // As a float of this very moment: whatever it is converts to one.
        let timeout = convert::timeout(timeout)?.map(|timeout| timeout.as_secs_f64());
        // Now's version: now, not when somebody awaits.
        let base = newer_than.map_or_else(|| slf.get().version(index), convert::version)?;
        slf.py().import("shmvar._task_watcher")?.call_method1("changed", (slf, index, timeout, base))
    }

    #[doc = stub!(Segment.lock)]
    #[pyo3(signature = (name = Given::default(), *, timeout = None), text_signature = "($self, name=0, *, timeout=None)")]
    fn lock(slf: &Bound<'_, Self>, name: Given, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<PyLock> {
        slf.borrow_inner().attachment().map_err(|error| slf.get().error(slf.py(), error))?;
        PyLock::new(slf.clone().unbind(), name.0.as_ref().map(|name| name.bind(slf.py())), timeout)
    }

    /// For `shmvar._task_watcher`.
    #[getter]
    fn _watcher(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = || Ok::<_, PyErr>(py.import("shmvar._task_watcher")?.getattr("Watcher")?.call0()?.unbind());
        self.watcher.get_or_try_init(py, make).map(|watcher| watcher.clone_ref(py))
    }

    fn _mark(&self, index: &Bound<'_, PyAny>, lock: bool) -> PyResult<(u64, Option<f64>)> {
        let (policy, name) = (self.policy(index.py()), convert::index(index)?);
        let marked = self.inner.attachment().and_then(|att| att.coordination().mark_watched(&name, lock, &policy));
        let (version, left) = marked.map_err(|error| policy.error(error))?;
        Ok((version, left.map(|nanos| nanos as f64 * 1e-9)))
    }

    /// For each of these locks, whose wake words are marked before: may a try come to something now?
    fn _may_try<'py>(&self, names: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
        let (py, found) = (names.py(), PyList::empty(names.py()));
        let att = self.inner.attachment().map_err(|error| self.error(py, error))?;
        let (policy, mut glance) = (self.policy(py), LockWatch::new(att.coordination()));
        for name in names {
            match glance.may_try(&convert::index(&name)?, &policy) {
                Err(error @ Error::Interrupted) => return Err(policy.error(error)),
                // What is wrong with a lock is for who tries.
                may => found.append(may.unwrap_or(true))?,
            }
        }
        Ok(found)
    }

    fn _late(&self, index: &Bound<'_, PyAny>, lock: bool, seconds: Option<f64>) -> PyResult<()> {
        let (name, seconds) = (convert::index(index)?, seconds.unwrap_or_default());
        Err(match lock {
            true => together::not_let_go(index.py(), &name, seconds),
            false => together::not_changed(index.py(), &name, seconds),
        })
    }

    fn _mark_all(&self, py: Python<'_>) -> PyResult<()> {
        let marked = self.inner.attachment().and_then(|att| att.coordination().mark_all_watched());
        marked.map_err(|error| self.error(py, error))
    }

    fn _watch_count(&self, py: Python<'_>) -> PyResult<u32> {
        self.inner.attachment().map(|att| att.coordination().watch_count()).map_err(|error| self.error(py, error))
    }

    #[pyo3(signature = (count, at_most = None))]
    fn _watch(&self, py: Python<'_>, count: u32, at_most: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let at_most = convert::timeout(at_most)?;
        let att = self.inner.attachment().map_err(|error| self.error(py, error))?;
        let policy = self.policy(py);
        att.coordination().watch(count, at_most, &policy);
        policy.raised()
    }

    fn _nudge(&self) {
        if let Ok(att) = self.inner.attachment() {
            att.coordination().nudge();
        }
    }

    #[doc = stub!(Segment.clear)]
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, |policy| self.inner.for_change()?.variables().clear(policy))
    }

    #[doc = stub!(Segment.keys)]
    fn keys(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::view_of(slf, c"SegmentKeys")
    }

    #[doc = stub!(Segment.values)]
    fn values(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::view_of(slf, c"SegmentValues")
    }

    #[doc = stub!(Segment.items)]
    fn items(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::view_of(slf, c"SegmentItems")
    }

    #[doc = stub!(Segment.stat)]
    fn stat(&self, index: &Bound<'_, PyAny>) -> PyResult<PyVariableInfo> {
        let name = convert::index(index)?;
        let found = self.call(index.py(), |policy| self.inner.stat_with(&name, policy))?;
        found.map(PyVariableInfo).ok_or_else(|| missing(index))
    }

    #[doc = stub!(Segment.info)]
    fn info(&self, py: Python<'_>) -> PyResult<PySegmentInfo> {
        self.call(py, |policy| self.inner.info_with(policy)).map(PySegmentInfo)
    }

    #[doc = stub!(Segment.resize)]
    fn resize(&self, py: Python<'_>, size: &Bound<'_, PyAny>) -> PyResult<()> {
        let size = convert::size(size, "size")?;
        self.call(py, |policy| self.inner.resize(size, policy))
    }

    #[doc = stub!(Segment.trim)]
    fn trim(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, |policy| self.inner.trim(policy))
    }

    #[doc = stub!(Segment.detach)]
    fn detach(&self, py: Python<'_>) {
        self.inner.detach_with(|slow| py.detach(slow));
    }

    #[doc = stub!(Segment.destroy)]
    fn destroy(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, |policy| self.inner.destroy_with(policy))
    }

    #[doc = stub!(Segment.check)]
    fn check(&self, py: Python<'_>) -> PyResult<PyCheckReport> {
        self.call(py, |policy| self.inner.check_with(policy)).map(PyCheckReport)
    }
}

/// Is it the value that cannot be read, and not the segment?
fn is_of_the_value(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyException>(py)
        && !error.is_instance_of::<PyMemoryError>(py)
        && !error.is_instance_of::<PyOSError>(py)
}

impl PySegment {
    fn indexes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let indexes = self.call(py, |policy| self.inner.attachment()?.variables().indexes(policy))?;
        made::list(py, indexes.iter().map(|index| Ok(convert::index_object(py, index)?.into_bound(py))))
    }
}
