//! The structs in shared memory, and the sizes and offsets of the fixed part, as `docs/format.md` states them.
//!
//! Every field is an atomic, because another process may store to it at any time. The compiler checks sizes and offsets
//! at the end of this file. Structs that are private to a process stand elsewhere.

use crate::atomic::{AtomicU8, AtomicU32, AtomicU64};
#[cfg(not(loom))]
use crate::format::root::SLOT;
use crate::format::size_class::CLASSES;
#[cfg(not(loom))]
use crate::format::size_class::SLAB_HEAD;
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

/// File offsets of the fixed part.
pub mod at {
    /// The identity.
    pub const IDENTITY: u64 = 0;
    /// The [`super::State`].
    pub const STATE: u64 = 4_096;
    /// The [`super::RemovalRing`].
    pub const REMOVALS: u64 = 6_080;
    /// The [`super::IntentArea`].
    pub const INTENT: u64 = 8_192;
    /// The [`super::WakeWordPair`]s.
    pub const WAKE: u64 = 12_288;
    /// The [`super::Participant`] records.
    pub const PARTICIPANTS: u64 = 16_384;
    /// The [`super::Readers`], which are the reader words of all participants.
    pub const READERS: u64 = 81_920;
    /// The summary: one [`super::ZoneGroup`] for each 64 zones.
    pub const SUMMARY: u64 = 606_208;
}

/// A type that may be borrowed in shared memory: it consists of atomics only, and any bytes are a valid value of it.
///
/// # Safety
/// The type must be `repr(C)` and made of `AtomicU8`, `AtomicU32`, `AtomicU64` and arrays of them only.
pub unsafe trait Shared {}

// SAFETY: an atomic integer has no invalid values.
unsafe impl Shared for AtomicU32 {}
// SAFETY: an atomic integer has no invalid values.
unsafe impl Shared for AtomicU64 {}

/// Bytes of the identity. It is not a struct: its bytes are parsed in [`crate::format::identity`].
pub const IDENTITY_LEN: usize = 248;

/// Shared, at 4,096: the fields that every change touches. They stand on four lines of 64 bytes that are written at
/// different rates; that is why the struct has so many fields, and why it has padding.
#[repr(C, align(64))]
pub struct State {
    /// The writer lock: 0 if it is free, else the owner's participant number + 1, with [`WAITERS`] if a process waits.
    pub lock: AtomicU32,
    _lock_word: AtomicU32,
    /// The part of `used` that is charged for queues and their items.
    pub queued: AtomicU64,
    /// Number of variables that were made since the clock of the stamps was last advanced.
    pub inserted: AtomicU64,
    _lock_line: [AtomicU64; 5],
    /// The root of the table of the variables: see [`Root`](crate::format::root::Root).
    pub root: AtomicU64,
    /// The root of the table of the names.
    pub names: AtomicU64,
    /// Number of zones in use.
    pub zones: AtomicU64,
    /// Bytes that may be charged.
    pub limit: AtomicU64,
    /// No participant number at or above this one was ever used.
    pub participants_top: AtomicU32,
    /// 1 once the segment was unlinked.
    pub gone: AtomicU32,
    /// What is evicted where there is no room: see [`Eviction`](crate::format::eviction::Eviction). It never changes.
    pub evict: AtomicU32,
    /// Binary logarithm of the number of stamps; 0: there are none.
    pub stamps: AtomicU32,
    _read_line: [AtomicU64; 2],
    /// The last version that was given to a change.
    pub version: AtomicU64,
    /// Sum of all charges, in bytes.
    pub used: AtomicU64,
    /// Number of variables.
    pub count: AtomicU64,
    /// Number of variables that expire.
    pub expiring: AtomicU64,
    /// 0, or the root of a table whose variables were all removed and whose memory is being taken back.
    pub doomed: AtomicU64,
    /// The place at which the doomed table is taken apart next: number of the directory word `<< 32 |` slot in the
    /// leaf.
    pub doomed_at: AtomicU64,
    /// Number of variables that were evicted.
    pub evicted: AtomicU64,
    /// Grows when a process begins to give sticky granules back.
    pub trims: AtomicU64,
    /// Odd while a batch is applied.
    pub many: AtomicU64,
    /// The batch that is applied: see [`crate::sync::intent::BatchProgress`].
    pub batch: AtomicU64,
    /// Number of entries of the batch that are done.
    pub cursor: AtomicU64,
    /// The word that watchers sleep on.
    pub watch: AtomicU32,
    _watch: AtomicU32,
    /// Number of granules in retired spans.
    pub retired: AtomicU64,
    /// The clock of the stamps, which store its low 8 bits.
    pub clock: AtomicU32,
    _clock: AtomicU32,
    _many_line: [AtomicU64; 2],
}

/// Shared, 256 of them at 12,288: the two wake words of the variables and locks whose hashes share this place.
#[repr(C, align(16))]
pub struct WakeWordPair {
    /// Notified when a variable has changed.
    pub changed: WakeWord,
    /// Notified when a named lock was released, or a queue has an item more, or room.
    pub released: WakeWord,
}

/// Shared: a word that waiters sleep on, and the marks that say whether there are any.
#[repr(C)]
pub struct WakeWord {
    /// Grows with each notification that found a mark. Waiters sleep on it.
    pub count: AtomicU32,
    /// The marks: [`SLEEPER`] (for a named lock, the bit of [`sleeper_of`]) and [`WATCHER`].
    pub waits: AtomicU32,
}

/// Set in [`WakeWord::waits`] while a thread sleeps on [`WakeWord::count`].
pub const SLEEPER: u32 = 1;
/// Set in [`WakeWord::waits`] while a process watches this word through [`State::watch`].
pub const WATCHER: u32 = 2;

/// Returns the bit of [`WakeWord::waits`], and of the futex, that is used by threads that sleep for a named lock of
/// this hash. There are 30 such bits, so one in thirty of the other locks of the wake word uses the same bit.
pub fn sleeper_of(hash: u64) -> u32 {
    4 << ((hash >> 32) % 30)
}

/// Number of removals that the ring holds. (A model has fewer, since each costs time there.)
pub const REMOVALS: usize = if cfg!(loom) { 4 } else { 128 };

/// Shared, at 6,080: the last removals, for processes that want to be told of every change.
#[repr(C, align(64))]
pub struct RemovalRing {
    /// Number of removals that were noted since the segment was made.
    pub removals: AtomicU64,
    _pad: [AtomicU64; 7],
    /// The last removals: number *n* is at *n* modulo [`REMOVALS`].
    pub entries: [Removal; REMOVALS],
}

/// Shared, part of the ring: one removal.
#[repr(C)]
pub struct Removal {
    /// `version << 2 | all << 1 | text`; 0 while it is stored.
    pub word: AtomicU64,
    /// The integer index, or the hash of a text index.
    pub index: AtomicU64,
}

#[cfg(any(loom, test))]
impl RemovalRing {
    /// Returns a ring of zeros, for models and tests.
    pub fn zeroed() -> Self {
        let zero = || AtomicU64::new(0);
        RemovalRing {
            removals: zero(),
            _pad: std::array::from_fn(|_| zero()),
            entries: std::array::from_fn(|_| Removal { word: zero(), index: zero() }),
        }
    }
}

/// Number of [`WakeWordPair`]s.
pub const WAKE_WORDS: u64 = 256;

/// Shared: the place of one variable, or of one name, in a leaf.
#[repr(C, align(32))]
pub struct Slot {
    /// `moves << 53 | version << 1 | busy`.
    pub word: AtomicU64,
    /// Index, tag and contents.
    pub rest: [AtomicU64; 3],
}

/// Shared: the head of a leaf, which is as long as a slot.
#[repr(C, align(32))]
pub struct LeafHead {
    /// Number of slots that are not empty `<< 32 |` number of slots that hold a variable or a lock.
    pub counts: AtomicU64,
    _rest: [AtomicU64; 3],
}

/// Shared: one edit of the span map, in the intent.
#[repr(C)]
pub struct SpanEditArea {
    /// The head of the span.
    pub granule: AtomicU64,
    /// Its entry in the span map before the change.
    pub before: AtomicU64,
    /// Its entry in the span map after the change.
    pub after: AtomicU64,
}

/// Shared, part of the intent: one slot of a set.
#[repr(C)]
pub struct SetSlotArea {
    /// File offset of the slot.
    pub slot: AtomicU64,
    /// Its new four words.
    pub content: [AtomicU64; 4],
    /// File offset of the leaf with that slot.
    pub leaf: AtomicU64,
    /// The new counts of that leaf. All bits set: the counts stay as they are.
    pub counts: AtomicU64,
}

/// Shared, at 8,192: the intent, which describes the change under way. It has a field for everything that one change
/// can touch; [`crate::sync::intent::Change`] is the same change in private memory.
#[repr(C)]
pub struct IntentArea {
    /// 0 if no change is under way, else the serial number of the change.
    pub valid: AtomicU64,
    /// Serial number of the last change that was described.
    pub serial: AtomicU64,
    /// File offset of the slot that changes, or 0 for none.
    pub slot: AtomicU64,
    /// The new four words of that slot.
    pub content: [AtomicU64; 4],
    /// File offset of the leaf with that slot, or 0 for none.
    pub leaf: AtomicU64,
    /// The new counts of that leaf. All bits set: the counts stay as they are.
    pub counts: AtomicU64,
    /// The new root of the table of the variables.
    pub root: AtomicU64,
    /// The new root of the table of the names.
    pub names: AtomicU64,
    /// The new number of zones in use.
    pub zones: AtomicU64,
    /// The new last version.
    pub version: AtomicU64,
    /// The new sum of charges.
    pub used: AtomicU64,
    /// The new number of variables.
    pub count: AtomicU64,
    /// The new number of variables that expire.
    pub expiring: AtomicU64,
    /// Number of block edits `<< 32 |` number of span edits; number of slots of a set `<< 40`, of its block edits
    /// `<< 48`. Bits 60 to 63 say which of the optional groups below are valid.
    pub lengths: AtomicU64,
    /// The block edits: `granule << 32 | used << 31 | block`.
    pub blocks: [AtomicU64; BLOCK_EDITS],
    /// The new [`State::many`], if bit 63 of `lengths` is set. With a set, what it is while the slots of the set are
    /// stored, and one less than it is afterwards; 0 with a set of names.
    pub many: AtomicU64,
    /// The new [`State::batch`], if bit 63 of `lengths` is set.
    pub batch: AtomicU64,
    /// The new [`State::cursor`], if bit 63 of `lengths` is set.
    pub cursor: AtomicU64,
    /// The new [`State::doomed`], if bit 61 of `lengths` is set.
    pub doomed: AtomicU64,
    /// The new [`State::doomed_at`], if bit 61 of `lengths` is set.
    pub doomed_at: AtomicU64,
    /// File offset of the first directory word that changes, if bit 62 of `lengths` is set.
    pub words_at: AtomicU64,
    /// Number of directory words that change, one after the other.
    pub words: AtomicU64,
    /// The new value of the first half of these words, and of the second half.
    pub word: [AtomicU64; 2],
    /// File offset of the record of `slot` that gets another expiry, if bit 60 of `lengths` is set.
    pub expiry_at: AtomicU64,
    /// That expiry.
    pub expiry: AtomicU64,
    /// The new [`State::queued`], with a set of names.
    pub queued: AtomicU64,
    _pad: [AtomicU64; 1],
    /// The edits of the span map.
    pub spans: [SpanEditArea; SPAN_EDITS],
    /// The slots of a set: several that change at one instant.
    pub set: [SetSlotArea; SET_SLOTS],
    /// The block edits of a set, as in `blocks`.
    pub set_blocks: [AtomicU64; SET_BLOCKS],
}

/// Shared, 1,024 of them at 16,384: the record of a participant, which is a process that is attached for writing.
#[repr(C, align(64))]
pub struct Participant {
    /// 0 if the number is free, 1 if it is in use.
    pub state: AtomicU32,
    /// The pid of the process in its own pid namespace: for people, never for a decision.
    pub pid: AtomicU32,
    /// Number of times that this participant number was claimed.
    pub generation: AtomicU64,
    /// Time at which the number was claimed, in nanoseconds since 1970.
    pub attached_at: AtomicU64,
    /// 1 once this participant has reserved a span for itself.
    pub spans: AtomicU64,
    /// One bit for each part of the participant's pin bitmap: the part is present.
    pub pin_units: [AtomicU64; 2],
    /// 1 once this participant has acquired a named lock, or has asked for one.
    pub locks: AtomicU64,
    _pad: AtomicU64,
}

/// Shared, 1,024 of them at 81,920: the reader words of a participant.
#[repr(C, align(64))]
pub struct Readers {
    /// A word is odd while a thread is inside a read section.
    pub words: [AtomicU64; READERS],
}

/// Shared: 64 stamps. Both stamps of a hash are in one such line.
#[repr(C, align(64))]
pub struct StampLine {
    /// The low 8 bits of the clock at the last use of a variable.
    pub stamps: [AtomicU8; 64],
}

/// Shared: the bitmap at the start of a slab.
#[repr(C, align(64))]
pub struct SlabHead {
    /// Bit *b* is set if block *b* holds a record.
    pub used: [AtomicU64; 8],
}

/// Shared: the summary of 64 zones.
#[repr(C, align(64))]
pub struct ZoneGroup {
    /// One word for each kind of free memory, with one bit for each zone that has some. A kind is a class (a slab of
    /// this class with a free block), or from [`FIRST_RUN_KIND`] on a length of runs of free granules.
    pub kinds: [AtomicU64; 128],
}

/// The first kind in [`ZoneGroup::kinds`] that stands for runs. Kind `FIRST_RUN_KIND + n` is set for a zone whose
/// longest run of free granules has at least `2^n` granules.
pub const FIRST_RUN_KIND: usize = 96;
/// Number of kinds that stand for runs. The last one is a whole zone.
pub const RUN_KINDS: usize = 13;

/// Number of words in a bitmap with one bit for each granule of a zone.
pub const ZONE_WORDS: usize = ZONE as usize / 64;

/// Shared: the metadata of a zone.
#[repr(C, align(64))]
pub struct ZoneMeta {
    /// The span map: one [`SpanEntry`](crate::format::span_entry::SpanEntry) for each granule.
    pub entries: [AtomicU64; ZONE as usize],
    /// The granules that are free.
    pub free: [AtomicU64; ZONE_WORDS],
    /// The granules whose pages are known to be present.
    pub present: [AtomicU64; ZONE_WORDS],
    /// The granules that readers may still look into, whatever the granules are used for now.
    pub sticky: [AtomicU64; ZONE_WORDS],
    /// The sticky granules that were freed since [`State::trims`] last grew.
    pub fresh: [AtomicU64; ZONE_WORDS],
    /// For each class, the slabs that have a free block: one bit for each four granules.
    pub nonfull_slabs: [[AtomicU64; 16]; CLASSES.len()],
}

#[cfg(loom)]
impl State {
    /// Returns a state of zeros, for the models.
    pub fn zeroed() -> Self {
        let (zero, half) = (|| AtomicU64::new(0), || AtomicU32::new(0));
        State {
            lock: half(),
            _lock_word: half(),
            queued: zero(),
            inserted: zero(),
            _lock_line: std::array::from_fn(|_| zero()),
            root: zero(),
            names: zero(),
            zones: zero(),
            limit: zero(),
            participants_top: half(),
            gone: half(),
            evict: half(),
            stamps: half(),
            _read_line: std::array::from_fn(|_| zero()),
            version: zero(),
            used: zero(),
            count: zero(),
            expiring: zero(),
            doomed: zero(),
            doomed_at: zero(),
            evicted: zero(),
            trims: zero(),
            many: zero(),
            batch: zero(),
            cursor: zero(),
            watch: half(),
            _watch: half(),
            retired: zero(),
            clock: half(),
            _clock: half(),
            _many_line: std::array::from_fn(|_| zero()),
        }
    }
}

#[cfg(loom)]
impl IntentArea {
    /// Returns an intent of zeros, for the models.
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
            expiry_at: zero(),
            expiry: zero(),
            queued: zero(),
            _pad: std::array::from_fn(|_| zero()),
            spans: std::array::from_fn(|_| SpanEditArea { granule: zero(), before: zero(), after: zero() }),
            set: std::array::from_fn(|_| SetSlotArea {
                slot: zero(),
                content: std::array::from_fn(|_| zero()),
                leaf: zero(),
                counts: zero(),
            }),
            set_blocks: std::array::from_fn(|_| zero()),
        }
    }
}

macro_rules! shared {
    ($($name:ty),*) => {$(
        // SAFETY: the struct is `repr(C)` and made of atomics only; its definition is in this file.
        unsafe impl Shared for $name {}
    )*};
}
shared!(
    State,
    WakeWordPair,
    WakeWord,
    Slot,
    LeafHead,
    RemovalRing,
    SpanEditArea,
    SetSlotArea,
    IntentArea,
    Participant,
    Readers,
    StampLine,
    SlabHead,
    ZoneGroup,
    ZoneMeta
);

#[cfg(not(loom))]
const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<State>() == 256 && offset_of!(State, queued) == 8);
    assert!(offset_of!(State, root) == 64 && offset_of!(State, zones) == 80 && offset_of!(State, gone) == 100);
    assert!(offset_of!(State, version) == 128 && offset_of!(State, doomed) == 160 && offset_of!(State, many) == 192);
    assert!(offset_of!(State, cursor) == 208 && offset_of!(State, watch) == 216);
    assert!(
        offset_of!(State, queued) == 8
            && offset_of!(State, inserted) == 16
            && offset_of!(State, evict) == 104
            && offset_of!(State, stamps) == 108
    );
    assert!(offset_of!(State, evicted) == 176 && offset_of!(State, clock) == 232 && size_of::<StampLine>() == 64);
    assert!(size_of::<WakeWordPair>() == 16 && at::WAKE + 16 * WAKE_WORDS == at::PARTICIPANTS);
    assert!(size_of::<Slot>() == SLOT as usize && size_of::<LeafHead>() == SLOT as usize);
    assert!(at::REMOVALS >= at::STATE + 256 && at::REMOVALS + size_of::<RemovalRing>() as u64 == at::INTENT);
    assert!(offset_of!(RemovalRing, entries) == 64 && size_of::<Removal>() == 16);
    assert!(offset_of!(IntentArea, leaf) == 56 && offset_of!(IntentArea, lengths) == 128);
    assert!(offset_of!(IntentArea, many) == 152 && offset_of!(IntentArea, words_at) == 192);
    assert!(offset_of!(IntentArea, expiry_at) == 224 && offset_of!(IntentArea, expiry) == 232);
    assert!(offset_of!(IntentArea, queued) == 240);
    assert!(offset_of!(IntentArea, set) == 448 && offset_of!(IntentArea, set_blocks) == 1_344);
    assert!(offset_of!(IntentArea, spans) == 256 && size_of::<IntentArea>() <= GRANULE as usize);
    assert!(size_of::<Participant>() == 64 && offset_of!(Participant, locks) == 48 && size_of::<Readers>() == 512);
    assert!(at::PARTICIPANTS + PARTICIPANTS as u64 * 64 == at::READERS);
    assert!(at::READERS + PARTICIPANTS as u64 * 512 == at::SUMMARY);
    assert!(size_of::<ZoneGroup>() == 1_024 && size_of::<SlabHead>() == SLAB_HEAD as usize);
    assert!(offset_of!(ZoneMeta, free) == 32_768 && offset_of!(ZoneMeta, nonfull_slabs) == 34_816);
    assert!(size_of::<ZoneMeta>() <= ZONE_META as usize && ZONE_META.is_multiple_of(GRANULE));
};

/// Returns the number of granules that a span needs to hold `bytes` bytes. It is at least 1.
pub fn granules_of(bytes: u64) -> u64 {
    bytes.div_ceil(GRANULE).max(1)
}
