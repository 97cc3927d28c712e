//! The flags in the tag of a slot, which is the low byte of the slot's third word (bytes 16 to 24).
//!
//! All fields of a slot are described in "Slot, 32 bytes" in `docs/format.md`.

/// Set in the tag if the index is text.
pub const TEXT: u64 = 1 << 3;
/// Set in the tag if the record begins with an expiry.
pub const EXPIRES: u64 = 1 << 4;
/// Set in the tag if the record holds out-of-band buffers.
pub const BUFFERS: u64 = 1 << 5;
/// Set in the tag if the slot belongs to a name (of a lock), not to the index of a variable.
pub const LOCK: u64 = 1 << 6;
/// Set in the tag of a variable if its bytes are changed where they lie. Then [`BUFFERS`] is set, too.
pub const IN_PLACE: u64 = 1 << 7;
/// The whole word at byte 16 of a tombstone that was left by the release of a lock with an integer name. The name and
/// the word at byte 24 keep their values, so the lock can be taken again by a store to this word alone.
pub const RELEASED_LOCK: u64 = 1 | LOCK;
