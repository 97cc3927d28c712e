//! The flags in the tag of a slot, which is the low byte of the slot's third word (bytes 16 to 24).
//!
//! All fields of a slot are described in "Slot, 32 bytes" in `docs/format.md`.

/// Set in the tag if the index is text.
pub const TEXT: u64 = 1 << 3;
/// Set in the tag if the record begins with an expiry.
pub const EXPIRES: u64 = 1 << 4;
/// Set in the tag if the record holds out-of-band buffers.
pub const BUFFERS: u64 = 1 << 5;
/// Set in the tag if the slot belongs to a name (of a lock, a queue, or a queue's item), not to the index of a variable.
pub const LOCK: u64 = 1 << 6;
/// Set in the tag of a variable if its bytes are changed where they lie. Then [`BUFFERS`] is set, too.
pub const IN_PLACE: u64 = 1 << 7;
/// Set in the tag of a name if it is a queue's, or that of a queue's item. It is the same bit as [`IN_PLACE`].
pub const QUEUE: u64 = 1 << 7;
/// Set in the tag of a queue if the second head of its record is the one in force. It is the same bit as [`BUFFERS`].
pub const SECOND_HEAD: u64 = BUFFERS;
/// Set in the tag of a queue's item: its record begins with the instant at which it was put. It is the same bit as
/// [`EXPIRES`].
pub const ITEM: u64 = EXPIRES;
/// The whole word at byte 16 of a tombstone that was left by the release of a lock with an integer name. The name and
/// the word at byte 24 keep their values, so the lock can be taken again by a store to this word alone.
pub const RELEASED_LOCK: u64 = 1 | LOCK;

/// What a name is the name of. It decides on the table that has its slot, and on bits of the slot's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameOf {
    /// A variable: the name is its index.
    Variable,
    /// A named lock.
    Lock,
    /// A queue.
    Queue,
    /// An item of a queue.
    Item,
}

impl NameOf {
    /// Returns the bits of a slot's tag that say it.
    #[inline(always)]
    pub fn flags(self) -> u64 {
        match self {
            NameOf::Variable => 0,
            NameOf::Lock => LOCK,
            NameOf::Queue => LOCK | QUEUE,
            NameOf::Item => LOCK | QUEUE | ITEM,
        }
    }

    /// Returns what the tag of a slot that holds something says.
    pub fn of_tag(tag: u64) -> Self {
        match tag & (LOCK | QUEUE | ITEM) {
            tag if tag & LOCK == 0 => NameOf::Variable,
            tag if tag & QUEUE == 0 => NameOf::Lock,
            tag if tag & ITEM == 0 => NameOf::Queue,
            _ => NameOf::Item,
        }
    }
}
