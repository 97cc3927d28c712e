//! The methods of `shmvar.Segment`, as Python calls them. Each converts its arguments and calls the function that does
//! the work; their docstrings are in `_core.pyi`.
//!
//! All of them stand in one block, because PyO3 needs a further dependency for several blocks.

use super::handle::PySegment;
use super::variable::{missing, read, remove, store};
use super::{atomic_ops, batches, contents, in_place, mapping, waiting, waiting_any};
use crate::coordination::AsCoordination;
use crate::format::Eviction;
use crate::py::calls;
use crate::py::changes::{PyChanges, changes};
use crate::py::convert::{self, OptionalArgument};
use crate::py::create;
use crate::py::displays;
use crate::py::errors;
use crate::py::info::{PyCheckReport, PySegmentInfo, PyVariableInfo};
use crate::py::lock::PyLock;
use crate::py::queue::{self, PyQueue};
use crate::py::read_mode::ReadMode;
use crate::variables::AsVariables;
use crate::variables::change::Condition;
use crate::variables::expiry::expires_after;
use crate::variables::in_place::NewValue;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};

#[pymethods]
impl PySegment {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Err(errors::builtin::<PyTypeError>("segments are opened with shmvar.attach(key)"))
    }

    #[inline]
    fn __getitem__(&self, index: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        match read(self.inner(), index, ReadMode::Own)? {
            Some((value, _)) => Ok(value),
            None => Err(missing(index)),
        }
    }

    #[inline]
    fn __setitem__(&self, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        store(self.inner(), index, value, Condition::Always, || None).map(drop)
    }

    fn __delitem__(&self, index: &Bound<'_, PyAny>) -> PyResult<()> {
        if remove(self.inner(), index, Condition::Always)? { Ok(()) } else { Err(missing(index)) }
    }

    fn __contains__(&self, index: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.has(index)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.call(py, |policy| self.inner().len_with(policy)).map(|len| len as usize)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(contents::indexes(self, py)?.try_iter()?.into_any())
    }

    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        mapping::equals(slf, other)
    }

    fn __or__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        contents::union(slf.as_any(), other)
    }

    fn __ror__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        contents::union(other, slf.as_any())
    }

    fn __ior__(&self, other: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put_many(other, None)
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        mapping::repr(self, py)
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

    fn _ipython_key_completions_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        displays::completions(slf.as_any())
    }

    #[doc = stub!(Segment.__enter__)]
    fn __enter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Self>> {
        slf.get().inner().attachment().map_err(|error| slf.get().error(py, error))?;
        Ok(slf)
    }

    #[doc = stub!(Segment.__exit__)]
    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.detach(py);
    }

    #[doc = stub!(Segment.__reduce__)]
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let (py, inner) = (slf.py(), slf.get().inner());
        inner.attachment().map_err(|error| slf.get().error(py, error))?;
        let again = calls::attribute(py, c"shmvar._core", c"_reattach")?;
        let (key, options) = (convert::key_object(py, inner.key())?, inner.options());
        Ok((again, (key, create::bytes(py, &inner.id())?, options.readonly, options.trust).into_pyobject(py)?))
    }

    #[doc = stub!(Segment.key)]
    #[getter]
    fn key(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        convert::key_object(py, self.inner().key())
    }
    #[doc = stub!(Segment.size)]
    #[getter]
    fn size<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyInt>> {
        create::uint(py, self.inner().size().map_err(|error| self.error(py, error))?)
    }
    #[doc = stub!(Segment.evict)]
    #[getter]
    fn evict(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        let eviction = self.inner().evict().map_err(|error| self.error(py, error))?;
        Ok(eviction.map(Eviction::name))
    }
    #[doc = stub!(Segment.created)]
    #[getter]
    fn created(&self) -> bool {
        self.inner().created()
    }
    #[doc = stub!(Segment.readonly)]
    #[getter]
    fn readonly(&self) -> bool {
        self.inner().options().readonly
    }
    #[doc = stub!(Segment.trusted)]
    #[getter]
    fn trusted(&self) -> bool {
        self.inner().trusted()
    }
    #[doc = stub!(Segment.detached)]
    #[getter]
    fn detached(&self) -> bool {
        self.inner().detached()
    }

    #[doc = stub!(Segment.put)]
    #[pyo3(signature = (index, value, *, ttl = None))]
    fn put(&self, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, ttl: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let ttl = convert::ttl(ttl)?;
        store(self.inner(), index, value, Condition::Always, || ttl.map(expires_after)).map(drop)
    }

    #[doc = stub!(Segment.get)]
    #[pyo3(signature = (index, default = None))]
    fn get(&self, py: Python<'_>, index: &Bound<'_, PyAny>, default: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        Ok(match read(self.inner(), index, ReadMode::Own)? {
            Some((value, _)) => value,
            None => default.unwrap_or_else(|| py.None()),
        })
    }

    #[doc = stub!(Segment.view)]
    fn view(&self, index: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        match read(self.inner(), index, ReadMode::View)? {
            Some((value, _)) => Ok(value),
            None => Err(missing(index)),
        }
    }

    #[doc = stub!(Segment.array)]
    #[pyo3(
        signature = (index, shape = None, dtype = None, *, initial = None, order = OptionalArgument::default()),
        text_signature = "($self, index, shape=None, dtype=None, *, initial=None, order='C')"
    )]
    fn array(
        slf: &Bound<'_, Self>,
        index: &Bound<'_, PyAny>,
        shape: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
        initial: Option<&Bound<'_, PyAny>>,
        order: OptionalArgument,
    ) -> PyResult<Py<PyAny>> {
        let order = in_place::order(slf.py(), order)?;
        in_place::array(slf, index, &in_place::ArrayArguments { shape, dtype, initial, order })
    }

    #[doc = stub!(Segment.buffer)]
    #[pyo3(signature = (index, size = None))]
    fn buffer(&self, index: &Bound<'_, PyAny>, size: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        in_place::buffer(self, index, size)
    }

    /// See [`in_place::refuse`].
    fn _refuse_in_place(&self, index: &Bound<'_, PyAny>, stream: &[u8], len: u64) -> PyResult<()> {
        in_place::refuse(self, index, stream, len)
    }

    /// See [`in_place::make`].
    fn _make_in_place(&self, index: &Bound<'_, PyAny>, stream: &[u8], len: u64, pattern: PyBuffer<u8>) -> PyResult<()> {
        in_place::make(self, index, &NewValue { stream, len, pattern: in_place::bytes_of(&pattern)? })
    }

    #[doc = stub!(Segment.touch)]
    fn touch(&self, index: &Bound<'_, PyAny>) -> PyResult<u64> {
        let (policy, name) = (self.policy(index.py()), convert::index(index)?);
        let touched = self.inner().for_change().and_then(|att| att.variables().touch(&name, &policy));
        touched.map_err(|error| policy.error_at(&name, error))
    }

    #[doc = stub!(Segment.expire)]
    fn expire(&self, index: &Bound<'_, PyAny>, ttl: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (policy, name) = (self.policy(index.py()), convert::index(index)?);
        let ttl = convert::ttl((!ttl.is_none()).then_some(ttl))?;
        let expired = self.inner().for_change().and_then(|att| att.variables().expire(&name, ttl, &policy));
        expired.map_err(|error| policy.error_at(&name, error))
    }

    #[doc = stub!(Segment.has)]
    fn has(&self, index: &Bound<'_, PyAny>) -> PyResult<bool> {
        let policy = self.policy(index.py());
        let name = convert::index(index)?;
        let found = self.inner().attachment().and_then(|att| att.variables().has(&name, &policy));
        found.map_err(|error| policy.error(error))
    }

    #[doc = stub!(Segment.remove)]
    fn remove(&self, index: &Bound<'_, PyAny>) -> PyResult<bool> {
        remove(self.inner(), index, Condition::Always)
    }

    #[doc = stub!(Segment.pop)]
    #[pyo3(signature = (index, *default))]
    fn pop(&self, index: &Bound<'_, PyAny>, default: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        if default.len() > 1 {
            let count = 1 + default.len();
            return Err(errors::builtin::<PyTypeError>(format!("pop expected at most 2 arguments, got {count}")));
        }
        match mapping::pop(self, index)? {
            Some(value) => Ok(value),
            None => default.iter().next().map(Bound::unbind).ok_or_else(|| missing(index)),
        }
    }

    #[doc = stub!(Segment.popitem)]
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        mapping::popitem(self, py)
    }

    #[doc = stub!(Segment.setdefault)]
    #[pyo3(signature = (index, default = None, *, ttl = None))]
    fn setdefault(
        &self,
        index: &Bound<'_, PyAny>,
        default: Option<Py<PyAny>>,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        mapping::setdefault(self, index, default, convert::ttl(ttl)?)
    }

    #[doc = stub!(Segment.update)]
    #[pyo3(
        signature = (other = OptionalArgument::default(), /, **named),
        text_signature = "($self, other=(), /, **named)"
    )]
    fn update(&self, py: Python<'_>, other: OptionalArgument, named: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let mut items = other.0.map(|other| batches::items(other.bind(py))).transpose()?.unwrap_or_default();
        for (index, value) in named.into_iter().flatten() {
            create::push(&mut items, (index, value))?;
        }
        batches::put_many(self.inner(), &items, None, py)
    }

    #[doc = stub!(Segment.put_many)]
    #[pyo3(signature = (mapping, *, ttl = None))]
    fn put_many(&self, mapping: &Bound<'_, PyAny>, ttl: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        batches::put_many(self.inner(), &batches::items(mapping)?, ttl, mapping.py())
    }

    #[doc = stub!(Segment.get_many)]
    fn get_many<'py>(&self, indices: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        batches::get_many(self.inner(), indices)
    }

    #[doc = stub!(Segment.add)]
    #[pyo3(
        signature = (index, amount = OptionalArgument::default(), *, ttl = None),
        text_signature = "($self, index, amount=1, *, ttl=None)"
    )]
    fn add(
        &self,
        index: &Bound<'_, PyAny>,
        amount: OptionalArgument,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let ttl = convert::ttl(ttl)?;
        match amount.0 {
            Some(amount) => atomic_ops::add(self.inner(), index, amount.bind(index.py()), ttl),
            None => atomic_ops::add(self.inner(), index, &1_i64.into_pyobject(index.py())?.into_any(), ttl),
        }
    }

    #[doc = stub!(Segment.swap)]
    #[pyo3(signature = (index, value, default = None, *, ttl = None))]
    fn swap(
        &self,
        py: Python<'_>,
        index: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        default: Option<Py<PyAny>>,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let old = atomic_ops::swap(self.inner(), index, value, convert::ttl(ttl)?)?;
        Ok(old.or(default).unwrap_or_else(|| py.None()))
    }

    #[doc = stub!(Segment.version)]
    fn version(&self, index: &Bound<'_, PyAny>) -> PyResult<u64> {
        let (policy, name) = (self.policy(index.py()), convert::index(index)?);
        let version = self.inner().attachment().and_then(|att| att.variables().version(&name, &policy));
        version.map(|(version, _)| version).map_err(|error| policy.error(error))
    }

    #[doc = stub!(Segment.get_versioned)]
    fn get_versioned<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
        let py = index.py();
        let (value, version) = read(self.inner(), index, ReadMode::Own)?.ok_or_else(|| missing(index))?;
        create::tuple(py, [value.into_bound(py), create::uint(py, version)?.into_any()].into_iter().map(Ok))
    }

    #[doc = stub!(Segment.compare_and_put)]
    #[pyo3(signature = (index, version, value, *, ttl = None))]
    fn compare_and_put(
        &self,
        index: &Bound<'_, PyAny>,
        version: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let (condition, ttl) = (Condition::Version(convert::version(version)?), convert::ttl(ttl)?);
        Ok(store(self.inner(), index, value, condition, || ttl.map(expires_after))?.is_some())
    }

    #[doc = stub!(Segment.modify)]
    #[pyo3(signature = (index, function, default = OptionalArgument::default(), *, ttl = None))]
    fn modify(
        &self,
        index: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
        default: OptionalArgument,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let new = atomic_ops::modify(self.inner(), index, function, &default, convert::ttl(ttl)?)?;
        new.ok_or_else(|| missing(index))
    }

    #[doc = stub!(Segment.wait)]
    #[pyo3(signature = (index, timeout = None, *, newer_than = None))]
    fn wait(
        &self,
        index: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
        newer_than: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        waiting::wait(self.inner(), index, timeout, newer_than.map(convert::version).transpose()?)
    }

    #[doc = stub!(Segment.changed)]
    #[pyo3(signature = (index, timeout = None, *, newer_than = None))]
    fn changed<'py>(
        slf: &Bound<'py, Self>,
        index: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
        newer_than: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // The timeout is converted now, as in other calls, and not when the result is awaited.
        let timeout = convert::timeout(timeout)?.map(|timeout| timeout.as_secs_f64());
        // The base is the version at this moment, not the one when the result is awaited.
        let base = newer_than.map_or_else(|| slf.get().version(index), convert::version)?;
        calls::attribute(slf.py(), c"shmvar._task_watcher", c"changed")?.call1((slf, index, timeout, base))
    }

    #[doc = stub!(Segment.wait_any)]
    #[pyo3(signature = (indices, timeout = None, *, newer_than = None))]
    fn wait_any<'py>(
        &self,
        indices: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
        newer_than: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        waiting_any::wait_any(self.inner(), indices, timeout, newer_than)
    }

    #[doc = stub!(Segment.changed_any)]
    #[pyo3(signature = (indices, timeout = None, *, newer_than = None))]
    fn changed_any<'py>(
        slf: &Bound<'py, Self>,
        indices: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
        newer_than: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // As in `changed`: what is counted from is decided now, not when the result is awaited.
        let timeout = convert::timeout(timeout)?.map(|timeout| timeout.as_secs_f64());
        let (indices, seen) = waiting_any::of_now(slf.get().inner(), indices, newer_than)?;
        calls::attribute(slf.py(), c"shmvar._task_watcher", c"changed_any")?.call1((slf, indices, timeout, seen))
    }

    #[doc = stub!(Segment.changes)]
    #[pyo3(signature = (*, newer_than = None, prefix = None, timeout = None))]
    fn changes(
        slf: &Bound<'_, Self>,
        newer_than: Option<&Bound<'_, PyAny>>,
        prefix: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyChanges> {
        changes(slf, newer_than, prefix, timeout)
    }

    #[doc = stub!(Segment.lock)]
    #[pyo3(
        signature = (name = OptionalArgument::default(), *, timeout = None),
        text_signature = "($self, name=0, *, timeout=None)"
    )]
    fn lock(slf: &Bound<'_, Self>, name: OptionalArgument, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<PyLock> {
        slf.get().inner().attachment().map_err(|error| slf.get().error(slf.py(), error))?;
        PyLock::new(slf.clone().unbind(), name.0.as_ref().map(|name| name.bind(slf.py())), timeout)
    }

    #[doc = stub!(Segment.queue)]
    #[pyo3(
        signature = (name = OptionalArgument::default(), *, maxsize = OptionalArgument::default()),
        text_signature = "($self, name=0, *, maxsize=0)"
    )]
    fn queue(slf: &Bound<'_, Self>, name: OptionalArgument, maxsize: OptionalArgument) -> PyResult<PyQueue> {
        queue::queue(slf, &name, &maxsize)
    }

    #[doc = stub!(Segment.memoize)]
    #[pyo3(signature = (function = None, /, *, ttl = None, key = None, name = None))]
    fn memoize<'py>(
        slf: &Bound<'py, Self>,
        function: Option<&Bound<'py, PyAny>>,
        ttl: Option<&Bound<'py, PyAny>>,
        key: Option<&Bound<'py, PyAny>>,
        name: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // A wrong time to live is an error now, and not when the first result is stored.
        convert::ttl(ttl)?;
        calls::attribute(slf.py(), c"shmvar._memoize", c"memoize")?.call1((slf, function, ttl, key, name))
    }

    // The methods from here to `_nudge` are for `shmvar._task_watcher` and `shmvar._task_queue`.

    /// The watcher for asyncio's tasks.
    #[getter]
    fn _watcher(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.watcher(py)
    }

    /// See [`waiting::mark`].
    fn _mark(&self, index: &Bound<'_, PyAny>, lock: bool) -> PyResult<(u64, Option<f64>)> {
        waiting::mark(self, index, lock)
    }

    /// See [`waiting::may_try`].
    fn _may_try<'py>(&self, names: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
        waiting::may_try(self, names)
    }

    /// Raises `WaitTimeoutError` for a variable or a lock.
    fn _late(&self, index: &Bound<'_, PyAny>, lock: bool, seconds: Option<f64>) -> PyResult<()> {
        let (name, seconds) = (convert::index(index)?, seconds.unwrap_or_default());
        Err(match lock {
            true => errors::lock_timeout(index.py(), &name, seconds),
            false => errors::variable_timeout(index.py(), &name, seconds),
        })
    }

    /// See [`waiting_any::mark_any`].
    fn _mark_any(
        &self,
        indices: &Bound<'_, PyList>,
        seen: &Bound<'_, PyList>,
    ) -> PyResult<(Option<usize>, u64, Option<f64>)> {
        waiting_any::mark_any(self, indices, seen)
    }

    /// Raises `WaitTimeoutError` for several variables.
    #[pyo3(signature = (indices, seconds))]
    fn _late_any(&self, indices: &Bound<'_, PyList>, seconds: Option<f64>) -> PyResult<()> {
        Err(waiting_any::late_any(indices, seconds))
    }

    /// Marks the wake words of all variables, also of those to come, as watched.
    fn _mark_all(&self, py: Python<'_>) -> PyResult<()> {
        let marked = self.inner().attachment().and_then(|att| att.coordination().mark_all_watched());
        marked.map_err(|error| self.error(py, error))
    }

    /// The watch count for [`Self::_watch`], read before anything is marked.
    fn _watch_count(&self, py: Python<'_>) -> PyResult<u32> {
        self.inner().attachment().map(|att| att.coordination().watch_count()).map_err(|error| self.error(py, error))
    }

    /// See [`waiting::watch`].
    #[pyo3(signature = (count, at_most = None))]
    fn _watch(&self, py: Python<'_>, count: u32, at_most: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        waiting::watch(self, py, count, at_most)
    }

    /// Ends the wait of a thread in [`Self::_watch`].
    fn _nudge(&self) {
        if let Ok(att) = self.inner().attachment() {
            att.coordination().nudge();
        }
    }

    /// Ends the holds on items of queues that could not be ended when they should have been. Returns whether none is left.
    /// For `shmvar._queue`.
    fn _end_holds(&self, py: Python<'_>) -> PyResult<bool> {
        self.call(py, |policy| self.inner().attachment()?.coordination().end_holds_again(policy))
    }

    #[doc = stub!(Segment.clear)]
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, |policy| self.inner().for_change()?.variables().clear(policy))
    }

    #[doc = stub!(Segment.copy)]
    fn copy<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        contents::copy(slf)
    }

    #[doc = stub!(Segment.keys)]
    #[pyo3(signature = (prefix = None))]
    fn keys(slf: &Bound<'_, Self>, prefix: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        mapping::keys(slf, prefix)
    }

    #[doc = stub!(Segment.values)]
    fn values(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        mapping::view_of(slf, c"SegmentValues")
    }

    #[doc = stub!(Segment.items)]
    fn items(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        mapping::view_of(slf, c"SegmentItems")
    }

    #[doc = stub!(Segment.stat)]
    fn stat(&self, index: &Bound<'_, PyAny>) -> PyResult<PyVariableInfo> {
        let name = convert::index(index)?;
        let found = self.call(index.py(), |policy| self.inner().stat_with(&name, policy))?;
        found.map(PyVariableInfo).ok_or_else(|| missing(index))
    }

    /// The pickle of a variable, without the buffers beside it.
    fn _stream<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let name = convert::index(index)?;
        let found = self.call(index.py(), |policy| self.inner().stream_with(&name, policy))?;
        create::bytes(index.py(), &found.ok_or_else(|| missing(index))?)
    }

    #[doc = stub!(Segment.info)]
    fn info(&self, py: Python<'_>) -> PyResult<PySegmentInfo> {
        self.call(py, |policy| self.inner().info_with(policy)).map(PySegmentInfo)
    }

    #[doc = stub!(Segment.resize)]
    fn resize(&self, py: Python<'_>, size: &Bound<'_, PyAny>) -> PyResult<()> {
        let size = convert::size(size, "size")?;
        self.call(py, |policy| self.inner().resize(size, policy))
    }

    #[doc = stub!(Segment.trim)]
    fn trim(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, |policy| self.inner().trim(policy))
    }

    #[doc = stub!(Segment.dump)]
    fn dump<'py>(slf: &Bound<'py, Self>, file: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        calls::attribute(slf.py(), c"shmvar._dump", c"dump")?.call1((slf, file))
    }

    #[doc = stub!(Segment.load)]
    fn load<'py>(slf: &Bound<'py, Self>, file: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        calls::attribute(slf.py(), c"shmvar._dump", c"load")?.call1((slf, file))
    }

    #[doc = stub!(Segment.detach)]
    fn detach(&self, py: Python<'_>) {
        self.inner().detach_with(|slow| py.detach(slow));
    }

    #[doc = stub!(Segment.destroy)]
    fn destroy(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, |policy| self.inner().destroy_with(policy))
    }

    #[doc = stub!(Segment.check)]
    fn check(&self, py: Python<'_>) -> PyResult<PyCheckReport> {
        self.call(py, |policy| self.inner().check_with(policy)).map(PyCheckReport)
    }
}
