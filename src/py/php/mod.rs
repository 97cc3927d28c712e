//! The classes and functions of `shmvar.php`. They are made when that module is imported, and not before: nobody else
//! pays for them.
//!
//! | file or folder | what is in it |
//! | --- | --- |
//! | `mod` | hands them to `shmvar.php._native` |
//! | `dumps`, `loads` | from values to texts of `serialize`, and back |
//! | `classes` | the package's classes for what only PHP has |

mod classes;
pub mod dumps;
pub mod loads;

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The classes and functions, by name.
#[pyfunction]
pub fn _php_members(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let members = PyDict::new(py);
    members.set_item("dumps", pyo3::wrap_pyfunction!(dumps::function::dumps, py)?)?;
    members.set_item("loads", pyo3::wrap_pyfunction!(loads::function::loads, py)?)?;
    Ok(members)
}
