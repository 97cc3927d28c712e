//! The value of a text: scalars at once, everything else by a builder.

use super::builder::{self, Stop};
use super::options::LoadOptions;
use crate::php::serialize::{Damage, Scalar, Scanner, Token, Why};
use crate::py::calls;
use crate::py::create;
use crate::py::interpreter;
use pyo3::ffi;
use pyo3::prelude::*;

/// Why a text has no value.
pub enum LoadError {
    /// It is not what `serialize` writes, or it asks for more than the limits allow.
    Damage(Damage),
    /// An exception: there is no memory.
    Raised(PyErr),
}

impl LoadError {
    /// `php.UnserializeError`, or the exception.
    #[cold]
    pub fn into_py(self, py: Python<'_>) -> PyErr {
        let damage = match self {
            LoadError::Raised(error) => return error,
            LoadError::Damage(damage) => damage,
        };
        unserialize_error(py, &damage.to_string(), damage.offset)
    }
}

/// `php.UnserializeError` with a text and an offset.
#[cold]
pub fn unserialize_error(py: Python<'_>, text: &str, offset: usize) -> PyErr {
    let error = calls::attribute(py, c"shmvar.php._errors", c"UnserializeError").and_then(|class| {
        let arguments = [create::text(py, text)?.into_any(), create::uint(py, offset as u64)?.into_any()];
        calls::call(&class, arguments, None)
    });
    error.map_or_else(|error| error, PyErr::from_value)
}

impl From<Damage> for LoadError {
    #[inline]
    fn from(damage: Damage) -> Self {
        match damage.why {
            Why::NoMemory(_) => LoadError::Raised(create::no_memory()),
            _ => LoadError::Damage(damage),
        }
    }
}

/// The value of a text, which nothing may follow.
#[inline]
pub fn value(py: Python<'_>, text: &[u8], options: &LoadOptions) -> Result<Py<PyAny>, LoadError> {
    let mut scanner = Scanner::new(text);
    let token = scanner.value()?;
    if let Token::Scalar(scalar) = &token {
        if matches!(scalar, Scalar::EnumCase { .. } | Scalar::Custom { .. }) || text.len() > 1 << 16 {
            return containers(py, text, options);
        }
        scanner.end()?;
        let object = match scalar {
            // SAFETY: the interpreter is attached.
            Scalar::Int(number) => unsafe { ffi::PyLong_FromLong(*number) },
            // SAFETY: the interpreter is attached.
            Scalar::Float(number) => unsafe { ffi::PyFloat_FromDouble(*number) },
            Scalar::Text(string) => builder::string(string, options.bytes),
            Scalar::Bool(truth) => {
                return Ok(truth
                    .into_pyobject(py)
                    .map(|truth| truth.to_owned().into_any().unbind())
                    .unwrap_or_else(|never| match never {}));
            }
            _ => return Ok(py.None()),
        };
        // SAFETY: it is a new reference, or null with an exception set.
        return unsafe { Bound::from_owned_ptr_or_err(py, object) }.map(Bound::unbind).map_err(LoadError::Raised);
    }
    containers(py, text, options)
}

#[inline(never)]
fn containers(py: Python<'_>, text: &[u8], options: &LoadOptions) -> Result<Py<PyAny>, LoadError> {
    interpreter::python_code_follows();
    builder::build(py, text, options).map_err(|stop| match stop {
        Stop::Damage(damage) => damage.into(),
        Stop::NoMemory => LoadError::Raised(create::no_memory()),
        Stop::Raised => LoadError::Raised(PyErr::fetch(py)),
        // `build` begins again instead.
        Stop::Refers => LoadError::Raised(create::no_memory()),
    })
}
