//! numpy's ints and floats as those of Python.

use super::imported::whole_numpy;
use crate::py::create;
use pyo3::prelude::*;

/// The int or the float of Python that equals a scalar of numpy. A `longdouble` is rounded. `None` for any other
/// object: a bool, a complex number, a time span, an array.
#[cold]
pub fn python_number<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = object.py();
    // An object of numpy exists only if somebody has imported numpy.
    let Some(numpy) = whole_numpy(py)? else { return Ok(None) };
    if object.is_instance(&numpy.getattr("floating")?)? {
        return Ok(Some(create::float(py, object.extract()?)?.into_any()));
    }
    // For numpy a time span is an int, too, but one without `__index__`.
    if object.is_instance(&numpy.getattr("integer")?)? && object.get_type().hasattr("__index__")? {
        return object.call_method0("__index__").map(Some);
    }
    Ok(None)
}

/// Whether an object is a bool of numpy. In numpy up to 2.2 such a bool has an `__index__`, as if it were an int.
#[cold]
pub fn is_bool(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(numpy) = whole_numpy(object.py())? else { return Ok(false) };
    object.is_instance(&numpy.getattr("bool_")?)
}
