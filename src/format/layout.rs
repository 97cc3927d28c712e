//! The structs in shared memory, as `docs/format.md` states them.
//!
//! Every field is an atomic, because another process may store to it at any time. The compiler checks sizes and offsets
//! at the end of this file. Structs that are private to a process stand elsewhere.

use crate::atomic::{AtomicU8, AtomicU32, AtomicU64};
use crate::format::numbers::{BLOCK_EDITS, READERS, SET_BLOCKS, SET_SLOTS, SPAN_EDITS, ZONE};
#[cfg(not(loom))]
use crate::format::numbers::{PARTICIPANTS, ZONE_META, at};
#[cfg(not(loom))]
use crate::format::root::SLOT;
use crate::format::size_class::CLASSES;
#[cfg(not(loom))]
use crate::format::size_class::SLAB_HEAD;
#[cfg(not(loom))]
use crate::format::span_entry::GRANULE;

/// A type that may be borrowed in shared memory: it consists of atomics only, and any bytes are a valid value of it.
///
/// # Safety
/// The type must be `repr(C)` and made of `AtomicU8`, `AtomicU32`, `AtomicU64` and arrays of them only.
pub unsafe trait Shared {}

// SAFETY: an atomic integer has no invalid values.
unsafe impl Shared for AtomicU32 {}
// SAFETY: an atomic integer has no invalid values.
unsafe impl Shared for AtomicU64 {}

/// Shared, at 4,096: the fields that every change touches. They stand on four lines of 64 bytes that are written at
/// different rates; that is why the struct has so many fields, and why it has padding.
#[repr(C, align(64))]
pub struct State {
    /// The writer lock: 0 if it is free, else the owner's participant number + 1, with
    /// [`WAITERS`](crate::format::numbers::WAITERS) if a process waits.
    pub lock: AtomicU32,
    pub(super) _lock_word: AtomicU32,
    /// The part of `used` that is charged for queues and their items.
    pub queued: AtomicU64,
    /// Number of variables that were made since the clock of the stamps was last advanced.
    pub inserted: AtomicU64,
    pub(super) _lock_line: [AtomicU64; 5],
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
    pub(super) _read_line: [AtomicU64; 2],
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
    pub(super) _watch: AtomicU32,
    /// Number of granules in retired spans.
    pub retired: AtomicU64,
    /// The clock of the stamps, which store its low 8 bits.
    pub clock: AtomicU32,
    pub(super) _clock: AtomicU32,
    pub(super) _many_line: [AtomicU64; 2],
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
    pub(super) _pad: [AtomicU64; 7],
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
    pub(super) _rest: [AtomicU64; 3],
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
    pub(super) _pad: [AtomicU64; 1],
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
    pub(super) _pad: AtomicU64,
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
