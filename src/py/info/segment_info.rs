//! `shmvar.SegmentInfo`: what `Segment.info` and `segments` return.

use super::fields::{NANO, Reduced, fields, reduce, repr};
use crate::coordination::queue_look::QueueInfo;
use crate::format::Eviction;
use crate::py::convert::{self, index_object, key_object};
use crate::py::create;
use crate::py::displays;
use crate::segment::{SegmentInfo, Standing};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

#[doc = stub!(SegmentInfo)]
#[pyclass(frozen, eq, hash, name = "SegmentInfo", module = "shmvar")]
#[derive(PartialEq, Hash)]
pub struct PySegmentInfo(pub SegmentInfo);

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
    #[doc = stub!(SegmentInfo.evict)]
    #[getter]
    fn evict(&self) -> Option<&'static str> {
        self.0.evict.map(Eviction::name)
    }
    #[doc = stub!(SegmentInfo.evicted)]
    #[getter]
    fn evicted(&self) -> u64 {
        self.0.evicted
    }
    #[doc = stub!(SegmentInfo.locks)]
    #[getter]
    fn locks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let locks = create::dict(py)?;
        for (name, pid) in &self.0.locks {
            locks.set_item(index_object(py, name)?, pid)?;
        }
        Ok(locks)
    }

    #[doc = stub!(SegmentInfo.queues)]
    #[getter]
    fn queues<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let queues = create::dict(py)?;
        for QueueInfo { name, waiting, held, used } in &self.0.queues {
            let numbers = create::dict(py)?;
            for (field, number) in [("waiting", waiting), ("held", held), ("used", used)] {
                numbers.set_item(field, number)?;
            }
            queues.set_item(index_object(py, name)?, numbers)?;
        }
        Ok(queues)
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
        let more = ["largest_put", "resident", "held", "spare", "evict", "evicted", "locks", "queues", "state", "why"];
        fields(slf.as_any(), names.iter().chain(&more))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        let info = &self.0;
        let sizes = [info.size, info.used, info.free, info.largest_put, info.resident, info.held, info.spare];
        let words = (info.count, info.created_at, sizes, info.evicted);
        let pair = |(name, pid): &(_, u32)| {
            let pair = [index_object(py, name)?.into_bound(py), create::uint(py, (*pid).into())?.into_any()];
            Ok(create::tuple(py, pair.into_iter().map(Ok))?.into_any())
        };
        let locks = create::list(py, info.locks.iter().map(pair))?;
        let queue = |queue: &QueueInfo| {
            let name = index_object(py, &queue.name)?.into_bound(py);
            let [waiting, held, used] = [queue.waiting, queue.held, queue.used].map(|number| create::uint(py, number));
            let parts = [name, waiting?.into_any(), held?.into_any(), used?.into_any()];
            Ok(create::tuple(py, parts.into_iter().map(Ok))?.into_any())
        };
        let queues = create::list(py, info.queues.iter().map(queue))?;
        let halves = [info.perm, info.uid, info.attached];
        let key = info.key.as_ref().map(|key| key_object(py, key)).transpose()?;
        let state = (info.standing.code(), info.why.as_deref(), info.evict.map(Eviction::name));
        reduce(py, c"_segment_info", (key, &info.name, words, halves, (locks, queues), state))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr("SegmentInfo", &Self::_asdict(slf)?)
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

/// The locks and the queues in a pickle.
type Lists<'py> = (Vec<(Bound<'py, PyAny>, u32)>, Vec<(Bound<'py, PyAny>, u64, u64, u64)>);

/// Unpickles a `SegmentInfo` from the numbers that `__reduce__` gives.
#[pyfunction]
pub fn _segment_info(
    key: Option<Bound<'_, PyAny>>,
    name: String,
    words: (u64, u64, [u64; 7], u64),
    halves: [u32; 3],
    lists: Lists<'_>,
    state: (String, Option<String>, Option<String>),
) -> PyResult<PySegmentInfo> {
    let ((state, why, evict), (locks, queues)) = (state, lists);
    let (count, created_at, [size, used, free, largest_put, resident, held, spare], evicted) = words;
    let ([perm, uid, attached], key) = (halves, key.as_ref().map(convert::key).transpose()?);
    let standing = Standing::named(&state).ok_or_else(|| PyValueError::new_err(format!("state {state:?}")))?;
    let locks = locks.iter().map(|(name, pid)| Ok((convert::index(name)?.to_owned(), *pid)));
    let locks = create::collect(locks)?;
    let queues = queues.iter().map(|(name, waiting, held, used)| {
        let name = convert::index(name)?.to_owned();
        Ok(QueueInfo { name, waiting: *waiting, held: *held, used: *used })
    });
    let queues = create::collect(queues)?;
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
        evict: evict.as_deref().and_then(Eviction::of_name),
        evicted,
        locks,
        queues,
        standing,
        why,
    }))
}
