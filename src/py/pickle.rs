//! The C unpickler, and a look at what a pickle names.

use crate::codec::arrays;
use crate::py::calls;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// `pickle.loads`
pub fn loads(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    calls::cached_attribute(py, &LOADS, c"_pickle", c"loads")
}

/// Is there one of numpy's names in the pickle? By the C library, for a pickle may be long.
pub fn names_numpy(pickle: &[u8]) -> bool {
    let name = arrays::NUMPY;
    // SAFETY: two slices with their lengths, read only.
    unsafe { !libc::memmem(pickle.as_ptr().cast(), pickle.len(), name.as_ptr().cast(), name.len()).is_null() }
}
