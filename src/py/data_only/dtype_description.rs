//! What the decoder knows of the numpy dtypes that it has built, and which bytes are valid for their items.

use std::collections::HashMap;
use std::rc::Rc;

use pyo3::prelude::*;

use super::error::{DataOnlyResult, no_memory};

/// What is known of a dtype. It has eight fields because each is a separate fact that some check needs.
pub(super) struct DtypeDescription {
    /// Bytes of one item.
    pub size: usize,
    /// Number of dtypes inside each other in it.
    pub depth: u32,
    /// Number of dtypes in it, itself included.
    pub parts: u32,
    pub check: ByteCheck,
    /// Bytes of one item that [`Self::check`] looks at.
    pub looks: u64,
    /// Whether it has dimensions.
    pub subarray: bool,
    /// Whether its scalars can be changed, and so cannot be hashed.
    pub void: bool,
    /// Whether its scalars are slow to compare with giant ints: long doubles are compared by way of text.
    pub slow: bool,
}

/// Which bytes of an item must be checked, because numpy or users of its memory rely on their values.
pub(super) enum ByteCheck {
    Any,
    Bool,
    /// UCS-4, with swapped byte order or not.
    Text {
        swapped: bool,
    },
    Items(Rc<DtypeDescription>),
    Fields(Vec<(usize, Rc<DtypeDescription>)>),
}

impl DtypeDescription {
    /// A dtype that is not made of others.
    pub fn scalar(size: usize, check: ByteCheck, void: bool, slow: bool) -> Self {
        let looks = if matches!(check, ByteCheck::Any) { 0 } else { size as u64 };
        DtypeDescription { size, depth: 0, parts: 1, check, looks, subarray: false, void, slow }
    }

    /// The dtype of a mask, which has a bool for each field.
    pub fn of_bools(size: usize) -> Self {
        DtypeDescription { parts: 1, ..DtypeDescription::scalar(size, ByteCheck::Bool, false, false) }
    }

    /// Fails if one of the items has a bool that is neither 0 nor 1, or an invalid character.
    pub fn check(&self, bytes: &[u8]) -> std::result::Result<(), &'static str> {
        match &self.check {
            ByteCheck::Any => Ok(()),
            ByteCheck::Bool => match bytes.iter().fold(0, |all, byte| all | byte) {
                0 | 1 => Ok(()),
                _ => Err("a numpy bool that is neither 0 nor 1"),
            },
            ByteCheck::Text { swapped } => {
                let is_character = |unit: &[u8]| {
                    let unit = u32::from_ne_bytes([unit[0], unit[1], unit[2], unit[3]]);
                    (if *swapped { unit.swap_bytes() } else { unit }) <= char::MAX as u32
                };
                match bytes.chunks_exact(4).all(is_character) {
                    true => Ok(()),
                    false => Err("a numpy str with an invalid character"),
                }
            }
            ByteCheck::Items(item) => item.check(bytes),
            ByteCheck::Fields(_) if self.size == 0 => Ok(()),
            ByteCheck::Fields(fields) => {
                for item in bytes.chunks_exact(self.size) {
                    for (offset, field) in fields {
                        field.check(&item[*offset..*offset + field.size])?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The dtypes that were built in this decoding, by address. Each dtype is kept alive, so no other object can get its
/// address.
#[derive(Default)]
pub(super) struct KnownDtypes<'py>(HashMap<usize, (Bound<'py, PyAny>, Rc<DtypeDescription>)>);

impl<'py> KnownDtypes<'py> {
    /// Adds a dtype that was built.
    pub fn insert(&mut self, obj: &Bound<'py, PyAny>, description: Rc<DtypeDescription>) -> DataOnlyResult<()> {
        self.0.try_reserve(1).map_err(no_memory)?;
        self.0.insert(obj.as_ptr() as usize, (obj.clone(), description));
        Ok(())
    }

    /// The description of an object, if it is a dtype that was built here.
    pub fn get(&self, obj: &Bound<'py, PyAny>) -> Option<Rc<DtypeDescription>> {
        self.0.get(&(obj.as_ptr() as usize)).map(|(_, description)| description.clone())
    }
}
