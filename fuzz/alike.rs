//! What the targets that link Python compare with.

use std::ffi::CString;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

static ALIKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The function `same_as_pickle` of `tests/helpers/value_comparison.py`.
pub fn alike(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    let make = || {
        let source = CString::new(include_str!("../tests/helpers/value_comparison.py"))?;
        let module = PyModule::from_code(py, &source, c"alike.py", c"alike")?;
        PyResult::Ok(module.getattr("same_as_pickle")?.unbind())
    };
    Ok(ALIKE.get_or_try_init(py, make)?.bind(py))
}
