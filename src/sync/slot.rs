//! The slot protocol: one variable's place in the table, read without a lock.
//!
//! After crossbeam's `seq_lock`: the word is odd while a writer is inside, and differs afterwards. Here it is the user's
//! version as well.

use crate::atomic::{Ordering, fence};
use crate::format::slot_flags::{BUFFERS, EXPIRES, LOCK, TEXT};
use crate::format::{INLINE_MAX, SLOT, Slot};

/// Set in a slot's word while its contents change.
pub const BUSY: u64 = 1;
/// Moves of a record are counted from this bit of the word on.
const MOVES_AT: u32 = 53;
/// In so many bits.
const MOVES_BITS: u32 = 64 - MOVES_AT;
/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/format.md, slot")]
pub enum Kind {
    Empty,
    Tombstone,
    Inline,
    Record,
    Span,
    Bad,
}

/// A private copy of a slot's four words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Content {
    /// `moves << 53 | version << 1 | busy`.
    pub word: u64,
    /// Index, tag and contents.
    pub rest: [u64; 3],
}

/// Bytes left free before a record with buffers, of which `prefix` are no value.
pub fn lead(prefix: u64) -> u64 {
    prefix.next_multiple_of(64) - prefix
}

/// The protocol of a slot: a sequence lock whose sequence is the variable's version.
pub trait Seqlock {
    /// Begins a read: the word, to be compared at the end.
    fn begin(&self) -> u64;
    /// The other three words; meaningless until [`Seqlock::unchanged`] says so.
    fn rest(&self) -> [u64; 3];
    /// Ends a read: was what lies between (contents, and the record that they name) read whole?
    fn unchanged(&self, word: u64) -> bool;
    /// A whole copy, if no writer was inside meanwhile.
    fn copy(&self) -> Option<Content>;
    /// Replaces the word of the tag, which is whole at once: no intent describes it, and readers take either for the slot's
    /// contents. The caller holds the writer lock.
    fn retag(&self, tag: u64);
    /// Replaces the contents. The caller holds the writer lock, and the intent describes just this.
    fn write(&self, content: &Content);
}

impl Seqlock for Slot {
    #[inline(always)]
    fn begin(&self) -> u64 {
        // SYNC: with the release store that ends `write`: who sees the new word sees the contents before it.
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
        // SYNC: with the release fence of `write` (contents) and of the record's writer (bytes): a reader that saw one
        // byte of theirs sees here a word that had changed before it.
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
        // SYNC: none of its own: nothing else belongs to it, and the next writer has the lock after us.
        self.rest[1].store(tag, Ordering::Relaxed);
    }

    #[inline]
    fn write(&self, content: &Content) {
        self.word.store(content.word | BUSY, Ordering::Relaxed);
        // SYNC: with the acquire fence of `unchanged`: no store below is seen without the busy word above.
        fence(Ordering::Release);
        crash_point!("slot-busy");
        // CRASH: busy; the valid intent says what shall stand here, and readers read it there.
        for (to, from) in self.rest.iter().zip(content.rest) {
            to.store(from, Ordering::Relaxed);
            crash_point!("slot-word");
        }
        self.word.store(content.word, Ordering::Release);
        crash_point!("slot-whole");
    }
}

impl Content {
    /// An inline value: `pickle` has at most 14 bytes.
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

    /// A value in a record. `flags`: [`TEXT`], [`EXPIRES`], [`BUFFERS`]; `block` is `None` for a span.
    pub fn record(hash: u64, flags: u64, key_len: usize, len: u64, granule: u64, block: Option<u64>) -> Self {
        let kind = if block.is_some() { 3 } else { 4 };
        let tag = kind | flags | (key_len as u64) << 8 | len << 24;
        Content { word: 0, rest: [hash, tag, granule << 16 | block.unwrap_or(0)] }
    }

    /// Where a variable was.
    pub fn tombstone() -> Self {
        Content { word: 0, rest: [0, 1, 0] }
    }

    /// With this version, not busy, never moved.
    pub fn with_version(self, version: u64) -> Self {
        Content { word: version << 1, ..self }
    }

    /// The version.
    #[inline(always)]
    pub fn version(&self) -> u64 {
        self.word << MOVES_BITS >> (MOVES_BITS + 1)
    }

    /// The same variable with its record at another place: another word, the same version.
    pub fn moved_to(self, granule: u64, block: u64) -> Self {
        let [index, tag, _] = self.rest;
        Content { word: self.word.wrapping_add(1 << MOVES_AT), rest: [index, tag, granule << 16 | block] }
    }

    /// What for.
    #[inline(always)]
    pub fn kind(&self) -> Kind {
        match self.rest[1] & 7 {
            0 => Kind::Empty,
            1 => Kind::Tombstone,
            2 => Kind::Inline,
            3 => Kind::Record,
            4 => Kind::Span,
            _ => Kind::Bad,
        }
    }

    /// Does it hold anything: a variable, or a lock?
    #[inline]
    pub fn is_entry(&self) -> bool {
        self.rest[1] & 7 >= 2
    }

    /// Does it hold a variable?
    #[inline]
    pub fn is_variable(&self) -> bool {
        self.is_entry() && !self.is_lock()
    }

    /// Does it hold a lock (where it holds anything)?
    #[inline]
    pub fn is_lock(&self) -> bool {
        self.rest[1] & LOCK != 0
    }

    /// Is the index text (and `rest[0]` its hash)?
    #[inline(always)]
    pub fn is_text(&self) -> bool {
        self.rest[1] & TEXT != 0
    }

    /// Does the record begin with an expiry?
    pub fn expires(&self) -> bool {
        self.rest[1] & EXPIRES != 0
    }

    /// Does the record hold out-of-band buffers?
    pub fn has_buffers(&self) -> bool {
        self.rest[1] & BUFFERS != 0
    }

    /// Bytes of the span before the record: with buffers, so many that the value begins at a multiple of 64.
    pub fn lead(&self) -> u64 {
        if self.has_buffers() { lead(self.prefix_len()) } else { 0 }
    }

    /// Bytes of the record that are no value: expiry and key.
    pub fn prefix_len(&self) -> u64 {
        (if self.expires() { 8 } else { 0 }) + self.key_len()
    }

    /// Bytes of the key in the record.
    pub fn key_len(&self) -> u64 {
        self.rest[1] >> 8 & 0xffff
    }

    /// Bytes of the record.
    pub fn record_len(&self) -> u64 {
        self.rest[1] >> 24
    }

    /// First granule of the span, or the slab.
    pub fn granule(&self) -> u64 {
        self.rest[2] >> 16
    }

    /// Block in the slab.
    pub fn block(&self) -> u64 {
        self.rest[2] & 0xffff
    }

    /// What the variable is charged; a lock, nothing.
    pub fn charge(&self) -> u64 {
        match self.kind() {
            _ if self.is_lock() => 0,
            Kind::Inline => SLOT,
            Kind::Record | Kind::Span => SLOT + self.record_len(),
            _ => 0,
        }
    }

    /// The pickle of an inline value, as 16 bytes of which the first two are not it.
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
        let moved = content.with_version((1 << 52) - 1).moved_to(5, 6);
        assert_eq!((moved.version(), moved.granule(), moved.block()), ((1 << 52) - 1, 5, 6));
        assert_eq!((0..2_048).fold(moved, |moved, _| moved.moved_to(5, 6)), moved, "the count goes round");
        assert_ne!(moved.moved_to(5, 6).word, moved.word);
        let inline = Content::inline(-1, 0, &[7; 14]).with_version(3);
        assert_eq!((inline.kind(), inline.version(), inline.charge()), (Kind::Inline, 3, 32));
        assert_eq!(inline.inline_bytes().0[2..], [7; 14]);
    }
}
