//! How numpy's arrays are pickled where numpy itself would copy them into the pickle: their memory goes beside it.
//!
//! numpy gives its memory out of band for exact arrays that are contiguous, of dtypes that the buffer protocol knows. Here
//! the rest gets the like: dates, strides, memory maps, record arrays, masked arrays and subclasses that leave pickling to
//! numpy. What is written names nothing but numpy's own callables and builtins, and makes of the buffer what numpy's
//! `_reconstruct` would have made of its copy: the same class, with `__array_finalize__` called on `None`, and no state.

use crate::codec::buffers::OUT_OF_BAND;
use crate::py::numpy::{NOT_BYTES, Numpy, imported};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyKeyError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyDict, PyFrozenSet, PySet, PyTuple, PyType};
use std::ffi::c_int;

/// So many items of builtin containers are looked at; whatever has more may hold arrays. To pickle these takes long enough.
const LOOKS: usize = 64;
/// Containers inside each other.
const DEEPEST: usize = 8;

/// Is there, or may there be, an array in the value that numpy would copy into the pickle? A quick look: false only where
/// it is certain.
#[inline]
pub fn may_matter(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    // Before it is known whether there is numpy: to see that takes longer.
    let known = Numpy::known_by_now(value.py());
    if is_plain(known, value, &mut { LOOKS }, DEEPEST) {
        return Ok(false);
    }
    let Some(numpy) = Numpy::get(value.py())? else { return Ok(false) };
    Ok(known.is_some() || !is_plain(Some(numpy), value, &mut { LOOKS }, DEEPEST))
}

/// Is it one of the builtin scalars, by the address of its class?
///
/// # Safety
/// An object, borrowed.
#[inline(always)]
unsafe fn is_scalar(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller's. The most frequent ones come first.
    let class = unsafe { ffi::Py_TYPE(object) };
    let same = |scalar: *mut ffi::PyTypeObject| class == scalar;
    same(&raw mut ffi::PyUnicode_Type)
        || same(&raw mut ffi::PyLong_Type)
        || same(&raw mut ffi::PyFloat_Type)
        || same(&raw mut ffi::PyBool_Type)
        || same(&raw mut ffi::PyBytes_Type)
        || same(&raw mut ffi::PyByteArray_Type)
}

/// Of builtin containers, scalars and arrays whose memory numpy hands over, as far as there were looks.
fn is_plain(numpy: Option<&Numpy>, value: &Bound<'_, PyAny>, looks: &mut usize, deep: usize) -> bool {
    let py = value.py();
    let object = value.as_ptr();
    // SAFETY: an object, borrowed.
    let class = unsafe { ffi::Py_TYPE(object) };
    let mut each = |item: *mut ffi::PyObject| {
        *looks = looks.saturating_sub(1);
        // SAFETY: borrowed from a container that nobody changes meanwhile.
        unsafe {
            *looks > 0 && (is_scalar(item) || is_plain(numpy, &Bound::from_borrowed_ptr(py, item), looks, deep - 1))
        }
    };
    if deep == 0 {
        false
    } else if class == &raw mut ffi::PyDict_Type {
        with_critical_section(value, || {
            let (mut at, mut key, mut item) = (0, std::ptr::null_mut(), std::ptr::null_mut());
            // SAFETY: a dict, which stays as it is: nothing in the loop runs code, and other threads wait. No array is
            // a key, nor in one but by way of a class that hashes it by its address.
            while unsafe { ffi::PyDict_Next(object, &mut at, &mut key, &mut item) } != 0 {
                if !each(item) {
                    return false;
                }
            }
            true
        })
    } else if class == &raw mut ffi::PyList_Type {
        with_critical_section(value, || {
            // SAFETY: a list, which stays as it is, as above.
            unsafe { (0..ffi::PyList_Size(object)).all(|at| each(ffi::PyList_GetItem(object, at))) }
        })
    } else if class == &raw mut ffi::PyTuple_Type {
        // SAFETY: a tuple, which does not change.
        unsafe { (0..ffi::PyTuple_Size(object)).all(|at| each(ffi::PyTuple_GetItem(object, at))) }
    } else {
        // SAFETY: an object, borrowed.
        value.is_none() || unsafe { is_scalar(object) } || numpy.is_some_and(|numpy| is_plain_other(numpy, value))
    }
}

#[cold]
#[inline(never)]
fn is_plain_other(numpy: &Numpy, value: &Bound<'_, PyAny>) -> bool {
    let class = value.get_type();
    if class.is(&numpy.ndarray) {
        return numpy.gives_memory(value).unwrap_or(false);
    }
    // What is in a set can be hashed, as a key can.
    value.is_exact_instance_of::<PySet>()
        || value.is_exact_instance_of::<PyFrozenSet>()
        || numpy.single.iter().any(|single| class.is(single))
        || class.is_subclass(numpy.scalar.bind(value.py())).unwrap_or(false)
}

/// A `dispatch_table` for the C pickler: what `copyreg` has, and arrays.
#[pyclass(frozen)]
pub struct Reducers(Py<PyDict>);

impl Reducers {
    pub fn get(py: Python<'_>) -> PyResult<&Bound<'_, Self>> {
        static REDUCERS: PyOnceLock<Py<Reducers>> = PyOnceLock::new();
        let table = || py.import("copyreg")?.getattr("dispatch_table")?.cast_into().map_err(PyErr::from);
        let reducers = REDUCERS.get_or_try_init(py, || Py::new(py, Reducers(table()?.unbind())))?;
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
            let ours =
                class.is(ndarray) || class.is_subclass(ndarray)? && (is_masked(class)? || numpy.pickles(class)?);
            if ours {
                return Ok(numpy.reducer.bind(py).clone());
            }
        }
        // Classes are pickled by name. For others an error costs more than what the pickler does after one.
        match (Numpy::get(py)?, class.cast::<PyType>()) {
            (Some(numpy), Ok(class)) if !class.is_subclass_of::<PyType>()? => Ok(numpy.usual.bind(py).clone()),
            _ => Err(PyKeyError::new_err(())),
        }
    }
}

/// Exactly numpy's class.
fn is_masked(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let module = imported(class.py(), pyo3::intern!(class.py(), "numpy.ma"))?;
    let masked = module.map(|module| module.getattr("MaskedArray")).transpose()?;
    Ok(masked.is_some_and(|masked| masked.is(class)))
}

/// What `__reduce_ex__` of an array gives, with its memory in a buffer where that is worth it.
#[pyfunction]
pub fn reduced<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (py, class) = (array.py(), array.get_type());
    let usual = || array.call_method1(pyo3::intern!(py, "__reduce_ex__"), (5,));
    let Some(numpy) = Numpy::get(py)? else { return usual() };
    let exact = class.is(&numpy.ndarray);
    if exact && numpy.gives_memory(array)? {
        return not_read_only(numpy, usual()?);
    }
    // A subclass may have attributes of its own by the same names.
    let view = || numpy.ndarray.bind(py).call_method1("view", (array, &numpy.ndarray));
    let plain = if exact { array.clone() } else { view()? };
    let dtype = plain.getattr("dtype")?;
    let bytes = plain.getattr("nbytes")?.extract::<usize>()?;
    if bytes < OUT_OF_BAND || dtype.getattr("flags")?.extract::<u64>()? & NOT_BYTES != 0 {
        return usual();
    }
    if is_masked(&class)? {
        return masked(array, &class);
    }
    let flags = plain.getattr("flags")?;
    let fortran = flags.getattr("fnc")?.is_truthy()?;
    let order = if fortran { "F" } else { "C" };
    let whole = if flags.getattr("forc")?.is_truthy()? { plain.clone() } else { plain.call_method1("copy", ("C",))? };
    let flat = named(&whole, "reshape", (-1,), order)?.call_method1("view", (&numpy.byte,))?;
    let memory = Bound::new(py, Memory(PyBuffer::get(&flat)?))?;
    let buffer = numpy.pickle_buffer.bind(py).call1((memory,))?;
    let shape = plain.getattr("shape")?;
    let made = match exact {
        true => (&numpy.over, (buffer, dtype, shape, order)).into_pyobject(py)?,
        false => (&numpy.new, (class, shape, dtype, buffer, 0, py.None(), order)).into_pyobject(py)?,
    };
    Ok(made.into_any())
}

/// What numpy reduced an array to, with its memory writable in the pickle whether the array is or not: to change that
/// in a pickle that is made takes the place of a copy.
fn not_read_only<'py>(numpy: &Numpy, reduced: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = reduced.py();
    let Ok(parts) = reduced.cast_exact::<PyTuple>() else { return Ok(reduced) };
    let arguments = parts.get_item(1)?;
    let buffer = arguments.get_item(0)?;
    if !buffer.get_type().is(&numpy.pickle_buffer) {
        return Ok(reduced);
    }
    let raw = PyBuffer::<u8>::get(&buffer.call_method0(pyo3::intern!(py, "raw"))?)?;
    if !raw.readonly() {
        return Ok(reduced);
    }
    let buffer = numpy.pickle_buffer.bind(py).call1((Bound::new(py, Memory(raw))?,))?;
    let mut arguments: Vec<_> = arguments.cast_exact::<PyTuple>()?.iter().collect();
    arguments[0] = buffer;
    Ok((parts.get_item(0)?, PyTuple::new(py, arguments)?).into_pyobject(py)?.into_any())
}

/// `array.method(*arguments, order=order)`
fn named<'py>(array: &Bound<'py, PyAny>, method: &str, arguments: (i32,), order: &str) -> PyResult<Bound<'py, PyAny>> {
    let named = PyDict::new(array.py());
    named.set_item("order", order)?;
    array.call_method(method, arguments, Some(&named))
}

/// The constructor of masked arrays called on data and mask, which are arrays themselves. It copies neither.
fn masked<'py>(array: &Bound<'py, PyAny>, class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    let (data, mut mask) = (array.getattr("data")?, array.getattr("_mask")?);
    // numpy gives the memory of one that is contiguous, and it can be seen to be read-only; others it rebuilds.
    if !mask.getattr("flags")?.getattr("forc")?.is_truthy()? {
        mask = mask.call_method1("copy", ("C",))?;
    }
    let (fill, hard) = (array.getattr("_fill_value")?, array.getattr("hardmask")?);
    // data, mask, dtype, copy, subok, ndmin, fill_value, keep_mask, hard_mask
    let arguments = (data, mask, py.None(), false, true, 0, fill, false, hard);
    Ok((class, arguments).into_pyobject(py)?.into_any())
}

/// The bytes of an array. For the pickle they are writable whether the array is or not: what a reader makes of them is for
/// the reader to say. Nobody but the pickler gets to see it, which does not write.
#[pyclass(frozen)]
struct Memory(PyBuffer<u8>);

#[pymethods]
impl Memory {
    /// # Safety
    /// Called by the interpreter.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        let held = &slf.get().0;
        // SAFETY: `view` is the interpreter's; the memory is exported for as long as this object lives, of which the view
        // holds a reference.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), held.buf_ptr(), held.len_bytes() as ffi::Py_ssize_t, 0, flags)
        };
        if filled == -1 { Err(PyErr::fetch(slf.py())) } else { Ok(()) }
    }

    /// Nothing to give back: the view's reference is all there is.
    ///
    /// # Safety
    /// Called by the interpreter.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}
