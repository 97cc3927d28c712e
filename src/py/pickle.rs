//! The interpreter's C unpickler, and a search for numpy's name in a pickle.

use crate::codec::arrays;
use crate::py::calls;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// `_pickle.loads`
pub fn loads(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    calls::cached_attribute(py, &LOADS, c"_pickle", c"loads")
}

/// Whether numpy's name occurs in the pickle. The C library searches, because a pickle may be long.
pub fn names_numpy(pickle: &[u8]) -> bool {
    let name = arrays::NUMPY;
    // SAFETY: the function only reads two slices, of these lengths.
    unsafe { !libc::memmem(pickle.as_ptr().cast(), pickle.len(), name.as_ptr().cast(), name.len()).is_null() }
}
