//! The estimate of what Python objects take: their sizes in CPython 3.11 with the header for the garbage collector,
//! rounded up, and what is needed to build them.

use crate::php::serialize::{Damage, Why};

/// An `int`.
pub const INT: u64 = 32;
/// A `float`.
pub const FLOAT: u64 = 24;
/// A `list`, and each of its items.
pub const LIST: u64 = 72;
/// See [`LIST`]. Half of it is for the time of building.
pub const ITEM: u64 = 16;
/// A `dict` with its first table.
pub const DICT: u64 = 248;
/// An entry of a `dict`, with the room into which it grows, and its key and value while it is built.
pub const ENTRY: u64 = 80;
/// An object of this package, without what it holds.
pub const OBJECT: u64 = 64;

/// The size of a `bytes` of this length.
pub fn bytes(len: usize) -> u64 {
    40 + len as u64
}

/// The size of a `str` of so many ASCII characters.
pub fn ascii(len: usize) -> u64 {
    56 + len as u64
}

/// The size of the `str` of a text with other characters.
pub fn text(text: &str) -> u64 {
    // Each character takes as many bytes as the widest one.
    let widest = text.bytes().max().unwrap_or(0);
    let width = match widest {
        0..0xc4 => 1,
        0xc4..0xf0 => 2,
        _ => 4,
    };
    // The text in UTF-8, too, once somebody has asked for it.
    80 + text.chars().count() as u64 * width + text.len() as u64
}

/// What may still be taken.
pub struct Memory {
    left: u64,
    limit: u64,
}

impl Memory {
    pub fn new(limit: u64) -> Self {
        Memory { left: limit, limit }
    }

    /// Takes so many bytes for what stands at an offset.
    #[inline(always)]
    pub fn take(&mut self, bytes: u64, offset: usize) -> Result<(), Damage> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.too_much(offset)),
        }
    }

    #[cold]
    fn too_much(&self, offset: usize) -> Damage {
        let why = Why::Limit { what: "bytes of memory", limit: self.limit, argument: "max_memory" };
        Damage { offset, why }
    }
}
