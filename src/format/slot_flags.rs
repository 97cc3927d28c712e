//! The flags in the second word of a slot, its tag.

/// In the tag: the index is text.
pub const TEXT: u64 = 1 << 3;
/// In the tag: the record begins with an expiry.
pub const EXPIRES: u64 = 1 << 4;
/// In the tag: the record holds out-of-band buffers.
pub const BUFFERS: u64 = 1 << 5;
/// In the tag: a name, of a lock, not the index of a variable.
pub const LOCK: u64 = 1 << 6;
/// The whole word of the tag, in a tombstone that a lock of an integer name left: all else in it is as it was.
pub const LET_GO: u64 = 1 | LOCK;
