//! The classes and functions of `shmvar.php`. They are made when that module is imported, and not before: nobody else
//! pays for them.
//!
//! | file or folder | what is in it |
//! | --- | --- |
//! | `mod` | hands them to `shmvar.php._native` |
//! | `arguments` | arguments that several of them have |
//! | `classes` | the package's classes for what only PHP has |
//! | `dumps`, `loads` | from values to texts of `serialize`, and back |
//! | `message_queue`, `message_text` | the class `MessageQueue`; what the bytes of a message are |
//! | `segment` | the class `Segment`, and `attach` |
//! | `semaphore` | the class `Semaphore` |
//! | `shmop` | the class `Shmop` |
//! | `waits` | how calls on semaphores and message queues wait |

mod arguments;
mod classes;
pub mod dumps;
pub mod loads;
mod message_queue;
mod message_text;
mod segment;
mod semaphore;
mod shmop;
mod waits;

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The classes and functions, by name.
#[pyfunction]
pub fn _php_members(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let members = PyDict::new(py);
    members.set_item("MessageQueue", py.get_type::<message_queue::PyMessageQueue>())?;
    members.set_item("Segment", py.get_type::<segment::PySegment>())?;
    members.set_item("Semaphore", py.get_type::<semaphore::PySemaphore>())?;
    members.set_item("Shmop", py.get_type::<shmop::PyShmop>())?;
    members.set_item("msg_queue_exists", pyo3::wrap_pyfunction!(message_queue::msg_queue_exists, py)?)?;
    members.set_item("_reattach", pyo3::wrap_pyfunction!(segment::_reattach, py)?)?;
    members.set_item("attach", pyo3::wrap_pyfunction!(segment::attach, py)?)?;
    members.set_item("dumps", pyo3::wrap_pyfunction!(dumps::function::dumps, py)?)?;
    members.set_item("loads", pyo3::wrap_pyfunction!(loads::function::loads, py)?)?;
    Ok(members)
}
