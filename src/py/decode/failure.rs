//! The exceptions of values that cannot be decoded. Each says whose value it is.

use crate::codec::kind;
use crate::key::Index;
use crate::py::calls;
use crate::py::create;
use crate::py::data_only::DataOnlyError;
use crate::py::errors::{self, raise_text};
use pyo3::exceptions::{PyAttributeError, PyException, PyImportError, PyMemoryError, PyModuleNotFoundError};
use pyo3::prelude::*;

/// What a value belongs to, for the text of an exception.
#[derive(Clone, Copy)]
pub enum ValueOf<'a> {
    /// The variable with this index.
    Variable(&'a Index<'a>),
    /// An item of the queue of this name.
    Item(&'a Index<'a>),
}

impl<'a> From<&'a Index<'a>> for ValueOf<'a> {
    fn from(index: &'a Index<'a>) -> Self {
        ValueOf::Variable(index)
    }
}

impl std::fmt::Display for ValueOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ValueOf::Variable(index) => write!(f, "index {index}"),
            ValueOf::Item(queue) => write!(f, "an item of queue {queue}"),
        }
    }
}

/// The exception for a value that the data-only decoder did not decode.
#[cold]
pub fn refused(py: Python<'_>, error: DataOnlyError, of: ValueOf<'_>, len: usize) -> PyErr {
    match error.class() {
        Ok((class, why)) => raise_text(py, class, &format!("{of} ({len} bytes): {why}")),
        Err(error) => error,
    }
}

/// The attribute of an exception that says which version of a variable could not be decoded.
const VERSION: &str = "_shmvar_version";

/// The exception of decoding a variable, with the version that was read. A later read can then tell an error of the
/// value from what a signal handler raised in the middle: of the same version, only the error of the value comes again.
#[cold]
pub fn of_version(py: Python<'_>, error: PyErr, version: u64) -> PyErr {
    if !error.is_instance_of::<PyException>(py) || error.is_instance_of::<PyMemoryError>(py) {
        return error;
    }
    let set = create::text(py, VERSION).and_then(|name| error.value(py).setattr(name, create::uint(py, version)?));
    match set {
        // Where its class has no room for it, the exception says nothing of a version.
        Err(failed) if !failed.is_instance_of::<PyException>(py) => failed,
        _ => error,
    }
}

/// The version that could not be decoded. `None`: the exception is not of decoding.
#[cold]
pub fn version_of(py: Python<'_>, error: &PyErr) -> Option<u64> {
    let name = create::text(py, VERSION).ok()?;
    error.value(py).getattr(name).and_then(|version| version.extract()).ok()
}

/// `CorruptSegmentError` for a value that is not a pickle.
#[cold]
pub fn damage(py: Python<'_>, error: PyErr, of: ValueOf<'_>, len: usize) -> PyErr {
    let text = format!("{of}: its value of {len} bytes is damaged ({error})");
    let damage = raise_text(py, c"CorruptSegmentError", &text);
    damage.set_cause(py, Some(error));
    damage
}

/// The exception for an error that `loads` raised. If the bytes are not a pickle, the value is damaged. If a class, a
/// function or its module is missing here, the exception says so. Otherwise (a `__setstate__` raises) it is the error
/// itself. In both cases a note says where it came from.
#[cold]
pub fn explain(py: Python<'_>, error: PyErr, of: ValueOf<'_>, pickle: &[u8]) -> PyErr {
    if !error.is_instance_of::<PyException>(py) {
        return error;
    }
    if kind::type_name(pickle).is_ok_and(|name| name == kind::DAMAGED) {
        return damage(py, error, of, pickle.len());
    }
    // For a missing module, Python's error names only the module; the note adds the class or function that needs it.
    let missing =
        error.is_instance_of::<PyImportError>(py).then(|| error.value(py).getattr("name")).and_then(Result::ok);
    let needed = missing.and_then(|module| kind::name_needed_from(pickle, &module.extract::<String>().ok()?));
    let needed = needed.map_or_else(String::new, |name| format!(", which needs {name}"));
    let note = format!("while reading {of}, a value of {} bytes{needed}", pickle.len());
    let error = of_missing_name(py, error, of, pickle);
    let _ = create::text(py, &note).and_then(|note| calls::method(error.value(py), c"add_note", [note.into_any()]));
    error
}

/// The exception for a value that names a class or function which this process lacks. Any other error stays as it is.
#[cold]
fn of_missing_name(py: Python<'_>, error: PyErr, of: ValueOf<'_>, pickle: &[u8]) -> PyErr {
    let class = error.get_type(py);
    if !class.is(py.get_type::<PyAttributeError>()) && !class.is(py.get_type::<PyModuleNotFoundError>()) {
        return error;
    }
    let ask = || {
        let names = kind::names(pickle).into_iter().map(|(module, name)| {
            let both = [create::text(py, module)?, create::text(py, name)?];
            create::tuple(py, both.into_iter().map(|text| Ok(text.into_any()))).map(Bound::into_any)
        });
        let names = create::list(py, create::collect(names)?.into_iter().map(Ok))?;
        let of = create::text(py, &of.to_string())?;
        let explained = calls::attribute(py, c"shmvar._missing_names", c"explained")?;
        let raised = error.clone_ref(py).into_value(py).into_bound(py).into_any();
        calls::call(&explained, [raised, of.into_any(), names.into_any()], None)
    };
    match errors::unless_exception_lasts(py, ask) {
        Ok(Some(better)) if !better.is_none() => {
            let better = PyErr::from_value(better);
            better.set_cause(py, Some(error));
            better
        }
        // Without memory for a better one, or where the module is out of reach, the error itself is raised.
        Ok(_) => error,
        Err(interrupt) => interrupt,
    }
}
