//! The methods of a mapping that take more than one step, under one hold of the lock: `pop`, `popitem`, `setdefault`,
//! `copy`, `==`; and `repr` and the views.

use super::handle::PySegment;
use super::index::index_of;
use super::variable::{each_held, read_held, remove_held, store_held};
use crate::error::Error;
use crate::py::calls;
use crate::py::create;
use crate::py::errors;
use crate::py::php::dumps::{self, DumpOptions};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use std::ffi::CStr;

/// `pop`. `None` if the variable is missing.
pub fn pop<'py>(segment: &PySegment, index: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let (py, index) = (index.py(), index_of(index)?);
    let _held = segment.hold(py)?;
    let Some(value) = read_held(segment, py, index)? else { return Ok(None) };
    remove_held(segment, py, index)?;
    Ok(Some(value))
}

/// `popitem`: takes the last variable of the chain.
pub fn popitem<'py>(segment: &PySegment, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
    let _held = segment.hold(py)?;
    loop {
        let indexes = segment.inner().indexes().map_err(|error| segment.error(py, error))?;
        let Some(&index) = indexes.last() else {
            return Err(errors::builtin::<PyKeyError>("popitem(): the segment is empty"));
        };
        // Without a lock, somebody may have removed it meanwhile.
        let Some(value) = read_held(segment, py, index)? else { continue };
        // The item is created before the variable is removed, because there may be no memory for it.
        let item = create::tuple(py, [create::int(py, index)?.into_any(), value].into_iter().map(Ok))?;
        remove_held(segment, py, index)?;
        return Ok(item);
    }
}

/// `setdefault`.
pub fn setdefault<'py>(
    segment: &PySegment,
    index: &Bound<'py, PyAny>,
    default: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, number) = (index.py(), index_of(index)?);
    {
        let _held = segment.hold(py)?;
        if let Some(value) = read_held(segment, py, number)? {
            return Ok(value);
        }
    }
    // The default is serialized only if it is needed, and not while the lock is held.
    dumps::with_text(&default, &DumpOptions::default(), |text| {
        let _held = segment.hold(py)?;
        if let Some(value) = read_held(segment, py, number)? {
            return Ok(value);
        }
        store_held(segment, py, number, text).map(|()| default.clone())
    })?
}

/// The indexes of all variables.
pub fn indexes<'py>(segment: &PySegment, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
    let indexes = segment.call(py, |inner| inner.indexes())?;
    create::list(py, indexes.into_iter().map(|index| Ok(create::int(py, index)?.into_any())))
}

/// `copy`: the items in a dict.
pub fn copy<'py>(segment: &PySegment, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    let items = create::dict(py)?;
    let _held = segment.hold(py)?;
    each_held(segment, py, |index, value| {
        create::insert(&items, create::int(py, index)?.as_any(), &value)?;
        py.check_signals()
    })?;
    Ok(items)
}

/// `==`: a segment equals a mapping with the same items.
pub fn equals(slf: &Bound<'_, PySegment>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    if slf.is(other) {
        return Ok(true.into_pyobject(py)?.to_owned().into_any().unbind());
    }
    let Some(other) = calls::mapping(other)? else { return Ok(py.NotImplemented()) };
    let ours = copy(slf.get(), py)?;
    let theirs = match other.cast::<PySegment>() {
        Ok(segment) => copy(segment.get(), py)?,
        Err(_) => {
            let theirs = create::dict(py)?;
            theirs.update(other)?;
            theirs
        }
    };
    Ok(ours.eq(theirs)?.into_pyobject(py)?.to_owned().into_any().unbind())
}

/// `repr`: the key, with the number of variables and the sizes if the handle is attached. It never waits for the lock:
/// a debugger may ask for it while somebody else holds that.
pub fn repr<'py>(segment: &PySegment, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
    let (inner, key) = (segment.inner(), format!("0x{:08x}", segment.inner().key()));
    let text = match inner.info() {
        Ok(info) => {
            format!("<php.Segment key={key} variables={} free={} size={}>", info.count, info.free, info.size)
        }
        Err(Error::Detached) => format!("<php.Segment key={key} detached>"),
        Err(error) => format!("<php.Segment key={key} unreadable: {error}>"),
    };
    create::text(py, &text)
}

/// `keys`, `values` and `items`: a view of that class over the segment.
pub fn view_of(slf: &Bound<'_, PySegment>, class: &CStr) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    if slf.get().inner().is_detached() {
        return Err(slf.get().error(py, Error::Detached));
    }
    let class = calls::attribute(py, c"shmvar.php._views", class)?;
    Ok(calls::call(&class, [slf.clone().into_any()], None)?.unbind())
}

/// `info`: a `SegmentInfo`.
pub fn info<'py>(segment: &PySegment, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
    let info = segment.call(py, |inner| inner.info())?;
    let class = calls::attribute(py, c"shmvar.php._info", c"SegmentInfo")?;
    let at = |seconds: i64| (seconds != 0).then_some(seconds);
    let numbers = (info.key, info.id, info.size, info.total, info.total - info.free, info.free, info.count);
    let owner = (info.permissions, info.uid, info.gid, info.attached, info.creator_pid, info.last_pid);
    let times = (at(info.attached_at), at(info.detached_at), info.changed_at);
    let all = numbers.into_pyobject(py)?.as_sequence().concat(owner.into_pyobject(py)?.as_sequence())?;
    class.call1(all.concat(times.into_pyobject(py)?.as_sequence())?.to_tuple()?)
}
