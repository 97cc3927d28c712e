//! The numbers of the format, as `docs/format.md` states them: sizes, limits and the offsets of the fixed part.

use crate::format::span_entry::GRANULE;

/// The first bytes of every segment: `\x89SHMVAR\n`.
pub const MAGIC: [u8; 8] = *b"\x89SHMVAR\n";
/// The version of the format.
pub const FORMAT: u32 = 4;
/// A number whose bytes stand in another order on a machine with another byte order.
pub const BYTE_ORDER: u32 = 0x0102_0304;
/// Bytes of a page, as the format counts pages. Used where the kernel is asked for memory.
pub const PAGE: u64 = GRANULE;
/// Granules of a zone.
pub const ZONE: u64 = 4_096;
/// Bytes of a zone's metadata.
pub const ZONE_META: u64 = 45_056;
/// Number of participants that a segment can have. Participant numbers are below this.
pub const PARTICIPANTS: u32 = 1_024;
/// Number of reader words that each participant has.
pub const READERS: usize = 64;
/// Number of equal parts of a pin bitmap. Each part is made present when it is first needed.
pub const PIN_UNITS: u64 = 128;
/// Bytes of the table of stamps for each granule of the arena, at most.
pub const STAMPS_PER_GRANULE: u64 = 16;
/// Bytes of the table of stamps, at most: every segment has the addresses of it, whether it evicts or not.
pub const STAMPS_MAX: u64 = 64 << 20;
/// Binary logarithm of the least number of stamps: one page.
pub const STAMPS_MIN_BITS: u32 = 12;
/// Largest pickle that is stored inside a slot, in bytes.
pub const INLINE_MAX: usize = 14;
/// Bytes of a queue's record behind the name and before its two lists of entries.
pub const QUEUE_HEAD: u64 = 72;
/// Bytes of an entry of a queue's record.
pub const QUEUE_ENTRY: u64 = 16;
/// The most entries that a queue's record has.
pub const QUEUE_ENTRIES: u64 = 640;
/// Characters of an item's key.
pub const ITEM_KEY: usize = 16;
/// Most span edits that one change can have.
pub const SPAN_EDITS: usize = 8;
/// Most block edits that one change can have.
pub const BLOCK_EDITS: usize = 2;
/// Most slots that one change can have, where it is a set: several slots that change at one instant. (A model has
/// fewer, since each of their words costs time there.)
pub const SET_SLOTS: usize = if cfg!(loom) { 2 } else { 16 };
/// Most block edits of a set: for each slot, the block that becomes used and the one that becomes free.
pub const SET_BLOCKS: usize = 2 * SET_SLOTS;
/// Versions stay below this, because a slot's word has 52 bits for the version.
pub const VERSION_MAX: u64 = 1 << 52;
/// Set in the lock word while a process waits for the writer lock.
pub const WAITERS: u32 = 1 << 31;

/// Bytes of the identity. It is not a struct: its bytes are parsed in [`crate::format::identity`].
pub const IDENTITY_LEN: usize = 248;

/// File offsets of the fixed part.
pub mod at {
    /// The identity.
    pub const IDENTITY: u64 = 0;
    /// The [`State`](crate::format::layout::State).
    pub const STATE: u64 = 4_096;
    /// The [`RemovalRing`](crate::format::layout::RemovalRing).
    pub const REMOVALS: u64 = 6_080;
    /// The [`IntentArea`](crate::format::layout::IntentArea).
    pub const INTENT: u64 = 8_192;
    /// The [`WakeWordPair`](crate::format::layout::WakeWordPair)s.
    pub const WAKE: u64 = 12_288;
    /// The [`Participant`](crate::format::layout::Participant) records.
    pub const PARTICIPANTS: u64 = 16_384;
    /// The [`Readers`](crate::format::layout::Readers), which are the reader words of all participants.
    pub const READERS: u64 = 81_920;
    /// The summary: one [`ZoneGroup`](crate::format::layout::ZoneGroup) for each 64 zones.
    pub const SUMMARY: u64 = 606_208;
}

/// Returns the number of granules that a span needs to hold `bytes` bytes. It is at least 1.
pub fn granules_of(bytes: u64) -> u64 {
    bytes.div_ceil(GRANULE).max(1)
}
