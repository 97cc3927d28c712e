//! `shmvar.php.attach`, and what unpickles a handle.

use super::handle::{PySegment, error_of};
use crate::php::segment::Segment;
use crate::py::convert;
use crate::py::errors;
use crate::py::php::arguments;
use crate::py::php::loads::{LoadOptions, arrays_are_dicts, strings_are_bytes};
use crate::py::php::semaphore::PySemaphore;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// The size of a new segment, as PHP has it without a php.ini.
const SIZE: u64 = 10_000;

#[doc = stub!(php.attach)]
#[pyfunction]
#[pyo3(
    signature = (key, size = None, permissions = None, *, create = None, lock = None, strings = None, arrays = None),
    text_signature = "(key, size=10000, permissions=0o666, *, create=None, lock=None, strings='auto', arrays='auto')"
)]
#[allow(clippy::too_many_arguments, reason = "the signature of the Python function")]
pub fn attach(
    py: Python<'_>,
    key: &Bound<'_, PyAny>,
    size: Option<&Bound<'_, PyAny>>,
    permissions: Option<&Bound<'_, PyAny>>,
    create: Option<bool>,
    lock: Option<&Bound<'_, PyAny>>,
    strings: Option<&Bound<'_, PyAny>>,
    arrays: Option<&Bound<'_, PyAny>>,
) -> PyResult<PySegment> {
    let key = arguments::key(key, "segment")?;
    let size = size.map_or(Ok(SIZE), |size| convert::size(size, "size"))?;
    let (permissions, options) = (arguments::permissions(permissions)?, options(strings, arrays)?);
    let lock = lock.map(lock_of).transpose()?;
    open(py, key, size, permissions, create, lock, options)
}

/// Opens the segment of a handle that was pickled.
#[pyfunction]
pub fn _reattach(
    py: Python<'_>,
    key: &Bound<'_, PyAny>,
    lock: Option<&Bound<'_, PyAny>>,
    strings: &Bound<'_, PyAny>,
    arrays: &Bound<'_, PyAny>,
) -> PyResult<PySegment> {
    let (key, options) = (arguments::key(key, "segment")?, options(Some(strings), Some(arrays))?);
    open(py, key, SIZE, 0o666, Some(false), lock.map(lock_of).transpose()?, options)
}

fn open(
    py: Python<'_>,
    key: i32,
    size: u64,
    permissions: u32,
    create: Option<bool>,
    lock: Option<Py<PySemaphore>>,
    options: LoadOptions,
) -> PyResult<PySegment> {
    let segment = {
        // Who makes a segment also formats it, and PHP formats whatever has no magic yet. Who only finds one does not
        // wait: the caller's parent may hold the lock until this process has attached.
        let held = lock.as_ref().filter(|_| create != Some(false));
        let _held = held.map(|lock| lock.get().hold(py)).transpose()?;
        // Other threads run meanwhile: one of them may be formatting the segment that is waited for.
        let attached = py.detach(|| Segment::attach(key, size, permissions, create));
        attached.map_err(|error| error_of(py, key, error))?
    };
    Ok(PySegment::from_core(segment, lock, options))
}

/// The argument `lock`.
fn lock_of(object: &Bound<'_, PyAny>) -> PyResult<Py<PySemaphore>> {
    let Ok(semaphore) = object.cast::<PySemaphore>() else {
        let class = arguments::class_of(object);
        return Err(errors::builtin::<PyTypeError>(format!(
            "lock must be a shmvar.php.Semaphore or None, not {class}"
        )));
    };
    semaphore.get().must_be_lock(object.py())?;
    Ok(semaphore.clone().unbind())
}

/// What values become, from the arguments `strings` and `arrays`.
fn options(strings: Option<&Bound<'_, PyAny>>, arrays: Option<&Bound<'_, PyAny>>) -> PyResult<LoadOptions> {
    Ok(LoadOptions {
        bytes: strings.map(strings_are_bytes).transpose()?.unwrap_or(false),
        dicts: arrays.map(arrays_are_dicts).transpose()?.unwrap_or(false),
        ..LoadOptions::default()
    })
}
