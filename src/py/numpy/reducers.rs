//! Pickles arrays that numpy itself would copy into the pickle: their memory is stored beside it instead.
//!
//! numpy gives its memory out of band only for exact, contiguous arrays whose dtype the buffer protocol knows. This
//! file does the same for the others: dates, strides, memory maps, record arrays, masked arrays, and subclasses that
//! leave pickling to numpy. The pickle names only numpy's own callables and builtins. From the buffer they rebuild what
//! numpy's `_reconstruct` would have rebuilt from its copy: an array of the same class, with `__array_finalize__`
//! called on `None`, without state.

use super::imported::{Numpy, imported, is_bytes};
use super::writable_memory::WritableMemory;
use crate::codec::buffers::OUT_OF_BAND;
use crate::py::calls;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

/// A `dispatch_table` for the C pickler: the entries of `copyreg`, and arrays.
#[pyclass(frozen)]
pub struct Reducers(Py<PyDict>);

impl Reducers {
    /// The table, which all picklers share.
    pub fn get(py: Python<'_>) -> PyResult<&Bound<'_, Self>> {
        static REDUCERS: PyOnceLock<Py<Reducers>> = PyOnceLock::new();
        let table = || calls::attribute(py, c"copyreg", c"dispatch_table")?.cast_into().map_err(PyErr::from);
        let reducers = calls::once(py, &REDUCERS, || Py::new(py, Reducers(table()?.unbind())))?;
        Ok(reducers.bind(py))
    }
}

#[pymethods]
impl Reducers {
    fn __getitem__<'py>(&self, class: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = class.py();
        if let Some(reducer) = self.0.bind(py).get_item(class)? {
            return Ok(reducer);
        }
        if let (Ok(class), Some(numpy)) = (class.cast::<PyType>(), Numpy::get(py)?) {
            let ndarray = numpy.ndarray.bind(py);
            let is_handled =
                class.is(ndarray) || class.is_subclass(ndarray)? && (is_masked(class)? || numpy.pickles(class)?);
            if is_handled {
                return Ok(reducer(py)?.clone());
            }
        }
        // Classes are pickled by name. For values of other classes, a `KeyError` would cost more than the reducer that
        // the pickler calls after one.
        match (Numpy::get(py)?, class.cast::<PyType>()) {
            (Some(_), Ok(class)) if !class.is_subclass_of::<PyType>()? => Ok(usual_reducer(py)?.clone()),
            _ => Err(PyKeyError::new_err(())),
        }
    }
}

/// Whether it is exactly numpy's class of masked arrays.
fn is_masked(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let module = imported(class.py(), pyo3::intern!(class.py(), "numpy.ma"))?;
    let masked = module.map(|module| module.getattr("MaskedArray")).transpose()?;
    Ok(masked.is_some_and(|masked| masked.is(class)))
}

/// The result of an array's `__reduce_ex__`, but with the array's memory in a buffer if the array is long enough.
#[pyfunction]
pub fn reduced<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (py, class) = (array.py(), array.get_type());
    let usual = || array.call_method1(pyo3::intern!(py, "__reduce_ex__"), (5,));
    let Some(numpy) = Numpy::get(py)? else { return usual() };
    let exact = class.is(&numpy.ndarray);
    if exact && numpy.gives_memory(array)? {
        return with_writable_memory(usual()?);
    }
    // A subclass may have attributes of its own by these names, so they are read from a plain view.
    let view = || numpy.ndarray.bind(py).call_method1("view", (array, &numpy.ndarray));
    let plain = if exact { array.clone() } else { view()? };
    let dtype = plain.getattr("dtype")?;
    let bytes = plain.getattr("nbytes")?.extract::<usize>()?;
    if bytes < OUT_OF_BAND || !is_bytes(&dtype)? {
        return usual();
    }
    if is_masked(&class)? {
        return masked(array, &class);
    }
    let flags = plain.getattr("flags")?;
    let fortran = flags.getattr("fnc")?.is_truthy()?;
    let order = if fortran { "F" } else { "C" };
    let whole = if flags.getattr("forc")?.is_truthy()? { plain.clone() } else { plain.call_method1("copy", ("C",))? };
    let flat = with_order(&whole, "reshape", (-1,), order)?.call_method1("view", (&numpy.uint8,))?;
    let memory = Bound::new(py, WritableMemory(PyBuffer::get(&flat)?))?;
    let buffer = pickle_buffer_class(py)?.call1((memory,))?;
    let shape = plain.getattr("shape")?;
    let reduced = match exact {
        true => (&numpy.frombuffer, (buffer, dtype, shape, order)).into_pyobject(py)?,
        false => (&numpy.ndarray_new, (class, shape, dtype, buffer, 0, py.None(), order)).into_pyobject(py)?,
    };
    Ok(reduced.into_any())
}

/// What numpy reduced an array to, with its memory writable in the pickle even if the array is read-only. To change
/// that in the finished pickle would cost a copy.
fn with_writable_memory<'py>(reduced: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = reduced.py();
    let Ok(parts) = reduced.cast_exact::<PyTuple>() else { return Ok(reduced) };
    let arguments = parts.get_item(1)?;
    let buffer = arguments.get_item(0)?;
    if !buffer.get_type().is(pickle_buffer_class(py)?) {
        return Ok(reduced);
    }
    let raw = PyBuffer::<u8>::get(&buffer.call_method0(pyo3::intern!(py, "raw"))?)?;
    if !raw.readonly() {
        return Ok(reduced);
    }
    let buffer = pickle_buffer_class(py)?.call1((Bound::new(py, WritableMemory(raw))?,))?;
    let mut arguments: Vec<_> = arguments.cast_exact::<PyTuple>()?.iter().collect();
    arguments[0] = buffer;
    Ok((parts.get_item(0)?, PyTuple::new(py, arguments)?).into_pyobject(py)?.into_any())
}

/// `array.method(*arguments, order=order)`
fn with_order<'py>(
    array: &Bound<'py, PyAny>,
    method: &str,
    arguments: (i32,),
    order: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let named = PyDict::new(array.py());
    named.set_item("order", order)?;
    array.call_method(method, arguments, Some(&named))
}

/// A masked array as a call of its constructor on data and mask, which are arrays themselves. The constructor copies
/// neither.
fn masked<'py>(array: &Bound<'py, PyAny>, class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    let (data, mut mask) = (array.getattr("data")?, array.getattr("_mask")?);
    // numpy hands over the memory of a contiguous mask, which can be made read-only later; other masks it would
    // rebuild.
    if !mask.getattr("flags")?.getattr("forc")?.is_truthy()? {
        mask = mask.call_method1("copy", ("C",))?;
    }
    let (fill, hard) = (array.getattr("_fill_value")?, array.getattr("hardmask")?);
    // data, mask, dtype, copy, subok, ndmin, fill_value, keep_mask, hard_mask
    let arguments = (data, mask, py.None(), false, true, 0, fill, false, hard);
    Ok((class, arguments).into_pyobject(py)?.into_any())
}

/// [`reduced`], as Python calls it.
fn reducer(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static REDUCER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let make = || Ok::<_, PyErr>(pyo3::wrap_pyfunction!(reduced, py)?.into_any().unbind());
    calls::once(py, &REDUCER, make).map(|reducer| reducer.bind(py))
}

/// What the pickler calls for classes without a reducer.
fn usual_reducer(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static USUAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let make = || calls::attribute(py, c"operator", c"methodcaller")?.call1(("__reduce_ex__", 5)).map(Bound::unbind);
    calls::once(py, &USUAL, make).map(|usual| usual.bind(py))
}

/// The class `pickle.PickleBuffer`.
fn pickle_buffer_class(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static PICKLE_BUFFER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    calls::cached_attribute(py, &PICKLE_BUFFER, c"_pickle", c"PickleBuffer")
}
