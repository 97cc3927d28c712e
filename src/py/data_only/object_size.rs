//! Sizes charged for CPython 3.11's objects, the collector's header included, rounded up.

pub const LIST: usize = 72;
pub const LIST_ITEM: usize = 10;
pub const DICT: usize = 80;
/// With the first item comes a table.
pub const DICT_TABLE: usize = 168;
pub const SET: usize = 232;
/// Of a dict or set, as it grows.
pub const ENTRY: usize = 64;
pub const TUPLE: usize = 64;
pub const TEXT: usize = 64;
/// A small object of the standard library or numpy, with what it consists of.
pub const OBJECT: usize = 256;
/// And a deque's first block.
pub const BLOCK: usize = 528;

/// The weight of a str or bytes: hashed once, but compared with every equal key it meets.
pub fn compared(length: usize) -> usize {
    1 + length / 64
}
