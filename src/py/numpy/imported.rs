//! What of numpy the pickling of its arrays needs: looked at where somebody imported it, never imported for that.

use super::layout;
use crate::codec::buffers::OUT_OF_BAND;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};

static NUMPY: PyOnceLock<Numpy> = PyOnceLock::new();

/// Flags of numpy's dtypes: references, items pickled as a list, pointers, and what must not be copied byte by byte.
pub const NOT_BYTES: u64 = 0x107;

/// Numbers of numpy's dtypes: objects, structs, dates and time spans. From the last on they are not numpy's own.
const OBJECT: i64 = 17;
const VOID: i64 = 20;
const DATETIME: i64 = 21;
const TIMEDELTA: i64 = 22;
const USERS: i64 = 24;

/// What is needed of numpy, which is not imported for that.
pub struct Numpy {
    pub ndarray: Py<PyType>,
    /// `_frombuffer`
    pub frombuffer: Py<PyAny>,
    /// It takes the order of axes, so that numpy gives memory whose axes are in any order.
    any_axes: bool,
    /// `ndarray.__new__`
    pub ndarray_new: Py<PyAny>,
    /// `numpy.uint8`
    pub uint8: Py<PyAny>,
    /// The class of numpy's scalars, and some others of which no value holds another one.
    pub generic: Py<PyAny>,
    pub single: Vec<Py<PyAny>>,
    /// numpy's arrays lie in memory as [`layout`] says.
    layout_is_known: bool,
}

impl Numpy {
    /// Where it was met before.
    #[inline]
    pub fn known_by_now(py: Python<'_>) -> Option<&Numpy> {
        NUMPY.get(py)
    }

    /// Where it was imported. What goes by that name and is not numpy, or not yet whole, has none of its arrays.
    pub fn get(py: Python<'_>) -> PyResult<Option<&Numpy>> {
        match NUMPY.get(py) {
            Some(numpy) => Ok(Some(numpy)),
            None => match imported(py, pyo3::intern!(py, "numpy"))? {
                Some(module) if module.hasattr("ndarray")? && module.hasattr("ma")? => {
                    match NUMPY.get_or_try_init(py, || Numpy::new(&module)) {
                        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
                        numpy => numpy.map(Some),
                    }
                }
                _ => Ok(None),
            },
        }
    }

    fn new(module: &Bound<'_, PyAny>) -> PyResult<Numpy> {
        let py = module.py();
        let ndarray = module.getattr("ndarray")?.cast_into::<PyType>()?;
        // Numpy 2's name and numpy 1's.
        let numeric = py.import("numpy._core.numeric").or_else(|_| py.import("numpy.core.numeric"))?;
        let over = numeric.getattr("_frombuffer")?;
        let any_axes = over.getattr("__code__")?.getattr("co_argcount")?.extract::<usize>()? > 4;
        Ok(Numpy {
            ndarray_new: ndarray.getattr("__new__")?.unbind(),
            ndarray: ndarray.unbind(),
            frombuffer: over.unbind(),
            any_axes,
            uint8: module.getattr("uint8")?.unbind(),
            generic: module.getattr("generic")?.unbind(),
            single: ["date", "datetime", "time", "timedelta"]
                .into_iter()
                .map(|name| Ok(py.import("datetime")?.getattr(name)?.unbind()))
                .collect::<PyResult<_>>()?,
            layout_is_known: layout::is_as_expected(module)?,
        })
    }

    /// Does numpy hand over the memory of this exact array, or is there none worth it?
    pub fn gives_memory(&self, array: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = array.py();
        if self.layout_is_known {
            // SAFETY: exact, as the caller says, and of this layout.
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

    /// Are such arrays pickled by numpy, in a way that this module may stand for?
    pub fn pickles(&self, class: &Bound<'_, PyType>) -> PyResult<bool> {
        let (py, ndarray) = (class.py(), self.ndarray.bind(class.py()));
        for name in ["__reduce__", "__reduce_ex__", "__setstate__"] {
            if !class.getattr(name)?.is(&ndarray.getattr(name)?) {
                return Ok(false);
            }
        }
        // Refused with another error than the one for such a shape where the class has a `__new__` of its own in C.
        let refused = self.ndarray_new.bind(py).call1((class, -1));
        Ok(refused.is_err_and(|error| error.is_instance_of::<PyValueError>(py)))
    }
}

/// A module, if somebody imported it.
pub fn imported<'py>(py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let modules = || Ok::<_, PyErr>(py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind());
    MODULES.get_or_try_init(py, modules)?.bind(py).get_item(name)
}

/// Is its memory in one piece, with the axes in any order?
fn is_whole(array: &Bound<'_, PyAny>) -> PyResult<bool> {
    let strides = array.getattr("strides")?.extract::<Vec<isize>>()?;
    let mut axes: Vec<usize> = (0..strides.len()).collect();
    axes.sort_by_key(|axis| std::cmp::Reverse(strides[*axis]));
    let turned = array.call_method1("transpose", (axes,))?;
    turned.getattr("flags")?.getattr("c_contiguous")?.is_truthy()
}
