//! What `info`, `stat` and `check` return.

use crate::py::convert::{self, index_object, key_object};
use crate::py::made;
use crate::segment::{Report, SegmentInfo, Standing, VariableInfo};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

#[doc = stub!(SegmentInfo)]
#[pyclass(frozen, eq, hash, name = "SegmentInfo", module = "shmvar")]
#[derive(PartialEq, Hash)]
pub struct PySegmentInfo(pub SegmentInfo);

#[doc = stub!(VariableInfo)]
#[pyclass(frozen, eq, hash, name = "VariableInfo", module = "shmvar")]
#[derive(PartialEq, Hash)]
pub struct PyVariableInfo(pub VariableInfo);

#[doc = stub!(CheckReport)]
#[pyclass(frozen, eq, hash, name = "CheckReport", module = "shmvar")]
#[derive(PartialEq, Hash)]
pub struct PyCheckReport(pub Report);

const NANO: f64 = 1e-9;

#[pymethods]
impl PySegmentInfo {
    #[doc = stub!(SegmentInfo.key)]
    #[getter]
    fn key(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.0.key.as_ref().map(|key| key_object(py, key)).transpose()
    }
    #[doc = stub!(SegmentInfo.name)]
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }
    #[doc = stub!(SegmentInfo.size)]
    #[getter]
    fn size(&self) -> u64 {
        self.0.size
    }
    #[doc = stub!(SegmentInfo.used)]
    #[getter]
    fn used(&self) -> u64 {
        self.0.used
    }
    #[doc = stub!(SegmentInfo.free)]
    #[getter]
    fn free(&self) -> u64 {
        self.0.free
    }
    #[doc = stub!(SegmentInfo.count)]
    #[getter]
    fn count(&self) -> u64 {
        self.0.count
    }
    #[doc = stub!(SegmentInfo.perm)]
    #[getter]
    fn perm(&self) -> u32 {
        self.0.perm
    }
    #[doc = stub!(SegmentInfo.uid)]
    #[getter]
    fn uid(&self) -> u32 {
        self.0.uid
    }
    #[doc = stub!(SegmentInfo.created_at)]
    #[getter]
    fn created_at(&self) -> f64 {
        self.0.created_at as f64 * NANO
    }
    #[doc = stub!(SegmentInfo.attached)]
    #[getter]
    fn attached(&self) -> u32 {
        self.0.attached
    }
    #[doc = stub!(SegmentInfo.largest_put)]
    #[getter]
    fn largest_put(&self) -> u64 {
        self.0.largest_put
    }
    #[doc = stub!(SegmentInfo.resident)]
    #[getter]
    fn resident(&self) -> u64 {
        self.0.resident
    }

    #[doc = stub!(SegmentInfo.held)]
    #[getter]
    fn held(&self) -> u64 {
        self.0.held
    }

    #[doc = stub!(SegmentInfo.spare)]
    #[getter]
    fn spare(&self) -> u64 {
        self.0.spare
    }
    #[doc = stub!(SegmentInfo.locks)]
    #[getter]
    fn locks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let locks = made::dict(py)?;
        for (name, pid) in &self.0.locks {
            locks.set_item(index_object(py, name)?, pid)?;
        }
        Ok(locks)
    }

    #[doc = stub!(SegmentInfo.state)]
    #[getter]
    fn state(&self) -> &'static str {
        self.0.standing.code()
    }
    #[doc = stub!(SegmentInfo.why)]
    #[getter]
    fn why(&self) -> Option<&str> {
        self.0.why.as_deref()
    }

    #[doc = stub!(SegmentInfo._asdict)]
    fn _asdict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let names = ["key", "name", "size", "used", "free", "count", "perm", "uid", "created_at", "attached"];
        fields(slf.as_any(), names.iter().chain(&["largest_put", "resident", "held", "spare", "locks", "state", "why"]))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        let info = &self.0;
        let sizes = [info.size, info.used, info.free, info.largest_put, info.resident, info.held, info.spare];
        let words = (info.count, info.created_at, sizes);
        let pair = |(name, pid): &(_, u32)| {
            let pair = [index_object(py, name)?.into_bound(py), made::uint(py, (*pid).into())?.into_any()];
            Ok(made::tuple(py, pair.into_iter().map(Ok))?.into_any())
        };
        let locks = made::list(py, info.locks.iter().map(pair))?;
        let halves = [info.perm, info.uid, info.attached];
        let key = info.key.as_ref().map(|key| key_object(py, key)).transpose()?;
        let state = (info.standing.code(), info.why.as_deref());
        again(py, "_segment_info", (key, &info.name, words, halves, locks, state))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        shown("SegmentInfo", &Self::_asdict(slf)?)
    }
}

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

    #[doc = stub!(VariableInfo._asdict)]
    fn _asdict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        fields(slf.as_any(), ["size", "version", "expires_in", "type", "viewable"].iter())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        let info = &self.0;
        again(py, "_variable_info", (info.size, info.version, info.expires_in, &info.kind, info.viewable))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        shown("VariableInfo", &Self::_asdict(slf)?)
    }
}

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
        again(py, "_check_report", (counts,))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        shown("CheckReport", &Self::_asdict(slf)?)
    }
}

/// What `__reduce__` returns.
type Reduced<'py> = (Bound<'py, PyAny>, Bound<'py, PyTuple>);

/// Made again by a function of the module, from the numbers as they are kept: those that Python sees are rounded.
fn again<'py>(
    py: Python<'py>,
    function: &str,
    arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
) -> PyResult<Reduced<'py>> {
    Ok((py.import("shmvar._core")?.getattr(function)?, arguments.into_pyobject(py)?))
}

/// Unpickles a `SegmentInfo`.
#[pyfunction]
pub fn _segment_info(
    key: Option<Bound<'_, PyAny>>,
    name: String,
    words: (u64, u64, [u64; 7]),
    halves: [u32; 3],
    locks: Vec<(Bound<'_, PyAny>, u32)>,
    state: (String, Option<String>),
) -> PyResult<PySegmentInfo> {
    let (state, why) = state;
    let (count, created_at, [size, used, free, largest_put, resident, held, spare]) = words;
    let ([perm, uid, attached], key) = (halves, key.as_ref().map(convert::key).transpose()?);
    let standing = Standing::named(&state).ok_or_else(|| PyValueError::new_err(format!("state {state:?}")))?;
    let locks = locks.iter().map(|(name, pid)| Ok((convert::index(name)?.to_owned(), *pid)));
    let locks = made::collected(locks)?;
    Ok(PySegmentInfo(SegmentInfo {
        key,
        name,
        size,
        used,
        free,
        count,
        perm,
        uid,
        created_at,
        attached,
        largest_put,
        resident,
        held,
        spare,
        locks,
        standing,
        why,
    }))
}

/// Unpickles a `VariableInfo`; one that was pickled before there was `viewable` has none.
#[pyfunction]
#[pyo3(signature = (size, version, expires_in, kind, viewable = false))]
pub fn _variable_info(
    size: u64,
    version: u64,
    expires_in: Option<u64>,
    kind: String,
    viewable: bool,
) -> PyVariableInfo {
    PyVariableInfo(VariableInfo { size, version, expires_in, kind, viewable })
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

fn fields<'py, 'a>(
    object: &Bound<'py, PyAny>,
    names: impl Iterator<Item = &'a &'a str>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = made::dict(object.py())?;
    for name in names {
        dict.set_item(name, object.getattr(*name)?)?;
    }
    Ok(dict)
}

fn shown(class: &str, fields: &Bound<'_, PyDict>) -> PyResult<String> {
    let mut parts = Vec::new();
    for (name, value) in fields {
        made::push(&mut parts, format!("{name}={}", value.repr()?.to_string_lossy()))?;
    }
    Ok(format!("{class}({})", parts.join(", ")))
}
