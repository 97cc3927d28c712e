//! The protocol of a slot: a sequence lock around one variable's place in the table, which is read without a lock.
//!
//! The word is odd while a writer changes the slot, and differs afterwards, as in crossbeam's `seq_lock`. Here the word
//! is the user's version at the same time. The protocol is "Reading, without a lock" in `docs/protocol.md`; the bits
//! are "Slot, 32 bytes" in `docs/format.md`. Finding a slot is not here: that is `variables/table.rs`.

use crate::atomic::{Ordering, fence};
use crate::format::slot_flags::{BUFFERS, EXPIRES, IN_PLACE, ITEM, LOCK, NameOf, QUEUE, SECOND_HEAD, TEXT};
use crate::format::{INLINE_MAX, QUEUE_HEAD, SLOT, Slot, lead};

/// Set in a slot's word while its contents change.
pub const BUSY: u64 = 1;
/// The lowest bit of the part of the word that counts how often the record was moved.
const MOVES_SHIFT: u32 = 53;
/// The number of bits in that part.
pub const MOVES_BITS: u32 = 64 - MOVES_SHIFT;

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/format.md, slot")]
pub enum Kind {
    Empty,
    Tombstone,
    Inline,
    Record,
    Span,
    Damaged,
}

/// Private to the process: a copy of the four words of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Content {
    /// `moves << 53 | version << 1 | busy`.
    pub word: u64,
    /// Index, tag and contents.
    pub rest: [u64; 3],
}

/// The protocol of a slot: a sequence lock whose sequence number is the variable's version.
pub trait Seqlock {
    /// Begins a read. Returns the word, which the reader hands to [`Seqlock::unchanged`] at the end.
    fn begin(&self) -> u64;
    /// Returns the other three words. They mean nothing until [`Seqlock::unchanged`] returns `true`.
    fn rest(&self) -> [u64; 3];
    /// Ends a read. Returns `true` if the word is still `word`: then everything that was read in between (the contents,
    /// and the record that they name) is consistent.
    fn unchanged(&self, word: u64) -> bool;
    /// Returns a consistent copy of the slot, or `None` if a writer changed the slot meanwhile.
    fn copy(&self) -> Option<Content>;
    /// Replaces the word with the tag. It is a single store, so no intent describes it, and readers may see either
    /// value as the slot's contents. The caller holds the writer lock.
    fn retag(&self, tag: u64);
    /// Replaces the contents. The caller holds the writer lock, and the valid intent describes this very change.
    fn write(&self, content: &Content) {
        self.write_with(content, || {});
    }
    /// Replaces the contents, and stores something else while the slot is busy, which the same intent describes.
    fn write_with(&self, content: &Content, meanwhile: impl FnOnce());
}

impl Seqlock for Slot {
    #[inline(always)]
    fn begin(&self) -> u64 {
        // SYNC: acquire, paired with the release store that ends `write`: a reader that sees the new word sees the
        // contents that were stored before it.
        self.word.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn rest(&self) -> [u64; 3] {
        [
            self.rest[0].load(Ordering::Relaxed),
            self.rest[1].load(Ordering::Relaxed),
            self.rest[2].load(Ordering::Relaxed),
        ]
    }

    #[inline(always)]
    fn unchanged(&self, word: u64) -> bool {
        // SYNC: acquire, paired with the release fence of `write` (for the contents) and with that of the writer of the
        // record (for its bytes): a reader that saw one new byte sees here a word that had been changed before that
        // byte.
        fence(Ordering::Acquire);
        self.word.load(Ordering::Relaxed) == word
    }

    fn copy(&self) -> Option<Content> {
        let word = self.begin();
        let rest = self.rest();
        (word & BUSY == 0 && self.unchanged(word)).then_some(Content { word, rest })
    }

    #[inline]
    fn retag(&self, tag: u64) {
        // SYNC: relaxed is enough: no other store belongs to this one, and the next writer acquires the lock after this
        // owner.
        self.rest[1].store(tag, Ordering::Relaxed);
    }

    #[inline(always)]
    fn write_with(&self, content: &Content, meanwhile: impl FnOnce()) {
        self.word.store(content.word | BUSY, Ordering::Relaxed);
        // SYNC: release, paired with the acquire fence of `unchanged`: no store below is seen without the busy word
        // above.
        fence(Ordering::Release);
        crash_point!("slot-busy");
        // CRASH: the slot is busy. The valid intent has its new contents, and readers read them there.
        meanwhile();
        for (to, from) in self.rest.iter().zip(content.rest) {
            to.store(from, Ordering::Relaxed);
            crash_point!("slot-word");
        }
        self.word.store(content.word, Ordering::Release);
        crash_point!("slot-whole");
    }
}

impl Content {
    /// Makes the content of a slot with an inline value. `pickle` has at most [`INLINE_MAX`] bytes.
    #[inline]
    pub fn inline(index: i64, flags: u64, pickle: &[u8]) -> Self {
        debug_assert!(pickle.len() <= INLINE_MAX);
        let mut bytes = [0; 16];
        bytes[0] = 2 | flags as u8;
        bytes[1] = pickle.len() as u8;
        bytes[2..2 + pickle.len()].copy_from_slice(pickle);
        let word = |i: usize| u64::from_le_bytes(bytes[i..i + 8].try_into().expect("eight bytes"));
        Content { word: 0, rest: [index as u64, word(0), word(8)] }
    }

    /// Makes the content of a slot whose value is in a record of `len` bytes. `flags` are [`TEXT`], [`EXPIRES`],
    /// [`BUFFERS`], [`IN_PLACE`] and [`LOCK`]. `block` is the block in the slab at `granule`, or `None` if the record
    /// has the span at `granule`.
    pub fn record(hash: u64, flags: u64, key_len: usize, len: u64, granule: u64, block: Option<u64>) -> Self {
        let kind = if block.is_some() { 3 } else { 4 };
        let tag = kind | flags | (key_len as u64) << 8 | len << 24;
        Content { word: 0, rest: [hash, tag, granule << 16 | block.unwrap_or(0)] }
    }

    /// Makes a tombstone: the content of a slot whose variable was removed.
    pub fn tombstone() -> Self {
        Content { word: 0, rest: [0, 1, 0] }
    }

    /// Returns the content with this version, not busy, and with no moves counted.
    pub fn with_version(self, version: u64) -> Self {
        Content { word: version << 1, ..self }
    }

    /// Returns the version.
    #[inline(always)]
    pub fn version(&self) -> u64 {
        self.word << MOVES_BITS >> (MOVES_BITS + 1)
    }

    /// Returns the content of the same variable after its record was moved to another block. The version stays, and the
    /// count of moves grows, so the word differs.
    pub fn moved_to(self, granule: u64, block: u64) -> Self {
        let [index, tag, _] = self.rest;
        Content { rest: [index, tag, granule << 16 | block], ..self }.moved_from(&self)
    }

    /// Returns the content with the version of the old one and one more move.
    pub fn moved_from(self, old: &Content) -> Self {
        Content { word: old.word.wrapping_add(1 << MOVES_SHIFT), ..self }
    }

    /// Returns the content of the same variable with an expiry before its record, or without one. The value stays where
    /// it is. Only of a record in a span, or of one that has an expiry and keeps one.
    pub fn with_expiry(self, expires: bool) -> Self {
        let [index, tag, place] = self.rest;
        let room = 8 << 24;
        let tag = match (self.expires(), expires) {
            (false, true) => (tag | EXPIRES).wrapping_add(room),
            (true, false) => (tag & !EXPIRES).wrapping_sub(room),
            _ => tag,
        };
        Content { rest: [index, tag, place], ..self }.moved_from(&self)
    }

    /// Returns whether the count of moves has gone round, or nothing was moved yet.
    pub fn has_gone_round(&self) -> bool {
        self.word >> MOVES_SHIFT == 0
    }

    /// Returns what the slot holds.
    #[inline(always)]
    pub fn kind(&self) -> Kind {
        match self.rest[1] & 7 {
            0 => Kind::Empty,
            1 => Kind::Tombstone,
            2 => Kind::Inline,
            3 => Kind::Record,
            4 => Kind::Span,
            _ => Kind::Damaged,
        }
    }

    /// Returns `true` if the slot holds a variable or a name.
    #[inline]
    pub fn is_entry(&self) -> bool {
        self.rest[1] & 7 >= 2
    }

    /// Returns `true` if the slot holds a variable.
    #[inline]
    pub fn is_variable(&self) -> bool {
        self.is_entry() && !self.is_name()
    }

    /// Returns `true` if what the slot holds is a name's: that of a lock, a queue or an item. Only meaningful if the
    /// slot holds anything ([`Content::is_entry`]), as the next three.
    #[inline]
    pub fn is_name(&self) -> bool {
        self.rest[1] & LOCK != 0
    }

    /// Returns `true` if what the slot holds is a lock.
    #[inline]
    pub fn is_lock(&self) -> bool {
        self.rest[1] & (LOCK | QUEUE) == LOCK
    }

    /// Returns `true` if what the slot holds is a queue.
    #[inline]
    pub fn is_queue(&self) -> bool {
        self.rest[1] & (LOCK | QUEUE | ITEM) == LOCK | QUEUE
    }

    /// Returns `true` if what the slot holds is an item of a queue.
    #[inline]
    pub fn is_item(&self) -> bool {
        self.rest[1] & (LOCK | QUEUE | ITEM) == LOCK | QUEUE | ITEM
    }

    /// Returns `true` if the second head of a queue's record is the one in force.
    pub fn has_second_head(&self) -> bool {
        self.rest[1] & SECOND_HEAD != 0
    }

    /// Returns the content of a queue's slot with the other head in force.
    pub fn with_other_head(self) -> Self {
        let [index, tag, place] = self.rest;
        Content { rest: [index, tag ^ SECOND_HEAD, place], ..self }
    }

    /// Returns what the slot's name is the name of.
    pub fn name_of(&self) -> NameOf {
        NameOf::of_tag(self.rest[1])
    }

    /// Returns `true` if the index is text. Then `rest[0]` is its hash.
    #[inline(always)]
    pub fn is_text(&self) -> bool {
        self.rest[1] & TEXT != 0
    }

    /// Returns `true` if the record begins with an expiry.
    pub fn expires(&self) -> bool {
        self.rest[1] & EXPIRES != 0
    }

    /// Returns `true` if the record holds out-of-band buffers.
    pub fn has_buffers(&self) -> bool {
        self.rest[1] & BUFFERS != 0
    }

    /// Returns `true` if processes change the value's bytes where they lie.
    pub fn is_in_place(&self) -> bool {
        self.rest[1] & (IN_PLACE | LOCK) == IN_PLACE
    }

    /// Returns the number of bytes of the span that stay free before the record (see [`lead`]).
    pub fn lead(&self) -> u64 {
        lead(self.key_len(), self.has_buffers(), self.expires())
    }

    /// Returns the number of bytes of the record that stand before its value: expiry and key.
    pub fn prefix_len(&self) -> u64 {
        (if self.expires() { 8 } else { 0 }) + self.key_len()
    }

    /// Returns the number of bytes of the key in the record.
    pub fn key_len(&self) -> u64 {
        self.rest[1] >> 8 & 0xffff
    }

    /// Returns the number of bytes of the record.
    pub fn record_len(&self) -> u64 {
        self.rest[1] >> 24
    }

    /// Returns the first granule of the span or slab with the record.
    pub fn granule(&self) -> u64 {
        self.rest[2] >> 16
    }

    /// Returns the number of the block with the record, in its slab.
    pub fn block(&self) -> u64 {
        self.rest[2] & 0xffff
    }

    /// Returns the number of bytes that the variable is charged. A lock is charged nothing, and a queue nothing for the
    /// entries of its record: to take an item must not fail in a segment that is full.
    pub fn charge(&self) -> u64 {
        match self.kind() {
            Kind::Empty | Kind::Tombstone | Kind::Damaged => 0,
            _ if self.is_lock() => 0,
            _ if self.is_queue() => SLOT + QUEUE_HEAD + self.key_len(),
            Kind::Inline => SLOT,
            Kind::Record | Kind::Span => SLOT + self.record_len(),
        }
    }

    /// Returns the last 16 bytes of a slot with an inline value, and the length of its pickle. The pickle begins at
    /// byte 2 of them.
    #[inline(always)]
    pub fn inline_bytes(&self) -> ([u8; 16], usize) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.rest[1].to_le_bytes());
        bytes[8..].copy_from_slice(&self.rest[2].to_le_bytes());
        (bytes, (bytes[1] as usize).min(INLINE_MAX))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn contents_keep_their_fields_apart() {
        let content = Content::record(9, TEXT | EXPIRES, 1024, (1 << 40) - 1, u64::from(u32::MAX), Some(509));
        assert_eq!((content.kind(), content.is_text(), content.expires()), (Kind::Record, true, true));
        assert_eq!((content.key_len(), content.record_len()), (1024, (1 << 40) - 1));
        assert_eq!((content.granule(), content.block()), (u64::from(u32::MAX), 509));
        assert_eq!(content.prefix_len(), 1032);
        for key_len in [0, 1, 55, 56, 57, 64, 1024] {
            for has_buffers in [false, true] {
                let [without, with] = [false, true].map(|expires| lead(key_len, has_buffers, expires));
                assert_eq!(without, with + 8, "the value begins at the same place");
                assert!(!has_buffers || (without + key_len) % 64 == 0);
            }
            let span = Content::record(9, TEXT, key_len as usize, 9_000, 7, None).with_version(3);
            let expiring = span.with_expiry(true);
            assert_eq!((expiring.record_len(), expiring.prefix_len()), (9_008, key_len + 8));
            assert_eq!(expiring.lead() + expiring.prefix_len(), span.lead() + span.prefix_len());
            assert_eq!((expiring.version(), expiring.with_expiry(false).rest), (3, span.rest));
            assert!(expiring.word != span.word && expiring.with_expiry(true).word != expiring.word);
            assert!(span.has_gone_round() && !expiring.has_gone_round());
        }
        let moved = content.with_version((1 << 52) - 1).moved_to(5, 6);
        assert_eq!((moved.version(), moved.granule(), moved.block()), ((1 << 52) - 1, 5, 6));
        assert_eq!((0..2_048).fold(moved, |moved, _| moved.moved_to(5, 6)), moved, "the count goes round");
        assert_ne!(moved.moved_to(5, 6).word, moved.word);
        let inline = Content::inline(-1, 0, &[7; 14]).with_version(3);
        assert_eq!((inline.kind(), inline.version(), inline.charge()), (Kind::Inline, 3, 32));
        assert_eq!(inline.inline_bytes().0[2..], [7; 14]);
    }
}
