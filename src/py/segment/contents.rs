//! All that is in a segment: its indexes, its items, and dicts of them: `copy` and `|`.
//!
//! Others may remove variables meanwhile. Whatever reads the items goes through [`each`], which leaves out a variable
//! that has vanished since the indexes were listed; `PyDict_Update` and other functions for any mapping would raise
//! `KeyError`.

use super::handle::PySegment;
use super::variable::look;
use crate::py::calls;
use crate::py::convert;
use crate::py::create;
use crate::variables::AsVariables;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// The indexes of all variables.
pub fn indexes<'py>(segment: &PySegment, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
    let indexes = segment.call(py, |policy| segment.inner().attachment()?.variables().indexes(policy))?;
    create::list(py, indexes.iter().map(|index| Ok(convert::index_object(py, index)?.into_bound(py))))
}

/// Hands each index with its value to `take`. Each value is whole; they are not of one instant.
pub fn each<'py>(
    segment: &Bound<'py, PySegment>,
    mut take: impl FnMut(Bound<'py, PyAny>, Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    let (py, segment) = (segment.py(), segment.get());
    for index in indexes(segment, py)?.iter() {
        if let Some((value, _)) = look(segment.inner(), &index)? {
            take(index, value.into_bound(py))?;
        }
        py.check_signals()?;
    }
    Ok(())
}

/// `copy`: the items in a dict.
pub fn copy<'py>(segment: &Bound<'py, PySegment>) -> PyResult<Bound<'py, PyDict>> {
    let items = create::dict(segment.py())?;
    add_items(&items, segment)?;
    Ok(items)
}

/// `|`: a dict of the items of two mappings, of which at least one is a segment. `NotImplemented` if the other is no
/// mapping.
pub fn union(left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let py = left.py();
    let both = create::dict(py)?;
    let (Some(left), Some(right)) = (calls::mapping(left)?, calls::mapping(right)?) else {
        return Ok(py.NotImplemented());
    };
    for mapping in [left, right] {
        match mapping.cast::<PySegment>() {
            Ok(segment) => add_items(&both, segment)?,
            Err(_) => both.update(mapping)?,
        }
    }
    Ok(both.into_any().unbind())
}

fn add_items<'py>(items: &Bound<'py, PyDict>, segment: &Bound<'py, PySegment>) -> PyResult<()> {
    each(segment, |index, value| create::insert(items, &index, &value))
}

/// The value of a variable, or `default`, for the iteration over all: that is no use of the variable.
#[pyfunction]
pub fn _look(segment: &Bound<'_, PySegment>, index: &Bound<'_, PyAny>, default: Py<PyAny>) -> PyResult<Py<PyAny>> {
    Ok(look(segment.get().inner(), index)?.map_or(default, |(value, _)| value))
}
