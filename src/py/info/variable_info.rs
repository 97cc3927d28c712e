//! `shmvar.VariableInfo`: what `Segment.stat` returns.

use super::fields::{NANO, Reduced, fields, reduce, repr};
use crate::py::displays;
use crate::segment::VariableInfo;
use pyo3::prelude::*;
use pyo3::types::PyDict;

#[doc = stub!(VariableInfo)]
#[pyclass(frozen, eq, hash, name = "VariableInfo", module = "shmvar")]
#[derive(PartialEq, Hash)]
pub struct PyVariableInfo(pub VariableInfo);

#[pymethods]
impl PyVariableInfo {
    #[doc = stub!(VariableInfo.size)]
    #[getter]
    fn size(&self) -> u64 {
        self.0.size
    }
    #[doc = stub!(VariableInfo.version)]
    #[getter]
    fn version(&self) -> u64 {
        self.0.version
    }
    #[doc = stub!(VariableInfo.expires_in)]
    #[getter]
    fn expires_in(&self) -> Option<f64> {
        self.0.expires_in.map(|ns| ns as f64 * NANO)
    }
    #[doc = stub!(VariableInfo.type)]
    #[getter]
    fn r#type(&self) -> &str {
        &self.0.kind
    }

    #[doc = stub!(VariableInfo.viewable)]
    #[getter]
    fn viewable(&self) -> bool {
        self.0.viewable
    }

    #[doc = stub!(VariableInfo.in_place)]
    #[getter]
    fn in_place(&self) -> bool {
        self.0.in_place
    }

    #[doc = stub!(VariableInfo._asdict)]
    fn _asdict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        fields(slf.as_any(), ["size", "version", "expires_in", "type", "viewable", "in_place"].iter())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        let info = &self.0;
        reduce(
            py,
            c"_variable_info",
            (info.size, info.version, info.expires_in, &info.kind, info.viewable, info.in_place),
        )
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr("VariableInfo", &Self::_asdict(slf)?)
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
}

/// Unpickles a `VariableInfo`. `viewable` and `in_place` have defaults because older pickles lack
/// them.
#[pyfunction]
#[pyo3(signature = (size, version, expires_in, kind, viewable = false, in_place = false))]
pub fn _variable_info(
    size: u64,
    version: u64,
    expires_in: Option<u64>,
    kind: String,
    viewable: bool,
    in_place: bool,
) -> PyVariableInfo {
    PyVariableInfo(VariableInfo { size, version, expires_in, kind, viewable, in_place })
}
