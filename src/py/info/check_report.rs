//! `shmvar.CheckReport`: what `Segment.check` returns.

use super::fields::{Reduced, fields, reduce, repr};
use crate::py::displays;
use crate::segment::Report;
use pyo3::prelude::*;
use pyo3::types::PyDict;

#[doc = stub!(CheckReport)]
#[pyclass(frozen, eq, hash, name = "CheckReport", module = "shmvar")]
#[derive(PartialEq, Hash)]
pub struct PyCheckReport(pub Report);

#[pymethods]
impl PyCheckReport {
    #[doc = stub!(CheckReport.variables)]
    #[getter]
    fn variables(&self) -> u64 {
        self.0.variables
    }
    #[doc = stub!(CheckReport.used)]
    #[getter]
    fn used(&self) -> u64 {
        self.0.used
    }
    #[doc = stub!(CheckReport.slots)]
    #[getter]
    fn slots(&self) -> u64 {
        self.0.slots
    }
    #[doc = stub!(CheckReport.locks)]
    #[getter]
    fn locks(&self) -> u64 {
        self.0.locks
    }
    #[doc = stub!(CheckReport.tombstones)]
    #[getter]
    fn tombstones(&self) -> u64 {
        self.0.tombstones
    }
    #[doc = stub!(CheckReport.zones)]
    #[getter]
    fn zones(&self) -> u64 {
        self.0.zones
    }
    #[doc = stub!(CheckReport.slabs)]
    #[getter]
    fn slabs(&self) -> u64 {
        self.0.slabs
    }
    #[doc = stub!(CheckReport.blocks)]
    #[getter]
    fn blocks(&self) -> u64 {
        self.0.blocks
    }
    #[doc = stub!(CheckReport.live)]
    #[getter]
    fn live(&self) -> u64 {
        self.0.live
    }
    #[doc = stub!(CheckReport.busy)]
    #[getter]
    fn busy(&self) -> u64 {
        self.0.busy
    }
    #[doc = stub!(CheckReport.retired)]
    #[getter]
    fn retired(&self) -> u64 {
        self.0.retired
    }
    #[doc = stub!(CheckReport.free)]
    #[getter]
    fn free(&self) -> u64 {
        self.0.free
    }
    #[doc = stub!(CheckReport.living)]
    #[getter]
    fn living(&self) -> u64 {
        self.0.living
    }
    #[doc = stub!(CheckReport.dead)]
    #[getter]
    fn dead(&self) -> u64 {
        self.0.dead
    }

    #[doc = stub!(CheckReport.undecided)]
    #[getter]
    fn undecided(&self) -> u64 {
        self.0.undecided
    }

    #[doc = stub!(CheckReport._asdict)]
    fn _asdict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let names = ["variables", "used", "locks", "slots", "tombstones", "zones", "slabs", "blocks"];
        let others = ["live", "busy", "retired", "free", "living", "dead", "undecided"];
        fields(slf.as_any(), names.iter().chain(&others))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        let Report { variables, used, locks, slots, tombstones, zones, slabs, .. } = self.0;
        let Report { blocks, live, busy, retired, free, living, dead, undecided, .. } = self.0;
        let tables = [variables, used, locks, slots, tombstones];
        let counts = (tables, [zones, slabs, blocks, live, busy, retired, free], [living, dead, undecided]);
        reduce(py, c"_check_report", (counts,))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr("CheckReport", &Self::_asdict(slf)?)
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

/// Unpickles a `CheckReport`.
#[pyfunction]
pub fn _check_report(counts: ([u64; 5], [u64; 7], [u64; 3])) -> PyCheckReport {
    let ([variables, used, locks, slots, tombstones], arena, [living, dead, undecided]) = counts;
    let [zones, slabs, blocks, live, busy, retired, free] = arena;
    PyCheckReport(Report {
        variables,
        used,
        locks,
        slots,
        tombstones,
        zones,
        slabs,
        blocks,
        live,
        busy,
        retired,
        free,
        living,
        dead,
        undecided,
    })
}
