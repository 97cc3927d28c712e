//! numpy's arrays and scalars: bytes, a dtype and a shape that must fit together. numpy gets memory and numbers that
//! were checked; its code for unpickling does not run. Masked arrays are in `masked`.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyMemoryView, PyString, PyTuple};

use super::arguments::is_flag;
use super::decoder::Decoder;
use super::dtype_description::DtypeDescription;
use super::error::{DataOnlyError, DataOnlyResult, needs};
use super::globals::Global;
use super::library_class::LibraryClass;
use super::object_size;
use super::value::Value;
use crate::py::read_mode::ReadMode;

static NDARRAY: LibraryClass = LibraryClass::new(c"numpy", c"ndarray");
static MEMMAP: LibraryClass = LibraryClass::new(c"numpy", c"memmap");
static RECARRAY: LibraryClass = LibraryClass::new(c"numpy", c"recarray");

impl<'py> Decoder<'_, 'py> {
    /// The calls `_frombuffer(buffer, dtype, shape, order)`, `scalar(dtype, bytes)` and `MaskedArray(data, mask, …)`.
    pub(super) fn array_call(&mut self, global: Global, items: &[Bound<'py, PyAny>]) -> DataOnlyResult<Value<'py>> {
        match (global, items) {
            (Global::FromBuffer, [buffer, dtype, shape, order]) => {
                self.over_buffer(Global::NdArray, buffer, dtype, shape, order, None)
            }
            (Global::FromBuffer, [buffer, dtype, shape, order, axes]) => {
                self.over_buffer(Global::NdArray, buffer, dtype, shape, order, Some(axes))
            }
            (Global::Scalar, [dtype, bytes]) => self.scalar(dtype, bytes),
            (Global::Masked, [data, mask, dtype, copy, subok, dimensions, fill, keep, hard])
                if dtype.is_none()
                    && [(copy, false), (subok, true), (keep, false)]
                        .iter()
                        .all(|(flag, value)| is_flag(flag, *value))
                    && self.number(dimensions)? == 0 =>
            {
                self.masked(data, mask, fill, hard)
            }
            _ => Err(needs(global.name())),
        }
    }

    /// The call `ndarray.__new__(class, shape, dtype, buffer, 0, None, order)`. `items` are the arguments without the
    /// class.
    pub(super) fn new_array(&mut self, class: Global, items: &[Bound<'py, PyAny>]) -> DataOnlyResult<Value<'py>> {
        match items {
            [shape, dtype, buffer, offset, strides, order] if strides.is_none() && self.number(offset)? == 0 => {
                self.over_buffer(class, buffer, dtype, shape, order, None)
            }
            _ => Err(needs(Global::NewArray.name())),
        }
    }

    /// An array over the buffer itself, as numpy does it. If the array is to be writable and the buffer is not, or the
    /// other way round, it is over a copy or over a read-only view.
    fn over_buffer(
        &mut self,
        class: Global,
        buffer: &Bound<'py, PyAny>,
        dtype: &Bound<'py, PyAny>,
        shape: &Bound<'py, PyAny>,
        order: &Bound<'py, PyAny>,
        axes: Option<&Bound<'py, PyAny>>,
    ) -> DataOnlyResult<Value<'py>> {
        let is = |letter: &str| order.cast_exact::<PyString>().is_ok_and(|order| *order == *letter);
        let plain = buffer.is_exact_instance_of::<PyBytes>()
            || buffer.is_exact_instance_of::<PyByteArray>()
            || buffer.is_exact_instance_of::<PyMemoryView>();
        if !plain {
            return Err(self.damaged("an array over something that is not a buffer"));
        }
        let axes = axes.filter(|axes| !axes.is_none());
        let order = match axes {
            Some(_) if is("K") => "C",
            None if is("C") => "C",
            None if is("F") => "F",
            _ => return Err(self.damaged("an array with an unknown order of its axes")),
        };
        let writable = match buffer.is_exact_instance_of::<PyMemoryView>() {
            true => !buffer.getattr("readonly")?.is_truthy()?,
            false => buffer.is_exact_instance_of::<PyByteArray>(),
        };
        let buffer = match (self.mode, writable) {
            (ReadMode::Own, true) => buffer.clone(),
            (ReadMode::Own, false) => {
                self.budget.memory(object_size::OBJECT + buffer.len()?)?;
                PyByteArray::from(buffer)?.into_any()
            }
            (ReadMode::View, _) => {
                self.budget.memory(object_size::OBJECT)?;
                PyMemoryView::from(buffer)?.call_method0("toreadonly")?
            }
        };
        let array = self.array(class, &buffer, dtype, shape, order)?;
        let Some(axes) = axes else { return Ok(Value::leaf(array, 0)) };
        let mut places = self.sizes(axes)?;
        places.sort_unstable();
        if places.len() != shape.len()? || places.iter().enumerate().any(|(at, place)| at != *place) {
            return Err(self.damaged("axes that do not fit their array"));
        }
        let turned = array.call_method1("transpose", (axes,));
        Ok(Value::leaf(self.or_damaged(turned, "axes that do not fit their array")?, 0))
    }

    /// An array from its state: `(1, shape, dtype, whether it is in Fortran's order, bytes)`. The byte order stays as
    /// it is; numpy would convert it to the machine's.
    pub(super) fn array_state(&mut self, class: Global, state: &Bound<'py, PyAny>) -> DataOnlyResult<Value<'py>> {
        let items: Vec<_> = match state.cast_exact::<PyTuple>() {
            Ok(state) if state.len() == 5 => state.iter().collect(),
            _ => return Err(self.damaged("an array whose state has another length")),
        };
        let [version, shape, dtype, fortran, bytes] = items.as_slice() else {
            return Err(self.damaged("an array whose state has another length"));
        };
        let (Ok(fortran), Ok(bytes)) = (fortran.cast_exact::<PyBool>(), bytes.cast_exact::<PyBytes>()) else {
            return Err(self.damaged("an array whose data is not bytes"));
        };
        if self.number(version)? != 1 {
            return Err(needs("a numpy.ndarray of another version"));
        }
        // A writable array gets memory of its own.
        let own = match self.mode {
            ReadMode::Own => self.bytearray(bytes.as_bytes())?,
            ReadMode::View => bytes.clone().into_any(),
        };
        let order = if fortran.is_true() { "F" } else { "C" };
        Ok(Value::leaf(self.array(class, &own, dtype, shape, order)?, 0))
    }

    /// An array of this class over a buffer, once everything fits together.
    fn array(
        &mut self,
        class: Global,
        buffer: &Bound<'py, PyAny>,
        dtype: &Bound<'py, PyAny>,
        shape: &Bound<'py, PyAny>,
        order: &str,
    ) -> DataOnlyResult<Bound<'py, PyAny>> {
        let (desc, sizes) = (self.dtype_description(dtype)?, self.sizes(shape)?);
        if desc.subarray {
            return Err(self.damaged("an array of a dtype with dimensions"));
        }
        // numpy counts in this way, too: an axis of 0 makes the array empty, but the other axes must still fit into
        // memory.
        let some =
            sizes.iter().filter(|size| **size != 0).try_fold(desc.size.max(1), |all, size| all.checked_mul(*size));
        let Some(some) = some.filter(|some| isize::try_from(*some).is_ok()) else {
            return Err(self.damaged("an array larger than memory can be"));
        };
        let empty = sizes.contains(&0);
        if desc.size == 0 && !empty {
            return Err(needs("a numpy.ndarray of items without bytes"));
        }
        self.checked(buffer, &desc, if empty { 0 } else { some })?;
        let none = self.py.None();
        let class = match class {
            Global::MemMap => self.library_class(&MEMMAP)?,
            Global::RecArray => self.library_class(&RECARRAY)?,
            _ => return self.construct(&NDARRAY, (shape, dtype, buffer, 0, none, order)),
        };
        self.budget.look()?;
        self.budget.memory(object_size::OBJECT)?;
        let made = self.library_class(&NDARRAY)?.call_method1("__new__", (class, shape, dtype, buffer, 0, none, order));
        self.or_damaged(made, "arguments that their class does not accept")
    }

    /// A numpy scalar from its bytes.
    fn scalar(&mut self, dtype: &Bound<'py, PyAny>, bytes: &Bound<'py, PyAny>) -> DataOnlyResult<Value<'py>> {
        let (desc, Ok(bytes)) = (self.dtype_description(dtype)?, bytes.cast_exact::<PyBytes>()) else {
            return Err(self.damaged("a scalar whose data is not bytes"));
        };
        if desc.subarray {
            return Err(self.damaged("a scalar of a dtype with dimensions"));
        }
        self.checked(bytes.as_any(), &desc, desc.size)?;
        if desc.slow {
            self.equality.meet_slow_value()?;
        }
        // The scalar is not over the bytes themselves, because a record can be changed.
        let own = self.bytearray(bytes.as_bytes())?;
        let none = PyTuple::empty(self.py);
        let array = self.construct(&NDARRAY, (&none, dtype, own))?;
        self.budget.memory(object_size::OBJECT + 2 * desc.size)?;
        let item = array.get_item(none);
        let weight = if desc.void { 0 } else { 2 + desc.size / 64 };
        Ok(Value::leaf(self.or_damaged(item, "a numpy scalar that numpy does not accept")?, weight))
    }

    /// Fails unless the buffer has this length, and its bytes are valid for the dtype.
    #[allow(unsafe_code, reason = "a look at a buffer, in place")]
    pub(super) fn checked(
        &mut self,
        buffer: &Bound<'py, PyAny>,
        desc: &DtypeDescription,
        length: usize,
    ) -> DataOnlyResult<()> {
        let held = PyBuffer::<u8>::get(buffer)?;
        if !held.is_c_contiguous() || held.len_bytes() != length {
            return Err(self.damaged("an array whose buffer has another length"));
        }
        if self.input.in_place && desc.looks > 0 {
            return Err(DataOnlyError::CheckedInPlace);
        }
        if length == 0 || self.input.in_place {
            return Ok(());
        }
        // SAFETY: the memory is contiguous, and exported while `held` lives. It belongs to this decoder: nobody else
        // has the object yet, and nothing below runs Python code.
        let bytes = unsafe { std::slice::from_raw_parts(held.buf_ptr().cast::<u8>().cast_const(), length) };
        desc.check(bytes).map_err(|why| self.damaged(why))?;
        self.budget.look()
    }
}
