//! The sizes that are charged for objects: those of CPython 3.11, with the header for the garbage collector, rounded
//! up. The limit on their sum is in `limits`.

pub const LIST: usize = 72;
pub const LIST_ITEM: usize = 10;
pub const DICT: usize = 80;
/// The table of a dict, which it gets with its first item.
pub const DICT_TABLE: usize = 168;
pub const SET: usize = 232;
/// An entry of a dict or set, with the room into which it grows.
pub const ENTRY: usize = 64;
pub const TUPLE: usize = 64;
pub const TEXT: usize = 64;
/// A small object of the standard library or numpy, with its parts.
pub const OBJECT: usize = 256;
/// The first block of a deque, in addition to [`OBJECT`].
pub const BLOCK: usize = 528;

/// The weight of a str or bytes as a key, in steps. It is hashed once, but compared with every equal key that it meets.
pub fn text_weight(length: usize) -> usize {
    1 + length / 64
}
