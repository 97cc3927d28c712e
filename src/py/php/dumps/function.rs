//! `php.dumps`.

use super::options::DumpOptions;
use super::text::with_text;
use crate::py::create;
use crate::py::php::arguments::Limit;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

#[doc = stub!(php.dumps)]
#[pyfunction]
#[pyo3(
    signature = (value, *, max_depth=Limit::Usual(4096), max_size=Limit::Usual(DumpOptions::MOST as u64)),
    text_signature = "(value, *, max_depth=4096, max_size=None)"
)]
pub fn dumps<'py>(
    value: &Bound<'py, PyAny>,
    max_depth: Limit<'py>,
    max_size: Limit<'py>,
) -> PyResult<Bound<'py, PyBytes>> {
    let max_depth = max_depth.number("max_depth", u64::MAX)? as usize;
    let max_size = max_size.number("max_size", DumpOptions::MOST as u64)? as usize;
    let options = DumpOptions { max_depth, max_size, are_arguments: true };
    with_text(value, &options, |text| create::bytes(value.py(), text))?
}
