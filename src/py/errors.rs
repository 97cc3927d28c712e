//! Converts the core's errors to the package's exceptions, and builds the exceptions that the extension raises itself.
//!
//! The texts of the core's errors are in `crate::error`; the exception classes are in `shmvar._errors`.

use crate::error::Error;
use crate::key::{Index, Key};
use crate::os::object;
use crate::py::calls;
use crate::py::create;
use crate::segment::DumpError;
use pyo3::PyTypeInfo;
use pyo3::exceptions::{
    PyException, PyImportError, PyMemoryError, PyOSError, PyOverflowError, PyRuntimeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::ffi::CStr;

/// The exception for an error of the core that is not about a segment.
#[cold]
pub fn to_py(py: Python<'_>, error: Error) -> PyErr {
    let text = error.to_string();
    with_text(py, error, text)
}

/// The exception for an error about a segment. Its text names the segment by the user's key.
#[cold]
pub fn of_segment(py: Python<'_>, key: &Key, error: Error) -> PyErr {
    if matches!(error, Error::Invalid(_) | Error::Overflow(_) | Error::Deadlock(_) | Error::Interrupted) {
        return to_py(py, error); // It is about an argument, not about the segment.
    }
    let text = named(key, "", error.to_string());
    with_text(py, error, text)
}

/// The exception for an error about a variable. Its text names the segment's key and the variable's index.
#[cold]
pub fn of_variable(py: Python<'_>, key: &Key, index: &Index<'_>, error: Error) -> PyErr {
    let text = named(key, &format!(", index {index}"), error.to_string());
    with_text(py, error, text)
}

/// The exception for an error about an item of a queue. Its text names the segment's key and the queue.
#[cold]
pub fn of_queue(py: Python<'_>, key: &Key, queue: &Index<'_>, error: Error) -> PyErr {
    let text = named(key, &format!(", queue {queue}"), error.to_string());
    with_text(py, error, text)
}

/// The exception for a dump that cannot be read.
#[cold]
pub fn of_dump(py: Python<'_>, error: DumpError, of_other: impl FnOnce(Error) -> PyErr) -> PyErr {
    match error {
        DumpError::Damaged(text) => raise_text(py, c"DumpError", &text),
        DumpError::Other(error) => of_other(error),
    }
}

/// The exception for an error about a file of the caller: the built-in class, because it is not about a segment.
pub fn of_file(py: Python<'_>, error: Error) -> PyErr {
    match &error {
        Error::System { source, .. } => match source.raw_os_error() {
            Some(number) => PyOSError::new_err((number, error.to_string())),
            None => PyOSError::new_err(error.to_string()),
        },
        _ => to_py(py, error),
    }
}

/// Puts the key, and the index, before an error text of the core. A text that contains the key stays as it is. A text
/// that begins with the object's name, because the core knew only that, gets the key before it.
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

/// The exception for an error, with the text that was made of it.
pub fn with_text(py: Python<'_>, error: Error, text: String) -> PyErr {
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
                let number = |number: &u64| create::uint(py, *number).map(Bound::into_any);
                let text = create::text(py, &text)?.into_any();
                calls::call(&class, [text, number(needed)?, number(free)?, number(size)?], None)
            });
        }
        Error::Memory { .. } => return builtin::<PyMemoryError>(text),
        Error::System { source, .. } => return system(py, source, text),
        Error::Overflow(_) => return builtin::<PyOverflowError>(text),
        Error::Deadlock(_) => return builtin::<PyRuntimeError>(text),
        Error::Invalid(_) | Error::Pickle(_) | Error::Interrupted => return builtin::<PyValueError>(text),
    };
    raise_text(py, class, &text)
}

/// The exception for an error of the operating system, with its `errno`.
fn system(py: Python<'_>, source: &std::io::Error, text: String) -> PyErr {
    match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => raise_text(py, c"SegmentAccessError", &text),
        Some(libc::ENOMEM) => builtin::<PyMemoryError>(text),
        number => raise(py, c"SegmentSystemError", |class| {
            let number = match number {
                Some(number) => create::int(py, number.into())?.into_any(),
                None => py.None().into_bound(py),
            };
            calls::call(&class, [number, create::text(py, &text)?.into_any()], None)
        }),
    }
}

/// An exception of a built-in class, created at once; PyO3 would create it later and panic if there is no memory.
/// Without memory for it, the result is the interpreter's `MemoryError`.
#[cold]
pub fn builtin<T: PyTypeInfo>(message: impl AsRef<str>) -> PyErr {
    Python::attach(|py| {
        let message = create::text(py, message.as_ref());
        let created = message.and_then(|message| calls::call(&py.get_type::<T>(), [message.into_any()], None));
        created.map_or_else(|error| error, PyErr::from_value)
    })
}

/// What code of the caller returned, for which there is a substitute: `None` if it raised an error. What is no
/// `Exception`, such as Ctrl-C, passes.
pub fn unless_exception<T>(py: Python<'_>, outcome: PyResult<T>) -> PyResult<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
        Err(interrupt) => Err(interrupt),
    }
}

/// `WaitTimeoutError` for a variable.
#[cold]
pub fn variable_timeout(py: Python<'_>, name: &Index<'_>, seconds: f64) -> PyErr {
    timeout(py, &format!("index {name} did not change"), seconds)
}

/// `WaitTimeoutError` for several variables, with their names.
#[cold]
pub fn any_timeout(py: Python<'_>, names: &str, seconds: f64) -> PyErr {
    timeout(py, &format!("none of the indexes {names} changed"), seconds)
}

/// `WaitTimeoutError` for a whole segment.
#[cold]
pub fn changes_timeout(py: Python<'_>, seconds: f64) -> PyErr {
    timeout(py, "nothing changed", seconds)
}

/// `WaitTimeoutError` for a lock.
#[cold]
pub fn lock_timeout(py: Python<'_>, name: &Index<'_>, seconds: f64) -> PyErr {
    timeout(py, &format!("lock {name} was not let go"), seconds)
}

fn timeout(py: Python<'_>, what: &str, seconds: f64) -> PyErr {
    raise_text(py, c"WaitTimeoutError", &format!("{what} within {seconds} s"))
}

/// An exception of one of the package's error classes, with this text.
#[cold]
pub fn raise_text(py: Python<'_>, class: &CStr, text: &str) -> PyErr {
    raise(py, class, |class| calls::call(&class, [create::text(py, text)?.into_any()], None))
}

/// Imports the classes of the errors of queues, when a queue is made: when one is raised, the files may be out of reach
/// (after `os.chroot`, or as another user), and a program that catches `queue.Empty` would meet an `ImportError`. Where
/// they are out of reach already, or no descriptor is left, the queue is of use all the same: its errors are of the
/// base class then ([`raise`]).
pub fn import_those_of_queues(py: Python<'_>) -> PyResult<()> {
    static IMPORTED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if IMPORTED.get(py).is_none() {
        if let Some(class) = class_of_file(py, c"shmvar._queue_errors", c"QueueEmptyError")? {
            calls::once(py, &IMPORTED, || Ok(class.unbind()))?;
        }
    }
    Ok(())
}

/// A class of a module that is imported here. `None`: its file, or one that it imports, cannot be read.
fn class_of_file<'py>(py: Python<'py>, module: &CStr, class: &CStr) -> PyResult<Option<Bound<'py, PyAny>>> {
    let is_of_files =
        |error: &PyErr| error.is_instance_of::<PyImportError>(py) || error.is_instance_of::<PyOSError>(py);
    unless_it_lasts(py, is_of_files, || calls::attribute(py, module, class))
}

/// What is looked up. `None`: that fails with an `Exception`, and does so again.
pub fn unless_exception_lasts<T>(py: Python<'_>, look_up: impl FnMut() -> PyResult<T>) -> PyResult<Option<T>> {
    unless_it_lasts(py, |error| error.is_instance_of::<PyException>(py), look_up)
}

/// What is looked up. `None`: that fails with an error for which there is a substitute, as `has_substitute` says, and
/// does so again.
///
/// A signal handler may have raised the error in the middle of the look-up; often it is a `TimeoutError`, which is an
/// `OSError`. Such an error does not come again, and that of a file, say, does.
fn unless_it_lasts<T>(
    py: Python<'_>,
    has_substitute: impl Fn(&PyErr) -> bool,
    mut look_up: impl FnMut() -> PyResult<T>,
) -> PyResult<Option<T>> {
    let first = match look_up() {
        Ok(found) => return Ok(Some(found)),
        Err(error) if has_substitute(&error) => error,
        Err(error) => return Err(error),
    };
    match look_up() {
        Ok(_) => Err(first),
        Err(again) if !has_substitute(&again) => Err(again),
        Err(again) => {
            let is_same = again.get_type(py).is(first.get_type(py)) && again.to_string() == first.to_string();
            if is_same { Ok(None) } else { Err(first) }
        }
    }
}

/// Whether an error that code of the caller or of a value raised is that code's own. The same was done once more, with
/// this result: such an error comes again, and what a signal handler raised in the middle does not. Fails with an
/// interrupt of the second time.
///
/// Texts are not compared: those of the same error may have another address, time or file name in them each time.
/// `shmvar._own_errors` does so for segments on servers.
#[cold]
pub fn comes_again<T>(py: Python<'_>, error: &PyErr, again: &PyResult<T>) -> PyResult<bool> {
    match again {
        Ok(_) => Ok(false),
        Err(again) if !again.is_instance_of::<PyException>(py) => Err(again.clone_ref(py)),
        Err(again) => Ok(again.get_type(py).is(error.get_type(py))),
    }
}

/// Whether an exception is a `CorruptSegmentError`.
#[cold]
pub fn is_corrupt(py: Python<'_>, error: &PyErr) -> bool {
    calls::attribute(py, c"shmvar._errors", c"CorruptSegmentError")
        .and_then(|class| error.value(py).is_instance(&class))
        .unwrap_or(false)
}

/// An exception of one of the package's error classes, created by `call`. The module of the class is imported only
/// here.
fn raise<'py>(
    py: Python<'py>,
    class: &CStr,
    call: impl FnOnce(Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> PyErr {
    // These classes derive from error classes of `queue` and of pickle, which have imports of their own. So they have
    // modules of their own, too. Where the files are out of reach by now, the error is of the base class that is loaded.
    let (found, base) = if class.to_bytes().starts_with(b"Queue") {
        (class_of_file(py, c"shmvar._queue_errors", class), c"WaitTimeoutError")
    } else if class == c"UntrustedValueError" {
        (class_of_file(py, c"shmvar._untrusted_error", class), c"Error")
    } else {
        (Ok(None), class)
    };
    let found = match found {
        Ok(None) => calls::attribute(py, c"shmvar._errors", base),
        Ok(Some(class)) => Ok(class),
        Err(error) => Err(error),
    };
    found.and_then(call).map_or_else(|error| error, PyErr::from_value)
}
