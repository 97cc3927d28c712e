//! For `shmvar doctor`: reports on all objects under shmvar's names, as plain dicts. It changes nothing.

use crate::py::convert::key_object;
use crate::py::create;
use crate::py::errors;
use crate::segment::{self, ObjectKind, ObjectReport, SegmentReport, Standing};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

const NANO: f64 = 1e-9;

/// A report on every object under one of shmvar's names.
#[pyfunction]
pub fn _survey(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let all = py.detach(segment::inspect).map_err(|error| errors::to_py(py, error))?;
    create::list(py, all.iter().map(|report| object(py, report).map(Bound::into_any)))
}

/// The dict of one object.
fn object<'py>(py: Python<'py>, report: &ObjectReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = create::dict(py)?;
    let status = &report.status;
    dict.set_item("name", &report.name)?;
    dict.set_item("uid", status.uid)?;
    dict.set_item("mode", status.mode)?;
    dict.set_item("length", status.size)?;
    dict.set_item("links", status.nlink)?;
    dict.set_item("resident", status.resident)?;
    dict.set_item("changed_at", status.changed_at as f64 * NANO)?;
    let kind = match &report.what {
        ObjectKind::Segment(segment) => {
            describe(py, segment, &dict)?;
            "segment"
        }
        ObjectKind::Locks(by) => {
            dict.set_item("named_by", by)?;
            "locks"
        }
        ObjectKind::Temporary => "temporary",
        ObjectKind::Unreadable(error) => {
            dict.set_item("why", error.to_string())?;
            Standing::of(error).code()
        }
    };
    dict.set_item("kind", kind)?;
    Ok(dict)
}

/// Adds what only a segment has.
fn describe(py: Python<'_>, segment: &SegmentReport, dict: &Bound<'_, PyDict>) -> PyResult<()> {
    dict.set_item("key", key_object(py, &segment.key)?)?;
    dict.set_item("format", crate::format::FORMAT)?;
    dict.set_item("created_at", segment.created_at as f64 * NANO)?;
    dict.set_item("size", segment.size)?;
    dict.set_item("used", segment.used)?;
    dict.set_item("count", segment.count)?;
    dict.set_item("trusted", segment.distrust.is_none())?;
    dict.set_item("distrust", segment.distrust)?;
    dict.set_item("locks", segment.locks.as_deref())?;
    dict.set_item("writer", segment.writer)?;
    dict.set_item("changing", segment.changing)?;
    let participants = segment.participants.iter().map(|participant| {
        let dict = create::dict(py)?;
        dict.set_item("number", participant.number)?;
        dict.set_item("pid", participant.pid)?;
        dict.set_item("generation", participant.generation)?;
        dict.set_item("attached_at", participant.attached_at as f64 * NANO)?;
        dict.set_item("alive", participant.alive)?;
        Ok(dict.into_any())
    });
    dict.set_item("participants", create::list(py, participants)?)
}
