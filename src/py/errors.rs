//! One conversion from the core's errors to the package's classes.

use crate::error::Error;
use crate::key::{Index, Key};
use crate::os::object;
use crate::py::made;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use std::ffi::CStr;

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
        Error::NotFound(_) => c"SegmentNotFoundError",
        Error::Exists(_) => c"SegmentExistsError",
        Error::Access(_) => c"SegmentAccessError",
        Error::Busy(_) => c"SegmentBusyError",
        Error::ReadOnly => c"ReadOnlyError",
        Error::Incompatible(_) => c"IncompatibleSegmentError",
        Error::Corrupt(_) => c"CorruptSegmentError",
        Error::Detached => c"DetachedError",
        Error::Full { needed, free, size, .. } => {
            return raise(py, c"SegmentFullError", |class| {
                let number = |number: &u64| made::uint(py, *number).map(Bound::into_any);
                let text = made::text(py, &text)?.into_any();
                made::call(&class, [text, number(needed)?, number(free)?, number(size)?], None)
            });
        }
        Error::Memory { .. } => return made::error::<PyMemoryError>(text),
        Error::System { source, .. } => return system(py, source, text),
        Error::Overflow(_) => return made::error::<PyOverflowError>(text),
        Error::Invalid(_) | Error::Pickle(_) | Error::Interrupted => return made::error::<PyValueError>(text),
    };
    raise(py, class, |class| said(class, &text))
}

/// Of a class of ours, which says this.
pub fn said<'py>(class: Bound<'py, PyAny>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    made::call(&class, [made::text(class.py(), text)?.into_any()], None)
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
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => raise(py, c"SegmentAccessError", |class| said(class, &text)),
        Some(libc::ENOMEM) => made::error::<PyMemoryError>(text),
        number => raise(py, c"SegmentSystemError", |class| {
            let number = match number {
                Some(number) => made::int(py, number.into())?.into_any(),
                None => py.None().into_bound(py),
            };
            made::call(&class, [number, made::text(py, &text)?.into_any()], None)
        }),
    }
}

/// An exception of one of the package's error classes, whose module is imported only now.
pub fn raise<'py>(
    py: Python<'py>,
    class: &CStr,
    call: impl FnOnce(Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> PyErr {
    // This class derives from an error of pickle, and has a module of its own so that nothing else imports pickle.
    let class = if class == c"UntrustedValueError" {
        made::attribute(py, c"shmvar._untrusted_error", class)
    } else {
        made::attribute(py, c"shmvar._errors", class)
    };
    class.and_then(call).map_or_else(|error| error, PyErr::from_value)
}
