//! `php.dumps`.

use super::options::DumpOptions;
use super::text::with_text;
use crate::py::create;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

#[doc = stub!(php.dumps)]
#[pyfunction]
#[pyo3(signature = (value, *, max_depth=4096, max_size=None))]
pub fn dumps<'py>(
    value: &Bound<'py, PyAny>,
    max_depth: usize,
    max_size: Option<usize>,
) -> PyResult<Bound<'py, PyBytes>> {
    let defaults = DumpOptions::default();
    let options = DumpOptions { max_depth, max_size: max_size.unwrap_or(defaults.max_size) };
    with_text(value, &options, |text| create::bytes(value.py(), text))?
}
