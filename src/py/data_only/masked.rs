//! numpy's masked arrays: their constructor is called with data and a mask that this decoder has built and that fit
//! together.

use crate::py::calls;
use std::rc::Rc;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyTuple};

use super::decoder::Decoder;
use super::dtype_description::DtypeDescription;
use super::error::{DataOnlyResult, needs};
use super::globals::Global;
use super::library_class::LibraryClass;
use super::value::Value;

static MASKED: LibraryClass = LibraryClass::new(c"numpy.ma", c"MaskedArray");
static NDARRAY: LibraryClass = LibraryClass::new(c"numpy", c"ndarray");
static MEMMAP: LibraryClass = LibraryClass::new(c"numpy", c"memmap");
static RECARRAY: LibraryClass = LibraryClass::new(c"numpy", c"recarray");
static BOOL: LibraryClass = LibraryClass::new(c"numpy", c"bool_");

impl<'py> Decoder<'_, 'py> {
    /// A masked array of an array, a mask of the same shape or numpy's `nomask`, and the value that stands for masked
    /// items or `None`.
    pub(super) fn masked(
        &mut self,
        data: &Bound<'py, PyAny>,
        mask: &Bound<'py, PyAny>,
        fill: &Bound<'py, PyAny>,
        hard: &Bound<'py, PyAny>,
    ) -> DataOnlyResult<Value<'py>> {
        if !self.is_array(data, true)? {
            return Err(self.damaged("a masked array of something that is not an array"));
        }
        let dtype = data.getattr("dtype")?;
        let wanted = self.mask_dtype(&dtype)?;
        // For an array of structs numpy creates an empty mask, whether one is given or not.
        self.budget.memory(
            wanted.getattr("itemsize")?.extract::<usize>()?.saturating_mul(data.getattr("size")?.extract::<usize>()?),
        )?;
        let no_mask = mask.get_type().is(&self.library_class(&BOOL)?) && !mask.is_truthy()?;
        let fits = |mask: &Bound<'py, PyAny>| {
            Ok::<_, PyErr>(mask.getattr("dtype")?.eq(&wanted)? && mask.getattr("shape")?.eq(data.getattr("shape")?)?)
        };
        if !(no_mask || self.is_array(mask, false)? && fits(mask)?) {
            return Err(self.damaged("a mask that does not fit its array"));
        }
        let single = |fill: &Bound<'py, PyAny>| {
            Ok::<_, PyErr>(fill.getattr("ndim")?.extract::<usize>()? == 0 && fill.getattr("dtype")?.eq(&dtype)?)
        };
        if !(fill.is_none() || self.is_array(fill, false)? && single(fill)?) {
            return Err(self.damaged("a fill value that does not fit its array"));
        }
        if !hard.is_exact_instance_of::<PyBool>() {
            return Err(needs(Global::Masked.name()));
        }
        let arguments = (data, mask, self.py.None(), false, true, 0, fill, false, hard);
        Ok(Value::leaf(self.construct(&MASKED, arguments)?, 0))
    }

    /// A masked array from its state: the state of its data, the bytes of its mask, the value that stands for masked
    /// items.
    pub(super) fn masked_state(&mut self, class: Global, state: &Bound<'py, PyAny>) -> DataOnlyResult<Value<'py>> {
        let items: Vec<_> = match state.cast_exact::<PyTuple>() {
            Ok(state) if state.len() == 7 => state.iter().collect(),
            _ => return Err(self.damaged("a masked array whose state has another length")),
        };
        let Ok(bytes) = items[5].cast_exact::<PyBytes>() else {
            return Err(self.damaged("a mask whose data is not bytes"));
        };
        let data = self.array_state(class, PyTuple::new(self.py, &items[..5])?.as_any())?;
        let dtype = self.mask_dtype(&data.obj.getattr("dtype")?)?;
        // Whatever the dtype of the mask is, each of its bytes is a bool.
        let size = dtype.getattr("itemsize")?.extract::<usize>()?;
        self.remember_dtype(&dtype, Rc::new(DtypeDescription::of_bools(size)))?;
        let halves = (&items[0], &items[1], &dtype, &items[3], bytes).into_pyobject(self.py)?;
        let mask = self.array_state(Global::NdArray, halves.as_any())?;
        self.masked(&data.obj, &mask.obj, &items[6], PyBool::new(self.py, false).as_any())
    }

    /// Whether a value is an array, and so was built by this decoder. With `any`, also one of numpy's subclasses.
    fn is_array(&mut self, value: &Bound<'py, PyAny>, any: bool) -> DataOnlyResult<bool> {
        let class = value.get_type();
        Ok(class.is(&self.library_class(&NDARRAY)?)
            || any && (class.is(&self.library_class(&MEMMAP)?) || class.is(&self.library_class(&RECARRAY)?)))
    }

    /// The dtype of a mask for an array of this dtype.
    fn mask_dtype(&mut self, dtype: &Bound<'py, PyAny>) -> DataOnlyResult<Bound<'py, PyAny>> {
        self.library_class(&MASKED)?;
        let made = calls::attribute(self.py, c"numpy.ma", c"make_mask_descr")?.call1((dtype,));
        self.or_damaged(made, "an array that cannot have a mask")
    }
}
