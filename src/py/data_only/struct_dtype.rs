//! numpy's dtypes that are made of others: those with dimensions, and structs with fields.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use super::decoder::Decoder;
use super::dtype::DTYPE;
use super::dtype_description::{ByteCheck, DtypeDescription};
use super::error::{DataOnlyResult, needs};
use super::object_size;
use crate::py::create;

impl<'py> Decoder<'_, 'py> {
    /// A dtype with dimensions.
    pub(super) fn subarray(
        &mut self,
        subarray: &Bound<'py, PyAny>,
        total: usize,
    ) -> DataOnlyResult<(Bound<'py, PyAny>, DtypeDescription)> {
        let Some(pair) = subarray.cast_exact::<PyTuple>().ok().filter(|pair| pair.len() == 2) else {
            return Err(self.damaged("a dtype with dimensions but without an item"));
        };
        let (item, shape) = (pair.get_item(0)?, pair.get_item(1)?);
        let (desc, sizes) = (self.dtype_description(&item)?, self.sizes(&shape)?);
        let count = sizes.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
        let count = count.filter(|count| !sizes.is_empty() && count.checked_mul(desc.size) == Some(total));
        let Some(count) = count else {
            return Err(self.damaged("a dtype whose dimensions give another size"));
        };
        let obj = self.construct(&DTYPE, ((item, shape),))?;
        self.same_size(&obj, total)?;
        let looks = desc.looks.saturating_mul(count as u64);
        let check = if looks == 0 { ByteCheck::Any } else { ByteCheck::Items(desc.clone()) };
        let (depth, parts) = (desc.depth + 1, desc.parts + 1);
        Ok((
            obj,
            DtypeDescription { size: total, depth, parts, check, looks, subarray: true, void: true, slow: desc.slow },
        ))
    }

    /// A struct.
    pub(super) fn fields(
        &mut self,
        names: &Bound<'py, PyAny>,
        fields: &Bound<'py, PyAny>,
        total: usize,
        aligned: bool,
    ) -> DataOnlyResult<(Bound<'py, PyAny>, DtypeDescription)> {
        let (Ok(names), Ok(fields)) = (names.cast_exact::<PyTuple>(), fields.cast_exact::<PyDict>()) else {
            return Err(self.damaged("a dtype whose names are not a tuple or whose fields are not a dict"));
        };
        self.budget.memory(object_size::OBJECT * names.len())?;
        let py = self.py;
        let (formats, offsets, titles) = (PyList::empty(py), PyList::empty(py), PyList::empty(py));
        let mut desc = DtypeDescription::scalar(total, ByteCheck::Any, true, false);
        let (mut checks, mut titled) = (Vec::new(), 0);
        for name in names {
            let field = if name.is_exact_instance_of::<PyString>() { fields.get_item(&name)? } else { None };
            let Some(field) = field.and_then(|field| field.cast_into_exact::<PyTuple>().ok()) else {
                return Err(self.damaged("a field of a dtype that is missing"));
            };
            let title = match field.len() {
                2 => None,
                3 => Some(field.get_item(2)?),
                _ => return Err(self.damaged("a field of a dtype whose entry has another length")),
            };
            if title.as_ref().is_some_and(|title| !title.is_exact_instance_of::<PyString>()) {
                return Err(needs("a title in a numpy.dtype that is not a str"));
            }
            let (item, offset) = (field.get_item(0)?, field.get_item(1)?);
            let part = self.dtype_description(&item)?;
            let place = usize::try_from(self.number(&offset)?).ok();
            let Some(place) = place.filter(|place| place.checked_add(part.size).is_some_and(|end| end <= total)) else {
                return Err(self.damaged("a field beyond the end of its dtype"));
            };
            desc.depth = desc.depth.max(part.depth + 1);
            desc.parts = desc.parts.saturating_add(part.parts);
            desc.looks = desc.looks.saturating_add(part.looks);
            desc.slow |= part.slow;
            formats.append(item)?;
            offsets.append(offset)?;
            titled += usize::from(title.is_some());
            titles.append(title)?;
            if part.looks > 0 {
                create::push(&mut checks, (place, part))?;
            }
        }
        if fields.len() != names.len() + titled {
            return Err(self.damaged("a dtype with more fields than names"));
        }
        if !checks.is_empty() {
            desc.check = ByteCheck::Fields(checks);
        }
        let arguments = create::dict(py)?;
        arguments.set_item("names", create::list(py, names.iter().map(Ok))?)?;
        arguments.set_item("formats", formats)?;
        arguments.set_item("offsets", offsets)?;
        if titled > 0 {
            arguments.set_item("titles", titles)?;
        }
        arguments.set_item("itemsize", total)?;
        let obj = self.construct(&DTYPE, (arguments, aligned))?;
        self.same_size(&obj, total)?;
        Ok((obj, desc))
    }
}
