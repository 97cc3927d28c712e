//! The classes and functions of `shmvar.php`. They are made when that module is imported, and not before: nobody else
//! pays for them.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `mod` | hands them to `shmvar.php._native` |
//! | `arguments` | arguments that several of them have |
//! | `semaphore` | the class `Semaphore` |
//! | `waits` | how calls on semaphores and message queues wait |

mod arguments;
mod semaphore;
mod waits;

pub use semaphore::{Guard, PySemaphore};

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The classes and functions, by name.
#[pyfunction]
pub fn _php_members(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let members = PyDict::new(py);
    members.set_item("Semaphore", py.get_type::<PySemaphore>())?;
    Ok(members)
}
