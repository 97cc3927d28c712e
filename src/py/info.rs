//! What `info`, `stat` and `check` return.

use crate::py::convert::{index_object, key_object};
use crate::segment::{Report, SegmentInfo, VariableInfo};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A segment, in numbers. Sizes are bytes.
#[pyclass(frozen, eq, name = "SegmentInfo", module = "shmvar")]
#[derive(PartialEq)]
pub struct PySegmentInfo(pub SegmentInfo);

/// A variable, in numbers. Sizes are bytes.
#[pyclass(frozen, eq, name = "VariableInfo", module = "shmvar")]
#[derive(PartialEq)]
pub struct PyVariableInfo(pub VariableInfo);

/// What a check counted.
#[pyclass(frozen, eq, name = "CheckReport", module = "shmvar")]
#[derive(PartialEq)]
pub struct PyCheckReport(pub Report);

const NANO: f64 = 1e-9;

#[pymethods]
impl PySegmentInfo {
    #[getter]
    fn key(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        key_object(py, &self.0.key)
    }
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }
    #[getter]
    fn size(&self) -> u64 {
        self.0.size
    }
    #[getter]
    fn used(&self) -> u64 {
        self.0.used
    }
    #[getter]
    fn free(&self) -> u64 {
        self.0.free
    }
    #[getter]
    fn count(&self) -> u64 {
        self.0.count
    }
    #[getter]
    fn perm(&self) -> u32 {
        self.0.perm
    }
    #[getter]
    fn uid(&self) -> u32 {
        self.0.uid
    }
    #[getter]
    fn created_at(&self) -> f64 {
        self.0.created_at as f64 * NANO
    }
    #[getter]
    fn attached(&self) -> u32 {
        self.0.attached
    }
    #[getter]
    fn largest_put(&self) -> u64 {
        self.0.largest_put
    }
    #[getter]
    fn resident(&self) -> u64 {
        self.0.resident
    }

    #[getter]
    fn held(&self) -> u64 {
        self.0.held
    }
    #[getter]
    fn locks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let locks = PyDict::new(py);
        for (name, pid) in &self.0.locks {
            locks.set_item(index_object(py, name)?, pid)?;
        }
        Ok(locks)
    }

    fn _asdict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let names = ["key", "name", "size", "used", "free", "count", "perm", "uid", "created_at", "attached"];
        fields(slf.as_any(), names.iter().chain(&["largest_put", "resident", "held", "locks"]))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        shown("SegmentInfo", &Self::_asdict(slf)?)
    }
}

#[pymethods]
impl PyVariableInfo {
    #[getter]
    fn size(&self) -> u64 {
        self.0.size
    }
    #[getter]
    fn version(&self) -> u64 {
        self.0.version
    }
    #[getter]
    fn expires_in(&self) -> Option<f64> {
        self.0.expires_in.map(|ns| ns as f64 * NANO)
    }
    #[getter]
    fn r#type(&self) -> &str {
        &self.0.kind
    }

    fn _asdict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        fields(slf.as_any(), ["size", "version", "expires_in", "type"].iter())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        shown("VariableInfo", &Self::_asdict(slf)?)
    }
}

#[pymethods]
impl PyCheckReport {
    #[getter]
    fn variables(&self) -> u64 {
        self.0.variables
    }
    #[getter]
    fn used(&self) -> u64 {
        self.0.used
    }
    #[getter]
    fn slots(&self) -> u64 {
        self.0.slots
    }
    #[getter]
    fn locks(&self) -> u64 {
        self.0.locks
    }
    #[getter]
    fn tombstones(&self) -> u64 {
        self.0.tombstones
    }
    #[getter]
    fn zones(&self) -> u64 {
        self.0.zones
    }
    #[getter]
    fn slabs(&self) -> u64 {
        self.0.slabs
    }
    #[getter]
    fn blocks(&self) -> u64 {
        self.0.blocks
    }
    #[getter]
    fn live(&self) -> u64 {
        self.0.live
    }
    #[getter]
    fn busy(&self) -> u64 {
        self.0.busy
    }
    #[getter]
    fn retired(&self) -> u64 {
        self.0.retired
    }
    #[getter]
    fn free(&self) -> u64 {
        self.0.free
    }
    #[getter]
    fn living(&self) -> u64 {
        self.0.living
    }
    #[getter]
    fn dead(&self) -> u64 {
        self.0.dead
    }

    fn _asdict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let names = ["variables", "used", "locks", "slots", "tombstones", "zones", "slabs", "blocks"];
        fields(slf.as_any(), names.iter().chain(&["live", "busy", "retired", "free", "living", "dead"]))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        shown("CheckReport", &Self::_asdict(slf)?)
    }
}

fn fields<'py, 'a>(
    object: &Bound<'py, PyAny>,
    names: impl Iterator<Item = &'a &'a str>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(object.py());
    for name in names {
        dict.set_item(name, object.getattr(*name)?)?;
    }
    Ok(dict)
}

fn shown(class: &str, fields: &Bound<'_, PyDict>) -> PyResult<String> {
    let mut parts = Vec::new();
    for (name, value) in fields {
        parts.push(format!("{name}={}", value.repr()?.to_string_lossy()));
    }
    Ok(format!("{class}({})", parts.join(", ")))
}
