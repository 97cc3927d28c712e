//! The methods of `shmvar.php.Segment`, as Python calls them. Each converts its arguments and calls the function that
//! does the work; their docstrings are in `_native.pyi`.
//!
//! All of them stand in one block, because PyO3 needs a further dependency for several blocks.

use super::handle::PySegment;
use super::index::index_of;
use super::variable::{self, missing, read, remove, store};
use super::{mapping, update};
use crate::error::Error;
use crate::py::calls;
use crate::py::convert::OptionalArgument;
use crate::py::errors;
use crate::py::php::semaphore::PySemaphore;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

#[pymethods]
impl PySegment {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Err(errors::builtin::<PyTypeError>("PHP's segments are opened with shmvar.php.attach(key)"))
    }

    #[inline]
    fn __getitem__<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        read(self, index)?.ok_or_else(|| missing(index))
    }

    #[inline]
    fn __setitem__(&self, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        store(self, index, value)
    }

    fn __delitem__(&self, index: &Bound<'_, PyAny>) -> PyResult<()> {
        self.remove(index)
    }

    fn __contains__(&self, index: &Bound<'_, PyAny>) -> PyResult<bool> {
        variable::has(self, index)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.call(py, |inner| inner.indexes()).map(|indexes| indexes.len())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(mapping::indexes(self, py)?.try_iter()?.into_any())
    }

    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        mapping::equals(slf, other)
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        mapping::repr(self, py)
    }

    #[doc = stub!(php.Segment.__enter__)]
    fn __enter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Self>> {
        slf.get().check_attached(py)?;
        Ok(slf)
    }

    #[doc = stub!(php.Segment.__exit__)]
    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.detach(py)
    }

    #[doc = stub!(php.Segment.__reduce__)]
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        self.check_attached(py)?;
        let again = calls::attribute(py, c"shmvar.php._native", c"_reattach")?;
        let lock = self.lock().map(|lock| lock.clone_ref(py));
        Ok((again, (self.inner().key(), lock, self.strings(), self.arrays()).into_pyobject(py)?))
    }

    #[doc = stub!(php.Segment.key)]
    #[getter]
    fn key(&self) -> i32 {
        self.inner().key()
    }
    #[doc = stub!(php.Segment.id)]
    #[getter]
    fn id(&self) -> i32 {
        self.inner().id()
    }
    #[doc = stub!(php.Segment.size)]
    #[getter]
    fn size(&self) -> u64 {
        self.inner().size()
    }
    #[doc = stub!(php.Segment.created)]
    #[getter]
    fn created(&self) -> bool {
        self.inner().created()
    }
    #[doc = stub!(php.Segment.detached)]
    #[getter]
    fn detached(&self) -> bool {
        self.inner().is_detached()
    }
    #[doc = stub!(php.Segment.lock)]
    #[getter(lock)]
    fn semaphore(&self, py: Python<'_>) -> Option<Py<PySemaphore>> {
        self.lock().map(|lock| lock.clone_ref(py))
    }
    #[doc = stub!(php.Segment.strings)]
    #[getter]
    fn strings(&self) -> &'static str {
        if self.options().bytes { "bytes" } else { "auto" }
    }
    #[doc = stub!(php.Segment.arrays)]
    #[getter]
    fn arrays(&self) -> &'static str {
        if self.options().dicts { "dict" } else { "auto" }
    }

    #[doc = stub!(php.Segment.put)]
    fn put(&self, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        store(self, index, value)
    }

    #[doc = stub!(php.Segment.get)]
    #[pyo3(signature = (index, default = None))]
    fn get<'py>(&self, index: &Bound<'py, PyAny>, default: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match read(self, index)? {
            Some(value) => value,
            None => default.unwrap_or_else(|| index.py().None().into_bound(index.py())),
        })
    }

    #[doc = stub!(php.Segment.raw)]
    fn raw<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        variable::text(self, index)?.ok_or_else(|| missing(index))
    }

    #[doc = stub!(php.Segment.has)]
    fn has(&self, index: &Bound<'_, PyAny>) -> PyResult<bool> {
        variable::has(self, index)
    }

    #[doc = stub!(php.Segment.remove)]
    fn remove(&self, index: &Bound<'_, PyAny>) -> PyResult<()> {
        if remove(self, index)? { Ok(()) } else { Err(missing(index)) }
    }

    #[doc = stub!(php.Segment.pop)]
    #[pyo3(signature = (index, *default))]
    fn pop<'py>(&self, index: &Bound<'py, PyAny>, default: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        if default.len() > 1 {
            let count = 1 + default.len();
            return Err(errors::builtin::<PyTypeError>(format!("pop expected at most 2 arguments, got {count}")));
        }
        match mapping::pop(self, index)? {
            Some(value) => Ok(value),
            None => default.iter().next().ok_or_else(|| missing(index)),
        }
    }

    #[doc = stub!(php.Segment.popitem)]
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        mapping::popitem(self, py)
    }

    #[doc = stub!(php.Segment.setdefault)]
    #[pyo3(signature = (index, default = None))]
    fn setdefault<'py>(
        &self,
        index: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        mapping::setdefault(self, index, default.unwrap_or_else(|| index.py().None().into_bound(index.py())))
    }

    #[doc = stub!(php.Segment.update)]
    #[pyo3(
        signature = (other = OptionalArgument::default(), /, **named),
        text_signature = "($self, other=(), /, **named)"
    )]
    fn update(&self, py: Python<'_>, other: OptionalArgument, named: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        update::update(self, py, other.0.as_ref().map(|other| other.bind(py)), named)
    }

    #[doc = stub!(php.Segment.clear)]
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, |inner| inner.clear())
    }

    #[doc = stub!(php.Segment.copy)]
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        mapping::copy(self, py)
    }

    #[doc = stub!(php.Segment.keys)]
    fn keys(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        mapping::view_of(slf, c"SegmentKeys")
    }

    #[doc = stub!(php.Segment.values)]
    fn values(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        mapping::view_of(slf, c"SegmentValues")
    }

    #[doc = stub!(php.Segment.items)]
    fn items(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        mapping::view_of(slf, c"SegmentItems")
    }

    #[doc = stub!(php.Segment.info)]
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        mapping::info(self, py)
    }

    #[doc = stub!(php.Segment.detach)]
    fn detach(&self, py: Python<'_>) -> PyResult<()> {
        self.inner().detach().map_err(|error| self.error(py, error))
    }

    #[doc = stub!(php.Segment.destroy)]
    fn destroy(&self, py: Python<'_>) -> PyResult<()> {
        self.inner().destroy().map_err(|error| self.error(py, error))
    }

    /// The text of a variable, or `None`.
    fn _get_text<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        variable::text(self, index)
    }

    /// Stores a text, which nobody looks at.
    fn _put_text(&self, index: &Bound<'_, PyAny>, text: &[u8]) -> PyResult<()> {
        let (py, index) = (index.py(), index_of(index)?);
        let _held = self.hold(py)?;
        variable::store_held(self, py, index, text)
    }
}

impl PySegment {
    fn check_attached(&self, py: Python<'_>) -> PyResult<()> {
        if self.inner().is_detached() { Err(self.error(py, Error::Detached)) } else { Ok(()) }
    }
}
