//! What the decoder knows of the numpy dtypes that it has made, and which bytes may stand where items of one are.

use std::collections::HashMap;
use std::rc::Rc;

use pyo3::prelude::*;

use super::error::{DataOnlyResult, no_memory};

/// What is known of a dtype.
pub(super) struct DtypeDescription {
    pub size: usize,
    pub depth: u32,
    pub parts: u32,
    pub check: ByteCheck,
    /// Bytes to look at in one item.
    pub looks: u64,
    pub subarray: bool,
    /// A scalar of it can be changed, so not hashed.
    pub void: bool,
    /// Long doubles compare with ints by way of text.
    pub slow: bool,
}

/// Where numpy, or those who use its memory, rely on what the bytes are.
pub(super) enum ByteCheck {
    Any,
    Bool,
    /// UCS-4 in the other byte order, or not.
    Text {
        swapped: bool,
    },
    Items(Rc<DtypeDescription>),
    Fields(Vec<(usize, Rc<DtypeDescription>)>),
}

impl DtypeDescription {
    pub fn scalar(size: usize, check: ByteCheck, void: bool, slow: bool) -> Self {
        let looks = if matches!(check, ByteCheck::Any) { 0 } else { size as u64 };
        DtypeDescription { size, depth: 0, parts: 1, check, looks, subarray: false, void, slow }
    }

    /// Of a mask, which has a bool for each field.
    pub fn of_bools(size: usize) -> Self {
        DtypeDescription { parts: 1, ..DtypeDescription::scalar(size, ByteCheck::Bool, false, false) }
    }

    /// Fails where a run of items has a bool that is neither 0 nor 1, or a character that is none.
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
                    false => Err("a numpy str with a character that is none"),
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

/// The dtypes that were made in this decoding, by address. The object is kept, so no other can have it.
#[derive(Default)]
pub(super) struct MadeDtypes<'py>(HashMap<usize, (Bound<'py, PyAny>, Rc<DtypeDescription>)>);

impl<'py> MadeDtypes<'py> {
    pub fn insert(&mut self, obj: &Bound<'py, PyAny>, description: Rc<DtypeDescription>) -> DataOnlyResult<()> {
        self.0.try_reserve(1).map_err(no_memory)?;
        self.0.insert(obj.as_ptr() as usize, (obj.clone(), description));
        Ok(())
    }

    /// Of the dtype that an object is, if it was made here.
    pub fn get(&self, obj: &Bound<'py, PyAny>) -> Option<Rc<DtypeDescription>> {
        self.0.get(&(obj.as_ptr() as usize)).map(|(_, description)| description.clone())
    }
}
