//! What displays of a segment need, in a notebook and on a terminal: facts that are found without waiting, and the way
//! from an object to the Python module that draws it.

use crate::heap::memory_map::MemoryUse;
use crate::py::calls;
use crate::py::convert;
use crate::py::create;
use crate::py::segment::PySegment;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

const NANO: f64 = 1e-9;

/// `shmvar._display.html(object)`
pub fn html<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    calls::attribute(object.py(), c"shmvar._display", c"html")?.call1((object,))
}

/// `shmvar._display.mimebundle(object, include, exclude)`
pub fn mimebundle<'py>(
    object: &Bound<'py, PyAny>,
    include: Option<&Bound<'py, PyAny>>,
    exclude: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    calls::attribute(object.py(), c"shmvar._display", c"mimebundle")?.call1((object, include, exclude))
}

/// `shmvar._display.completions(segment)`
pub fn completions<'py>(segment: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    calls::attribute(segment.py(), c"shmvar._display", c"completions")?.call1((segment,))
}

/// The indexes of at most `count` variables, in no particular order; cheap however many there are. With them comes the
/// number of slots that were passed over because they are half changed.
#[pyfunction]
pub fn _first<'py>(segment: &Bound<'py, PySegment>, count: usize) -> PyResult<(Bound<'py, PyList>, usize)> {
    let py = segment.py();
    let segment = segment.get();
    let found = segment.call(py, |policy| segment.inner().first_indexes(count, policy))?;
    let indexes = found.indexes.iter().map(|index| Ok(convert::index_object(py, index)?.into_bound(py)));
    Ok((create::list(py, indexes)?, found.half_changed))
}

/// What the memory is used for, in bytes: all of it, and `cells` parts of the addresses in use.
#[pyfunction]
pub fn _memory<'py>(
    segment: &Bound<'py, PySegment>,
    cells: usize,
) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyList>)> {
    let py = segment.py();
    let segment = segment.get();
    let found = segment.inner().memory_map(cells, |look| py.detach(look));
    let (all, parts) = found.map_err(|error| segment.error(py, error))?;
    let parts = create::list(py, parts.iter().map(|part| Ok(uses(py, part)?.into_any())))?;
    Ok((uses(py, &all)?, parts))
}

fn uses<'py>(py: Python<'py>, memory: &MemoryUse) -> PyResult<Bound<'py, PyDict>> {
    let dict = create::dict(py)?;
    dict.set_item("used", memory.used)?;
    dict.set_item("table", memory.table)?;
    dict.set_item("held", memory.held)?;
    dict.set_item("filling", memory.filling)?;
    dict.set_item("spare", memory.spare)?;
    dict.set_item("absent", memory.absent)?;
    Ok(dict)
}

/// What goes on in a segment at this moment. It takes no lock, so it never waits for another process.
#[pyfunction]
pub fn _activity<'py>(segment: &Bound<'py, PySegment>) -> PyResult<Bound<'py, PyDict>> {
    let py = segment.py();
    let segment = segment.get();
    let found = segment.inner().activity().map_err(|error| segment.error(py, error))?;
    let dict = create::dict(py)?;
    dict.set_item("size", found.size)?;
    dict.set_item("used", found.used)?;
    dict.set_item("count", found.count)?;
    dict.set_item("resident", found.resident)?;
    dict.set_item("held", found.held)?;
    dict.set_item("spare", found.spare)?;
    dict.set_item("perm", found.perm)?;
    dict.set_item("uid", found.uid)?;
    dict.set_item("gone", found.gone)?;
    dict.set_item("changes", found.changes)?;
    dict.set_item("evicted", found.evicted)?;
    dict.set_item("waiting", found.waiting)?;
    dict.set_item("writer", found.writer)?;
    let participants = found.processes.iter().map(|process| {
        let dict = create::dict(py)?;
        dict.set_item("pid", process.pid)?;
        dict.set_item("attached_at", process.attached_at as f64 * NANO)?;
        Ok(dict.into_any())
    });
    dict.set_item("participants", create::list(py, participants)?)?;
    Ok(dict)
}
