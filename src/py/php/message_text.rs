//! The bytes of a message, from a value and to a value.

use crate::fallible;
use crate::py::create;
use crate::py::errors;
use crate::py::php::arguments;
use crate::py::php::dumps::{DumpOptions, with_str, with_text};
use crate::py::php::loads::{self, LoadError, LoadOptions};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// Calls `act` with the bytes of a message: the text that `dumps` makes of it, or the object's own bytes.
pub fn with_bytes<T>(
    message: &Bound<'_, PyAny>,
    serialize: bool,
    act: impl FnOnce(&[u8]) -> PyResult<T>,
) -> PyResult<T> {
    if serialize {
        return with_text(message, &DumpOptions::default(), act)?;
    }
    own_bytes(message, "a message that is not serialized", act)
}

/// Calls `act` with an object's own bytes: those of a bytes-like object, or of a `str`, as `dumps` has them: UTF-8, and
/// surrogates that `surrogateescape` has made of bytes are these bytes again. `what` names it.
pub fn own_bytes<T>(object: &Bound<'_, PyAny>, what: &str, act: impl FnOnce(&[u8]) -> PyResult<T>) -> PyResult<T> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return act(bytes.as_bytes());
    }
    if let Ok(text) = object.cast::<PyString>() {
        return with_str(text, what, act);
    }
    let Ok(buffer) = PyBuffer::<u8>::get(object) else {
        let text = format!("{what} must be bytes, something like bytes or a str, not {}", arguments::class_of(object));
        return Err(errors::builtin::<PyTypeError>(text));
    };
    // A copy, because other threads may change the buffer meanwhile.
    let mut bytes = fallible::zeros(buffer.len_bytes(), "a message").map_err(|e| errors::to_py(object.py(), e))?;
    buffer.copy_to_slice(object.py(), &mut bytes)?;
    act(&bytes)
}

/// The value of a message. If it cannot be had, the exception has what was received, which is in the queue no more.
pub fn unserialize<'py>(py: Python<'py>, key: i32, kind: i64, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let value = loads::value(py, bytes, &LoadOptions::default()).map_err(|error| match error {
        LoadError::Raised(error) => error,
        LoadError::Damage(damage) => {
            let text = format!(
                "queue with key {key} (0x{key:08x}): the message of type {kind} was taken from the queue, and its \
                 {} bytes cannot be unserialized: {damage}; error.message has its type and its bytes, and \
                 receive(unserialize=False) gives bytes as they are",
                bytes.len()
            );
            loads::unserialize_error(py, &text, damage.offset)
        }
    });
    value.map(|value| value.into_bound(py)).inspect_err(|error| {
        let value = error.value(py);
        let _ = create::bytes(py, bytes).and_then(|bytes| value.setattr("message", (kind, bytes)));
    })
}
