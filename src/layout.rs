//! The bytes of a segment, as `docs/format.md` states them. All structs here live in shared memory.
//!
//! Every field is an atomic: another process may store to it at any time.

pub use crate::entry::{Entry, SpanState};
pub use crate::geometry::{Geometry, fingerprint};
use crate::sync::{AtomicU32, AtomicU64};

/// `\x89SHMVAR\n`
pub const MAGIC: [u8; 8] = *b"\x89SHMVAR\n";
/// The version of the format.
pub const FORMAT: u32 = 1;
/// Reads differently where bytes are in another order.
pub const BYTE_ORDER: u32 = 0x0102_0304;
/// Bytes of a granule.
pub const GRANULE: u64 = 16_384;
/// Granules of a zone.
pub const ZONE: u64 = 1_024;
/// Bytes of a page, as the format counts them.
pub const PAGE: u64 = 4_096;
/// log2 of a zone's granules: a span of this order is a whole zone.
pub const ZONE_ORDER: u32 = 10;
/// Highest order a span can have: 2^22 zones' worth is never reached.
pub const ORDER_MAX: u32 = 31;
/// Participant numbers are below this.
pub const PARTICIPANTS: u32 = 1_024;
/// Equal parts of a pin bitmap that are made present one by one.
pub const PIN_UNITS: u64 = 128;
/// Fewest slots of a table.
pub const SLOTS_MIN_LOG2: u32 = 9;
/// Most bytes of a pickle inside a slot.
pub const INLINE_MAX: usize = 14;
/// Bytes of a slot, and what every variable is charged for it.
pub const SLOT: u64 = 32;
/// Bytes of a slab's bitmap.
pub const SLAB_HEAD: u64 = 64;
/// Block sizes of slabs.
pub const CLASSES: [u16; 32] = [
    32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536,
    1808, 2040, 2328, 2720, 3264, 4080, 5440, 8160, 16320,
];
/// Largest record of a slab; a larger one takes a span.
pub const RECORD_MAX: u64 = 16_320;
/// Most span edits of one change.
pub const SPAN_EDITS: usize = 64;
/// Most block edits of one change.
pub const BLOCK_EDITS: usize = 2;
/// Set in the lock word while somebody waits.
pub const WAITERS: u32 = 1 << 31;

/// Offsets of the fixed part.
pub mod at {
    /// Identity.
    pub const IDENTITY: u64 = 0;
    /// [`super::State`].
    pub const STATE: u64 = 4_096;
    /// [`super::IntentArea`].
    pub const INTENT: u64 = 8_192;
    /// Wake words.
    pub const WAKE: u64 = 12_288;
    /// [`super::Participant`] records.
    pub const PARTICIPANTS: u64 = 16_384;
    /// Summary words.
    pub const SUMMARY: u64 = 81_920;
}

/// A type that may be looked at in shared memory: only atomics inside, any bytes are a value of it.
///
/// # Safety
/// `repr(C)`, made of `AtomicU32`, `AtomicU64` and arrays of them only.
pub unsafe trait Shared {}

// SAFETY: an atomic integer has no invalid values.
unsafe impl Shared for AtomicU32 {}
// SAFETY: as above.
unsafe impl Shared for AtomicU64 {}

/// The identity as bytes and its parsing are in [`crate::identity`]; its length is here.
pub const IDENTITY_LEN: usize = 248;

/// Shared, at 4,096: what every change touches. Three lines that are written at different rates.
#[repr(C, align(64))]
pub struct State {
    /// 0, or the owner's number + 1, and [`WAITERS`].
    pub lock: AtomicU32,
    _lock_line: [AtomicU32; 15],
    /// The table: see [`Root`].
    pub root: AtomicU64,
    /// Zones in use.
    pub zones: AtomicU64,
    /// Bytes that may be charged.
    pub limit: AtomicU64,
    /// No participant at or above this number was ever used.
    pub participants_top: AtomicU32,
    /// 1 once unlinked.
    pub gone: AtomicU32,
    _read_line: [AtomicU64; 4],
    /// Last version given.
    pub version: AtomicU64,
    /// Sum of charges.
    pub used: AtomicU64,
    /// Variables.
    pub count: AtomicU64,
    /// Slots that are not empty.
    pub fill: AtomicU64,
    /// Variables that expire.
    pub expiring: AtomicU64,
    _count_line: [AtomicU64; 3],
    /// Odd while a batch is applied.
    pub many: AtomicU64,
    /// Which batch is applied: see [`crate::intent::Progress`].
    pub batch: AtomicU64,
    /// How much of it is done.
    pub cursor: AtomicU64,
    /// Slept on by watchers.
    pub watch: AtomicU32,
    _watch: AtomicU32,
    _many_line: [AtomicU64; 4],
}

/// Shared, 256 of them at 12,288: who waits for a change, or for a lock.
#[repr(C, align(16))]
pub struct WakeWord {
    /// Variables that changed.
    pub changed: Bell,
    /// Locks that were let go.
    pub released: Bell,
}

/// Shared: what waiters sleep on.
#[repr(C)]
pub struct Bell {
    /// Grows with each ring.
    pub rings: AtomicU32,
    /// [`SLEEPER`] (of a lock: [`sleeper_of`]), [`WATCHER`].
    pub waits: AtomicU32,
}

/// Of [`Bell::waits`]: somebody sleeps on the bell itself.
pub const SLEEPER: u32 = 1;
/// Of [`Bell::waits`]: somebody watches it through [`State::watch`].
pub const WATCHER: u32 = 2;

/// Of [`Bell::waits`] and for the futex: somebody sleeps on a lock of this hash, or of one in thirty others of this wake word.
pub fn sleeper_of(hash: u64) -> u32 {
    4 << ((hash >> 32) % 30)
}

/// Wake words.
pub const WAKE_WORDS: u64 = 256;

/// Shared: a variable's place in the table.
#[repr(C, align(32))]
pub struct Slot {
    /// `version << 1 | busy`.
    pub word: AtomicU64,
    /// Index, tag and contents.
    pub rest: [AtomicU64; 3],
}

/// Shared: one span edit of the intent.
#[repr(C)]
pub struct SpanEditArea {
    /// Head granule.
    pub granule: AtomicU64,
    /// Entry before.
    pub before: AtomicU64,
    /// Entry after.
    pub after: AtomicU64,
}

/// Shared, at 8,192: the change under way.
#[repr(C)]
pub struct IntentArea {
    /// 0, or the serial of the change.
    pub valid: AtomicU64,
    /// Serial of the last change described.
    pub serial: AtomicU64,
    /// File offset of the slot, 0 for none.
    pub slot: AtomicU64,
    /// The slot's new words.
    pub content: [AtomicU64; 4],
    /// New root.
    pub root: AtomicU64,
    /// New number of zones.
    pub zones: AtomicU64,
    /// New last version.
    pub version: AtomicU64,
    /// New sum of charges.
    pub used: AtomicU64,
    /// New number of variables.
    pub count: AtomicU64,
    /// New number of filled slots.
    pub fill: AtomicU64,
    /// Block edits `<< 32 |` span edits; bit 63: the batch moves on.
    pub lengths: AtomicU64,
    /// `granule << 32 | set << 31 | block`.
    pub blocks: [AtomicU64; BLOCK_EDITS],
    /// Span map entries that change.
    pub spans: [SpanEditArea; SPAN_EDITS],
    /// New number of variables that expire.
    pub expiring: AtomicU64,
    /// Where `lengths` says so: new `many`.
    pub many: AtomicU64,
    /// New batch.
    pub batch: AtomicU64,
    /// New cursor.
    pub cursor: AtomicU64,
}

/// Shared: a process attached for writing.
#[repr(C, align(64))]
pub struct Participant {
    /// 0 free, 1 in use.
    pub state: AtomicU32,
    /// For people.
    pub pid: AtomicU32,
    /// Claims of this number so far.
    pub generation: AtomicU64,
    /// Nanoseconds since 1970.
    pub attached_at: AtomicU64,
    /// 1 once it has taken a span for itself.
    pub spans: AtomicU64,
    /// Parts of its pin bitmap that are present.
    pub pin_units: [AtomicU64; 2],
    /// 1 once it has taken or asked for a lock.
    pub locks: AtomicU64,
    _pad: AtomicU64,
}

/// Shared: a slab's bitmap, at the start of its granule.
#[repr(C, align(64))]
pub struct SlabHead {
    /// Bit b: block b holds a record.
    pub used: [AtomicU64; 8],
}

/// Shared: summary of 64 zones.
#[repr(C, align(64))]
pub struct Group {
    /// One word per kind.
    pub kinds: [AtomicU64; 64],
}

/// Shared: metadata of a zone.
#[repr(C, align(64))]
pub struct ZoneMeta {
    /// Span map.
    pub entries: [AtomicU64; ZONE as usize],
    /// Per class: slabs with a free block.
    pub classes: [[AtomicU64; 16]; 32],
    /// Free spans of order 0..9, one after the other: see [`free_bits`].
    pub free: [AtomicU64; FREE_WORDS],
}

/// Words of the free-span bitmaps of a zone.
pub const FREE_WORDS: usize = 36;

/// First word and number of words of the bitmap of free spans of `order` (below 10) in a zone.
#[inline]
pub const fn free_bits(order: u32) -> (usize, usize) {
    match order {
        0 => (0, 16),
        1 => (16, 8),
        2 => (24, 4),
        3 => (28, 2),
        n => (26 + n as usize, 1),
    }
}

macro_rules! shared {
    ($($name:ty),*) => {$(
        // SAFETY: repr(C) and made of atomics only, as the compiler sees above.
        unsafe impl Shared for $name {}
    )*};
}
shared!(State, WakeWord, Bell, Slot, SpanEditArea, IntentArea, Participant, SlabHead, Group, ZoneMeta);

#[cfg(not(loom))]
const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<State>() == 256);
    assert!(offset_of!(State, root) == 64 && offset_of!(State, gone) == 92);
    assert!(offset_of!(State, version) == 128 && offset_of!(State, many) == 192);
    assert!(offset_of!(State, expiring) == 160 && offset_of!(State, cursor) == 208 && offset_of!(State, watch) == 216);
    assert!(size_of::<WakeWord>() == 16 && at::WAKE + 16 * WAKE_WORDS == at::PARTICIPANTS);
    assert!(offset_of!(IntentArea, expiring) == 1_664 && offset_of!(Participant, locks) == 48);
    assert!(size_of::<Slot>() == SLOT as usize);
    assert!(offset_of!(IntentArea, lengths) == 104 && offset_of!(IntentArea, spans) == 128);
    assert!(size_of::<IntentArea>() <= PAGE as usize);
    assert!(size_of::<Participant>() == 64);
    assert!(at::PARTICIPANTS + PARTICIPANTS as u64 * 64 == at::SUMMARY);
    assert!(size_of::<Group>() == 512 && size_of::<SlabHead>() == SLAB_HEAD as usize);
    assert!(offset_of!(ZoneMeta, classes) == 8_192 && offset_of!(ZoneMeta, free) == 12_288);
    assert!(size_of::<ZoneMeta>() <= GRANULE as usize);
};

/// Which table is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root(pub u64);

impl Root {
    /// Packs.
    pub const fn new(granule: u32, log2: u32, generation: u32) -> Self {
        Root((granule as u64) << 32 | (log2 as u64 & 0xff) << 24 | (generation as u64 & 0xff_ffff))
    }
    /// First granule of the table.
    #[inline(always)]
    pub const fn granule(self) -> u64 {
        self.0 >> 32
    }
    /// log2 of the number of slots.
    #[inline(always)]
    pub const fn log2(self) -> u32 {
        (self.0 >> 24) as u32 & 0xff
    }
    /// Changes with every new table.
    pub const fn generation(self) -> u32 {
        self.0 as u32 & 0xff_ffff
    }
}

/// Blocks of a slab of this class.
#[inline]
pub fn blocks_of(class: usize) -> u64 {
    u64::from(BLOCKS[class])
}

/// Looked up, not divided: it is asked several times in every change.
const BLOCKS: [u16; CLASSES.len()] = {
    let mut blocks = [0; CLASSES.len()];
    let mut class = 0;
    while class < CLASSES.len() {
        blocks[class] = ((GRANULE - SLAB_HEAD) / CLASSES[class] as u64) as u16;
        class += 1;
    }
    blocks
};

/// Class by eighths of the length, for short records.
const CLASS_OF_WORDS: [u8; 65] = {
    let mut table = [0; 65];
    let mut words = 0;
    while words < table.len() {
        let mut class = 0;
        while (CLASSES[class] as usize) < words * 8 {
            class += 1;
        }
        table[words] = class as u8;
        words += 1;
    }
    table
};

/// The smallest class that holds `len` bytes (at most [`RECORD_MAX`]).
#[inline]
pub fn class_of(len: u64) -> usize {
    if len <= 512 {
        return CLASS_OF_WORDS[len.div_ceil(8) as usize] as usize;
    }
    CLASSES.partition_point(|&size| u64::from(size) < len)
}

/// The smallest order whose span holds `bytes`.
pub fn order_of(bytes: u64) -> u32 {
    bytes.div_ceil(GRANULE).max(1).next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_grow_and_fit_a_slab() {
        assert!(CLASSES.windows(2).all(|w| w[0] < w[1]) && CLASSES.iter().all(|c| c % 8 == 0));
        for (class, &size) in CLASSES.iter().enumerate() {
            assert_eq!(class_of(u64::from(size)), class);
            assert!(blocks_of(class) >= 1 && blocks_of(class) <= 512);
            assert!(SLAB_HEAD + blocks_of(class) * u64::from(size) <= GRANULE);
        }
        for len in 0..=RECORD_MAX {
            assert_eq!(class_of(len), CLASSES.partition_point(|&size| u64::from(size) < len), "{len}");
        }
    }

    #[test]
    fn free_bitmaps_of_a_zone_do_not_overlap() {
        let mut next = 0;
        for order in 0..ZONE_ORDER {
            let (first, words) = free_bits(order);
            assert_eq!(first, next);
            assert_eq!(words as u64, (ZONE >> order).div_ceil(64));
            next += words;
        }
        assert_eq!(next, FREE_WORDS);
    }
}
