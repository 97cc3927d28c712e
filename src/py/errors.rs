//! One conversion from the core's errors to the package's classes.

use crate::error::Error;
use crate::key::{Index, Key};
use crate::os::object;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyOverflowError, PyValueError};
use pyo3::prelude::*;

/// The Python exception for an error of the core that has to do with no segment.
#[cold]
pub fn to_py(py: Python<'_>, error: Error) -> PyErr {
    let text = error.to_string();
    with_text(py, error, text)
}

/// The same of a segment, which it names as its user does.
#[cold]
pub fn of(py: Python<'_>, key: &Key, error: Error) -> PyErr {
    if matches!(error, Error::Invalid(_) | Error::Overflow(_) | Error::Interrupted) {
        return to_py(py, error); // Of an argument, not of a segment.
    }
    let text = named(key, "", error.to_string());
    with_text(py, error, text)
}

/// The same of a variable.
#[cold]
pub fn of_variable(py: Python<'_>, key: &Key, index: &Index<'_>, error: Error) -> PyErr {
    let text = named(key, &format!(", index {index}"), error.to_string());
    with_text(py, error, text)
}

/// Where the core knows the key it says it; where it knows the object's name only, that begins the text.
fn named(key: &Key, index: &str, text: String) -> String {
    if text.contains(&format!("key {key}")) {
        return text;
    }
    let name = key.object_name();
    match text.strip_prefix(&name).and_then(|rest| rest.strip_prefix(": ")) {
        Some(rest) => format!("key {key}{index} ({}/{name}): {rest}", object::DIR),
        None => format!("key {key}{index}: {text}"),
    }
}

fn with_text(py: Python<'_>, error: Error, text: String) -> PyErr {
    let class = match &error {
        Error::NotFound(_) => "SegmentNotFoundError",
        Error::Exists(_) => "SegmentExistsError",
        Error::Access(_) => "SegmentAccessError",
        Error::Busy(_) => "SegmentBusyError",
        Error::ReadOnly => "ReadOnlyError",
        Error::Incompatible(_) => "IncompatibleSegmentError",
        Error::Corrupt(_) => "CorruptSegmentError",
        Error::Detached => "DetachedError",
        Error::Full { needed, free, size, .. } => {
            return raise(py, "SegmentFullError", |class| class.call1((text, *needed, *free, *size)));
        }
        Error::System { source, .. } => return system(py, source, text),
        Error::Overflow(_) => return PyOverflowError::new_err(text),
        Error::Invalid(_) | Error::Pickle(_) | Error::Interrupted => return PyValueError::new_err(text),
    };
    raise(py, class, |class| class.call1((text,)))
}

/// Of a file of the caller's, the built-in error alone: it has to do with no segment.
pub fn of_file(py: Python<'_>, error: Error) -> PyErr {
    match &error {
        Error::System { source, .. } => match source.raw_os_error() {
            Some(number) => PyOSError::new_err((number, error.to_string())),
            None => PyOSError::new_err(error.to_string()),
        },
        _ => to_py(py, error),
    }
}

/// An `OSError` of ours, with its `errno`.
fn system(py: Python<'_>, source: &std::io::Error, text: String) -> PyErr {
    match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => raise(py, "SegmentAccessError", |class| class.call1((text,))),
        Some(libc::ENOMEM) => PyMemoryError::new_err(text),
        number => raise(py, "SegmentSystemError", |class| class.call1((number, text))),
    }
}

/// An exception of a class of `shmvar._errors`, imported only now.
pub fn raise<'py>(
    py: Python<'py>,
    class: &str,
    call: impl FnOnce(Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> PyErr {
    let made = py.import("shmvar._errors").and_then(|errors| call(errors.getattr(class)?));
    made.map_or_else(|error| error, PyErr::from_value)
}
