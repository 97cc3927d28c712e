//! The objects of numpy that the pickling of arrays needs. They are fetched if the program has imported numpy; numpy is
//! never imported for that.

use super::layout;
use crate::codec::buffers::OUT_OF_BAND;
use crate::py::calls;
use crate::py::errors;
use pyo3::exceptions::{PyAttributeError, PyImportError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};

static NUMPY: PyOnceLock<Numpy> = PyOnceLock::new();

/// Flags of numpy's dtypes whose items must not be stored as bytes: they are references, pickled as a list, or
/// pointers.
const REFERENCES: u64 = 0x7;
/// The flag of those that are not trivially copyable. numpy 2.5 gives it to structs with bytes between their fields,
/// too, which have nothing but bytes.
const CONSTRUCTED: u64 = 0x100;

/// Numbers of numpy's dtypes: objects, structs, dates, time spans and `float16`. The dtypes from `USERS` on are not
/// numpy's own.
const OBJECT: i64 = 17;
const VOID: i64 = 20;
const DATETIME: i64 = 21;
const TIMEDELTA: i64 = 22;
const HALF: i64 = 23;
const USERS: i64 = 24;

/// What is needed of numpy.
pub struct Numpy {
    pub ndarray: Py<PyType>,
    /// `_frombuffer`
    pub frombuffer: Py<PyAny>,
    /// `_frombuffer` takes the order of axes. Such a numpy hands over memory whose axes are in any order.
    any_axes: bool,
    /// `ndarray.__new__`
    pub ndarray_new: Py<PyAny>,
    /// `numpy.uint8`
    pub uint8: Py<PyAny>,
    /// The class of numpy's scalars.
    pub generic: Py<PyAny>,
    /// Some other classes whose values hold no other values.
    pub leaf_classes: Vec<Py<PyAny>>,
    /// numpy's arrays lie in memory as [`layout`] expects.
    layout_is_known: bool,
}

/// Whether the items of a dtype are bytes that mean the same in every process.
pub fn is_bytes(dtype: &Bound<'_, PyAny>) -> PyResult<bool> {
    let flags: i64 = dtype.getattr(pyo3::intern!(dtype.py(), "flags"))?.extract()?;
    // numpy 1 gives them as a byte with a sign.
    let flags = if flags < 0 { u64::from(flags as u8) } else { flags as u64 };
    if flags & (REFERENCES | CONSTRUCTED) != CONSTRUCTED {
        return Ok(flags & REFERENCES == 0);
    }
    let names = dtype.getattr(pyo3::intern!(dtype.py(), "names"))?;
    if names.is_none() {
        return Ok(false);
    }
    for name in names.try_iter()? {
        if !is_bytes(&dtype.get_item(name?)?.getattr(pyo3::intern!(dtype.py(), "base"))?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Numpy {
    /// What was fetched before, if anything.
    #[inline]
    pub fn if_fetched(py: Python<'_>) -> Option<&Numpy> {
        NUMPY.get(py)
    }

    /// Fetches what is needed, if the program has imported numpy. `None` also if the module of that name is not numpy
    /// or is not fully imported yet: then there are no arrays.
    pub fn get(py: Python<'_>) -> PyResult<Option<&Numpy>> {
        match NUMPY.get(py) {
            Some(numpy) => Ok(Some(numpy)),
            None => match whole_numpy(py)? {
                Some(module) => match errors::unless_exception_lasts(py, || Numpy::new(&module))? {
                    Some(numpy) => calls::once(py, &NUMPY, || Ok(numpy)).map(Some),
                    None => Ok(None),
                },
                None => Ok(None),
            },
        }
    }

    fn new(module: &Bound<'_, PyAny>) -> PyResult<Numpy> {
        let py = module.py();
        let ndarray = module.getattr("ndarray")?.cast_into::<PyType>()?;
        // The first name is numpy 2's, the second one numpy 1's.
        let over = match calls::attribute(py, c"numpy._core.numeric", c"_frombuffer") {
            Err(error) if error.is_instance_of::<PyImportError>(py) || error.is_instance_of::<PyAttributeError>(py) => {
                calls::attribute(py, c"numpy.core.numeric", c"_frombuffer")?
            }
            over => over?,
        };
        let any_axes = over.getattr("__code__")?.getattr("co_argcount")?.extract::<usize>()? > 4;
        Ok(Numpy {
            ndarray_new: ndarray.getattr("__new__")?.unbind(),
            ndarray: ndarray.unbind(),
            frombuffer: over.unbind(),
            any_axes,
            uint8: module.getattr("uint8")?.unbind(),
            generic: module.getattr("generic")?.unbind(),
            leaf_classes: [c"date", c"datetime", c"time", c"timedelta"]
                .into_iter()
                .map(|name| calls::attribute(py, c"datetime", name).map(Bound::unbind))
                .collect::<PyResult<_>>()?,
            layout_is_known: layout::is_as_expected(module)?,
        })
    }

    /// Whether numpy's arrays lie in memory as [`layout`] expects.
    #[inline]
    pub fn layout_is_known(&self) -> bool {
        self.layout_is_known
    }

    /// Whether the items of a dtype with this number are plain bytes of numpy's own: no objects, no structs, no dates.
    #[inline]
    pub fn has_plain_items(number: i64) -> bool {
        ((0..VOID).contains(&number) && number != OBJECT) || number == HALF
    }

    /// Whether numpy itself hands over the memory of this exact array, or the array is too short for that to matter.
    pub fn gives_memory(&self, array: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = array.py();
        if self.layout_is_known {
            // SAFETY: the array is exact, as the caller says, and the layout was checked.
            let (flags, number) = unsafe { layout::flags_and_number(array) };
            let by_buffer = number < VOID && flags & layout::CONTIGUOUS != 0;
            if by_buffer || number == OBJECT {
                return Ok(true);
            }
        }
        let number = array.getattr(pyo3::intern!(py, "dtype"))?.getattr(pyo3::intern!(py, "num"))?.extract::<i64>()?;
        if number == OBJECT {
            return Ok(true);
        }
        let by_buffer = number < USERS && !matches!(number, VOID | DATETIME | TIMEDELTA);
        let flags = array.getattr(pyo3::intern!(py, "flags"))?;
        if by_buffer && flags.getattr(pyo3::intern!(py, "forc"))?.is_truthy()? {
            return Ok(true);
        }
        let few = array.getattr(pyo3::intern!(py, "nbytes"))?.extract::<usize>()? < OUT_OF_BAND;
        Ok(few || (by_buffer && self.any_axes && is_whole(array)?))
    }

    /// Whether arrays of this class are pickled by numpy's own methods, so that this module may do it instead.
    pub fn pickles(&self, class: &Bound<'_, PyType>) -> PyResult<bool> {
        let (py, ndarray) = (class.py(), self.ndarray.bind(class.py()));
        for name in ["__reduce__", "__reduce_ex__", "__setstate__"] {
            if !class.getattr(name)?.is(&ndarray.getattr(name)?) {
                return Ok(false);
            }
        }
        // A class with a `__new__` of its own in C refuses this call with another error than the one for such a shape.
        let refused = self.ndarray_new.bind(py).call1((class, -1));
        Ok(refused.is_err_and(|error| error.is_instance_of::<PyValueError>(py)))
    }
}

/// numpy, if the program has imported it, and all of it: another thread may just be importing it.
pub fn whole_numpy(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let Some(module) = imported(py, pyo3::intern!(py, "numpy"))? else { return Ok(None) };
    // This is what the interpreter itself asks before it gives a module to a second thread. (A name that numpy has last
    // says less: numpy imports some of its modules only when they are named.)
    let being_imported = match module.getattr_opt(pyo3::intern!(py, "__spec__"))? {
        Some(spec) => spec.getattr_opt(pyo3::intern!(py, "_initializing"))?,
        None => None,
    };
    let whole = being_imported.is_none_or(|now| !now.is_truthy().unwrap_or(true)) && module.hasattr("ndarray")?;
    Ok(whole.then_some(module))
}

/// A module, if the program has imported it.
pub fn imported<'py>(py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: the interpreter is attached, and lends its dict of modules, which it keeps for as long as it lives.
    let modules = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyImport_GetModuleDict()) };
    match modules {
        Some(modules) => modules.cast_into::<PyDict>()?.get_item(name),
        None => Ok(None),
    }
}

/// Whether the array's memory is in one piece, with the axes in any order.
fn is_whole(array: &Bound<'_, PyAny>) -> PyResult<bool> {
    let strides = array.getattr("strides")?.extract::<Vec<isize>>()?;
    let mut axes: Vec<usize> = (0..strides.len()).collect();
    axes.sort_by_key(|axis| std::cmp::Reverse(strides[*axis]));
    let turned = array.call_method1("transpose", (axes,))?;
    turned.getattr("flags")?.getattr("c_contiguous")?.is_truthy()
}
