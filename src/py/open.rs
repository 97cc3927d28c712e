//! The module's functions that take a key: `shmvar.attach` and those around it. What they do is in [`crate::segment`].

use crate::key::Key;
use crate::py::calls;
use crate::py::convert;
use crate::py::create;
use crate::py::errors;
use crate::py::info::PySegmentInfo;
use crate::py::remote;
use crate::py::segment::PySegment;
use crate::py::wait::PyWait;
use crate::segment::{self, Options, Segment};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyString};
use std::path::PathBuf;

#[doc = stub!(attach)]
#[pyfunction]
#[pyo3(signature = (key, size = None, *, reserve = None, perm = 0o600, create = None, readonly = false, trust = None, evict = None))]
#[allow(clippy::too_many_arguments, reason = "the signature of the Python function")]
pub fn attach(
    py: Python<'_>,
    key: &Bound<'_, PyAny>,
    size: Option<&Bound<'_, PyAny>>,
    reserve: Option<&Bound<'_, PyAny>>,
    perm: u32,
    create: Option<bool>,
    readonly: bool,
    trust: Option<bool>,
    evict: Option<&Bound<'_, PyAny>>,
) -> PyResult<Py<PyAny>> {
    if let Some(attach) = remote::function(key, c"attach")? {
        return attach.call1((key, size, reserve, perm, create, readonly, trust, evict)).map(Bound::unbind);
    }
    let key = convert::key(key)?;
    let size = size.map(|size| convert::size(size, "size")).transpose()?;
    let reserve = reserve.map(|reserve| convert::size(reserve, "reserve")).transpose()?;
    let evict = evict.map(convert::eviction).transpose()?;
    let segment = open(py, &key, &Options { size, reserve, perm, create, readonly, trust, evict, id: None })?;
    Ok(Bound::new(py, segment)?.into_any().unbind())
}

fn open(py: Python<'_>, key: &Key, options: &Options) -> PyResult<PySegment> {
    let policy = PyWait::new(py, key);
    Segment::attach_with(key, options, &policy).map(PySegment::from_core).map_err(|error| policy.error(error))
}

/// Opens the segment of a handle that was pickled: the same object, by its id.
#[pyfunction]
pub fn _reattach(
    py: Python<'_>,
    key: &Bound<'_, PyAny>,
    id: [u8; 16],
    readonly: bool,
    trust: Option<bool>,
) -> PyResult<PySegment> {
    let options = Options { create: Some(false), readonly, trust, id: Some(id), ..Options::default() };
    open(py, &convert::key(key)?, &options)
}

#[doc = stub!(destroy)]
#[pyfunction]
pub fn destroy(py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
    if let Some(destroy) = remote::function(key, c"destroy")? {
        return destroy.call1((key,))?.extract();
    }
    let key = convert::key(key)?;
    let policy = PyWait::new(py, &key);
    segment::destroy_with(&key, &policy).map_err(|error| policy.error(error))
}

#[doc = stub!(exists)]
#[pyfunction]
pub fn exists(py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
    if let Some(exists) = remote::function(key, c"exists")? {
        return exists.call1((key,))?.extract();
    }
    segment::exists(&convert::key(key)?).map_err(|error| errors::to_py(py, error))
}

#[doc = stub!(segments)]
#[pyfunction]
#[pyo3(signature = (url = None))]
pub fn segments<'py>(py: Python<'py>, url: Option<&Bound<'py, PyString>>) -> PyResult<Bound<'py, PyList>> {
    if let Some(url) = url {
        let segments = remote::function(url, c"segments")?;
        let segments = segments.ok_or_else(|| errors::builtin::<PyValueError>("url must be a URL: valkey://host"))?;
        return Ok(segments.call1((url,))?.cast_into()?);
    }
    let all = py.detach(segment::segments).map_err(|error| errors::to_py(py, error))?;
    create::list(py, all.into_iter().map(|info| Ok(Bound::new(py, PySegmentInfo(info))?.into_any())))
}

#[doc = stub!(ftok)]
#[pyfunction]
pub fn ftok(py: Python<'_>, path: PathBuf, proj: &Bound<'_, PyAny>) -> PyResult<i64> {
    let wrong = || errors::builtin::<PyValueError>("proj must be an int from 1 to 255 or one character");
    let project = match proj.extract::<char>() {
        Ok(character) => u32::from(character),
        Err(_) if proj.is_instance_of::<pyo3::types::PyString>() => return Err(wrong()),
        Err(_) => {
            static INDEX: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            calls::cached_attribute(py, &INDEX, c"operator", c"index")?
                .call1((proj,))?
                .extract::<u32>()
                .map_err(|_| wrong())?
        }
    };
    match u8::try_from(project) {
        Ok(project @ 1..) => crate::os::ftok(&path, project).map_err(|error| errors::of_file(py, error)),
        _ => Err(wrong()),
    }
}
