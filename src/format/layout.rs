//! The bytes of a segment, as `docs/format.md` states them. All structs here live in shared memory.
//!
//! Every field is an atomic: another process may store to it at any time.

use crate::atomic::{AtomicU32, AtomicU64};
#[cfg(not(loom))]
use crate::format::root::SLOT;
use crate::format::size_class::CLASSES;
#[cfg(not(loom))]
use crate::format::size_class::SLAB_HEAD;
use crate::format::span_entry::GRANULE;

/// `\x89SHMVAR\n`
pub const MAGIC: [u8; 8] = *b"\x89SHMVAR\n";
/// The version of the format.
pub const FORMAT: u32 = 3;
/// Reads differently where bytes are in another order.
pub const BYTE_ORDER: u32 = 0x0102_0304;
/// The same, where the kernel is asked for memory.
pub const PAGE: u64 = GRANULE;
/// Granules of a zone.
pub const ZONE: u64 = 4_096;
/// Bytes of a zone's metadata.
pub const ZONE_META: u64 = 45_056;
/// Participant numbers are below this.
pub const PARTICIPANTS: u32 = 1_024;
/// Reader words of a participant.
pub const READERS: usize = 64;
/// Equal parts of a pin bitmap that are made present one by one.
pub const PIN_UNITS: u64 = 128;
/// Most bytes of a pickle inside a slot.
pub const INLINE_MAX: usize = 14;
/// Most span edits of one change.
pub const SPAN_EDITS: usize = 8;
/// Most block edits of one change.
pub const BLOCK_EDITS: usize = 2;
/// Versions stay below this: a slot's word has room for no more.
pub const VERSION_MAX: u64 = 1 << 52;
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
    /// Reader words.
    pub const READERS: u64 = 81_920;
    /// Summary words.
    pub const SUMMARY: u64 = 606_208;
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

/// The identity as bytes and its parsing are in [`crate::format::identity`]; its length is here.
pub const IDENTITY_LEN: usize = 248;

/// Shared, at 4,096: what every change touches. Three lines that are written at different rates.
#[repr(C, align(64))]
pub struct State {
    /// 0, or the owner's number + 1, and [`WAITERS`].
    pub lock: AtomicU32,
    _lock_line: [AtomicU32; 15],
    /// The table of the variables: see [`Root`].
    pub root: AtomicU64,
    /// The table of the names.
    pub names: AtomicU64,
    /// Zones in use.
    pub zones: AtomicU64,
    /// Bytes that may be charged.
    pub limit: AtomicU64,
    /// No participant at or above this number was ever used.
    pub participants_top: AtomicU32,
    /// 1 once unlinked.
    pub gone: AtomicU32,
    /// 0: nothing is evicted.
    pub evict: AtomicU32,
    _read_word: AtomicU32,
    _read_line: [AtomicU64; 2],
    /// Last version given.
    pub version: AtomicU64,
    /// Sum of charges.
    pub used: AtomicU64,
    /// Variables.
    pub count: AtomicU64,
    /// Variables that expire.
    pub expiring: AtomicU64,
    /// 0, or a table whose variables were all removed.
    pub doomed: AtomicU64,
    /// Where taking it apart goes on.
    pub doomed_at: AtomicU64,
    /// Variables that were evicted.
    pub evicted: AtomicU64,
    /// Grows when somebody begins to give sticky granules back.
    pub trims: AtomicU64,
    /// Odd while a batch is applied.
    pub many: AtomicU64,
    /// Which batch is applied: see [`crate::sync::intent::Progress`].
    pub batch: AtomicU64,
    /// How much of it is done.
    pub cursor: AtomicU64,
    /// Slept on by watchers.
    pub watch: AtomicU32,
    _watch: AtomicU32,
    /// Granules of spans that are retired.
    pub retired: AtomicU64,
    _many_line: [AtomicU64; 3],
}

/// Shared, 256 of them at 12,288: who waits for a change, or for a lock.
#[repr(C, align(16))]
pub struct WakeWordPair {
    /// Variables that changed.
    pub changed: WakeWord,
    /// Locks that were let go.
    pub released: WakeWord,
}

/// Shared: what waiters sleep on.
#[repr(C)]
pub struct WakeWord {
    /// Grows with each ring.
    pub count: AtomicU32,
    /// [`SLEEPER`] (of a lock: [`sleeper_of`]), [`WATCHER`].
    pub waits: AtomicU32,
}

/// Of [`WakeWord::waits`]: somebody sleeps on the word itself.
pub const SLEEPER: u32 = 1;
/// Of [`WakeWord::waits`]: somebody watches it through [`State::watch`].
pub const WATCHER: u32 = 2;

/// Of [`WakeWord::waits`] and for the futex: somebody sleeps on a lock of this hash, or of one in thirty others of this wake word.
pub fn sleeper_of(hash: u64) -> u32 {
    4 << ((hash >> 32) % 30)
}

/// Wake words.
pub const WAKE_WORDS: u64 = 256;

/// Shared: a variable's place in the table.
#[repr(C, align(32))]
pub struct Slot {
    /// `moves << 53 | version << 1 | busy`.
    pub word: AtomicU64,
    /// Index, tag and contents.
    pub rest: [AtomicU64; 3],
}

/// Shared: what a leaf begins with, as long as a slot.
#[repr(C, align(32))]
pub struct LeafHead {
    /// Slots that are not empty `<< 32 |` those of them that hold something.
    pub counts: AtomicU64,
    _rest: [AtomicU64; 3],
}

/// Shared: one span edit of the intent.
#[repr(C)]
pub struct SpanEditArea {
    /// Head granule.
    pub granule: AtomicU64,
    /// SpanEntry before.
    pub before: AtomicU64,
    /// SpanEntry after.
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
    /// File offset of the slot's leaf, 0 for none.
    pub leaf: AtomicU64,
    /// Its new counts.
    pub counts: AtomicU64,
    /// New root.
    pub root: AtomicU64,
    /// New root of the names.
    pub names: AtomicU64,
    /// New number of zones.
    pub zones: AtomicU64,
    /// New last version.
    pub version: AtomicU64,
    /// New sum of charges.
    pub used: AtomicU64,
    /// New number of variables.
    pub count: AtomicU64,
    /// New number of variables that expire.
    pub expiring: AtomicU64,
    /// Block edits `<< 32 |` span edits; bits 61 to 63: which of the next groups count.
    pub lengths: AtomicU64,
    /// `granule << 32 | set << 31 | block`.
    pub blocks: [AtomicU64; BLOCK_EDITS],
    /// New `many`.
    pub many: AtomicU64,
    /// New batch.
    pub batch: AtomicU64,
    /// New cursor.
    pub cursor: AtomicU64,
    /// New doomed table.
    pub doomed: AtomicU64,
    /// And how far it is taken apart.
    pub doomed_at: AtomicU64,
    /// File offset of the first directory word that changes.
    pub words_at: AtomicU64,
    /// How many do.
    pub words: AtomicU64,
    /// What the first half of them becomes, and the second.
    pub word: [AtomicU64; 2],
    _pad: [AtomicU64; 4],
    /// Span map entries that change.
    pub spans: [SpanEditArea; SPAN_EDITS],
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

/// Shared: who of a participant's threads is inside of a section.
#[repr(C, align(64))]
pub struct Readers {
    /// Odd: inside.
    pub words: [AtomicU64; READERS],
}

/// Shared: a slab's bitmap, at its start.
#[repr(C, align(64))]
pub struct SlabHead {
    /// Bit b: block b holds a record.
    pub used: [AtomicU64; 8],
}

/// Shared: summary of 64 zones.
#[repr(C, align(64))]
pub struct Group {
    /// One word per kind.
    pub kinds: [AtomicU64; 128],
}

/// Of [`Group::kinds`], behind the classes: the longest run of free granules is at least `2^(kind - this)`.
pub const KIND_RUN: usize = 96;
/// How many kinds of runs there are: up to a whole zone.
pub const RUN_KINDS: usize = 13;

/// Words of a bitmap of a zone's granules.
pub const ZONE_WORDS: usize = ZONE as usize / 64;

/// Shared: metadata of a zone.
#[repr(C, align(64))]
pub struct ZoneMeta {
    /// Span map.
    pub entries: [AtomicU64; ZONE as usize],
    /// Granules that are free.
    pub free: [AtomicU64; ZONE_WORDS],
    /// Granules whose page is known to be present.
    pub present: [AtomicU64; ZONE_WORDS],
    /// Granules that readers may still look into, whatever they are now.
    pub sticky: [AtomicU64; ZONE_WORDS],
    /// Sticky granules that were freed since [`State::trims`] last grew.
    pub fresh: [AtomicU64; ZONE_WORDS],
    /// Per class: slabs with a free block, one bit for four granules.
    pub rooms: [[AtomicU64; 16]; CLASSES.len()],
}

#[cfg(loom)]
impl IntentArea {
    /// All zeros: for the models.
    pub fn zeroed() -> Self {
        let zero = || AtomicU64::new(0);
        IntentArea {
            valid: zero(),
            serial: zero(),
            slot: zero(),
            content: std::array::from_fn(|_| zero()),
            leaf: zero(),
            counts: zero(),
            root: zero(),
            names: zero(),
            zones: zero(),
            version: zero(),
            used: zero(),
            count: zero(),
            expiring: zero(),
            lengths: zero(),
            blocks: std::array::from_fn(|_| zero()),
            many: zero(),
            batch: zero(),
            cursor: zero(),
            doomed: zero(),
            doomed_at: zero(),
            words_at: zero(),
            words: zero(),
            word: std::array::from_fn(|_| zero()),
            _pad: std::array::from_fn(|_| zero()),
            spans: std::array::from_fn(|_| SpanEditArea { granule: zero(), before: zero(), after: zero() }),
        }
    }
}

macro_rules! shared {
    ($($name:ty),*) => {$(
        // SAFETY: repr(C) and made of atomics only, as the compiler sees above.
        unsafe impl Shared for $name {}
    )*};
}
shared!(
    State,
    WakeWordPair,
    WakeWord,
    Slot,
    LeafHead,
    SpanEditArea,
    IntentArea,
    Participant,
    Readers,
    SlabHead,
    Group,
    ZoneMeta
);

#[cfg(not(loom))]
const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<State>() == 256);
    assert!(offset_of!(State, root) == 64 && offset_of!(State, zones) == 80 && offset_of!(State, gone) == 100);
    assert!(offset_of!(State, version) == 128 && offset_of!(State, doomed) == 160 && offset_of!(State, many) == 192);
    assert!(offset_of!(State, cursor) == 208 && offset_of!(State, watch) == 216);
    assert!(size_of::<WakeWordPair>() == 16 && at::WAKE + 16 * WAKE_WORDS == at::PARTICIPANTS);
    assert!(size_of::<Slot>() == SLOT as usize && size_of::<LeafHead>() == SLOT as usize);
    assert!(offset_of!(IntentArea, leaf) == 56 && offset_of!(IntentArea, lengths) == 128);
    assert!(offset_of!(IntentArea, many) == 152 && offset_of!(IntentArea, words_at) == 192);
    assert!(offset_of!(IntentArea, spans) == 256 && size_of::<IntentArea>() <= GRANULE as usize);
    assert!(size_of::<Participant>() == 64 && offset_of!(Participant, locks) == 48 && size_of::<Readers>() == 512);
    assert!(at::PARTICIPANTS + PARTICIPANTS as u64 * 64 == at::READERS);
    assert!(at::READERS + PARTICIPANTS as u64 * 512 == at::SUMMARY);
    assert!(size_of::<Group>() == 1_024 && size_of::<SlabHead>() == SLAB_HEAD as usize);
    assert!(offset_of!(ZoneMeta, free) == 32_768 && offset_of!(ZoneMeta, rooms) == 34_816);
    assert!(size_of::<ZoneMeta>() <= ZONE_META as usize && ZONE_META.is_multiple_of(GRANULE));
};

/// Granules of a span that holds so many bytes.
pub fn granules_of(bytes: u64) -> u64 {
    bytes.div_ceil(GRANULE).max(1)
}
