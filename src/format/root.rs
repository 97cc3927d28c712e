//! The words that lead to a slot: the root, which names the directory, and the words of the directory, which name
//! leaves.
//!
//! A reader copies such a word once and then works with the copy. The words are described in "Table" in
//! `docs/format.md`; their replacement is "Replacing leaves" in `docs/protocol.md`.

use crate::format::span_entry::GRANULE;

/// The largest leaf, in granules.
pub const LEAF_MAX: u64 = 16;
/// The largest depth of a directory: it has at most `2^DEPTH_MAX` words.
pub const DEPTH_MAX: u32 = 26;
/// Bytes of a slot. Every variable is charged as much for its slot.
pub const SLOT: u64 = 32;
/// Slots in one granule. In the first granule of a leaf, the head of the leaf takes the place of one slot.
pub const SLOTS_OF_GRANULE: u64 = GRANULE / SLOT;

/// Bits of the rounds in a root.
const ROUNDS: u32 = 8;
/// The rounds in a root: how often a slot's count of moves went round.
const ROUNDS_MASK: u64 = (1 << ROUNDS) - 1;

/// A copy of a root: the word that names the directory of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root(pub u64);

impl Root {
    /// Packs a root: the first granule of the directory, its depth, and a generation (of which 16 bits are stored). Its
    /// rounds are 0.
    pub const fn new(granule: u64, depth: u32, generation: u32) -> Self {
        Root(granule << 32 | (depth as u64 & 0xff) << 24 | (generation as u64 & 0xffff) << ROUNDS)
    }
    /// Returns the root of the same directory with one more round.
    pub const fn with_next_round(self) -> Self {
        Root(self.0 & !ROUNDS_MASK | (self.0 + 1) & ROUNDS_MASK)
    }
    /// Returns whether a root names the same directory, with the same generation: all but the rounds.
    #[inline(always)]
    pub const fn is_same_table(self, other: u64) -> bool {
        (self.0 ^ other) & !ROUNDS_MASK == 0
    }
    /// Returns the root without its rounds.
    pub const fn table(self) -> u64 {
        self.0 & !ROUNDS_MASK
    }
    /// Returns the first granule of the directory.
    #[inline(always)]
    pub const fn granule(self) -> u64 {
        self.0 >> 32
    }
    /// Returns the depth: the directory has `2^depth` words.
    #[inline(always)]
    pub const fn depth(self) -> u32 {
        (self.0 >> 24) as u32 & 0xff
    }
    /// Returns the generation, which differs between a directory and the one that replaces it.
    pub const fn generation(self) -> u32 {
        (self.0 >> ROUNDS) as u32 & 0xffff
    }
    /// Returns the number of the directory word that belongs to a hash: the first `depth` bits of the hash.
    #[inline(always)]
    pub const fn word_of(self, hash: u64) -> u64 {
        // The shift is made in two steps, because a shift by 64 (depth 0) would overflow.
        hash >> 1 >> (63 - (self.depth() & 63))
    }
}

/// A copy of a directory word, which names a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafWord(pub u64);

impl LeafWord {
    /// Packs a directory word: first granule, depth and size of the leaf, and a generation (of which 18 bits are
    /// stored).
    pub const fn new(granule: u64, depth: u32, size: u64, generation: u64) -> Self {
        LeafWord(granule << 32 | (depth as u64) << 26 | size << 18 | (generation & 0x3_ffff))
    }
    /// Returns the first granule of the leaf.
    #[inline(always)]
    pub const fn granule(self) -> u64 {
        self.0 >> 32
    }
    /// Returns the depth of the leaf: all hashes in it begin with the same `depth` bits.
    pub const fn depth(self) -> u32 {
        (self.0 >> 26) as u32 & 0x3f
    }
    /// Returns the size of the leaf in granules. In a segment that is not damaged it is 1 to [`LEAF_MAX`].
    #[inline(always)]
    pub const fn size(self) -> u64 {
        self.0 >> 18 & 0xff
    }
    /// Returns the generation, which differs between a leaf and the one that replaces it.
    pub const fn generation(self) -> u64 {
        self.0 & 0x3_ffff
    }
    /// Returns the number of slots in the leaf, without its head.
    #[inline(always)]
    pub const fn slots(self) -> u64 {
        self.size() * SLOTS_OF_GRANULE - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_and_words_keep_their_fields_apart() {
        let root = Root::new(u64::from(u32::MAX), 26, u32::MAX);
        assert_eq!((root.granule(), root.depth(), root.generation()), (u64::from(u32::MAX), 26, 0xffff));
        let next = Root(root.0 | 255).with_next_round();
        assert_eq!((next, next.is_same_table(root.0 | 7), next.table()), (root, true, root.0));
        assert!(root.with_next_round() != root && !Root::new(1, 26, 4).is_same_table(Root::new(1, 26, 5).0));
        assert_eq!((root.word_of(u64::MAX), Root::new(1, 0, 1).word_of(u64::MAX)), ((1 << 26) - 1, 0));
        let word = LeafWord::new(u64::from(u32::MAX), 26, LEAF_MAX, u64::MAX);
        assert_eq!((word.granule(), word.depth(), word.size()), (u64::from(u32::MAX), 26, LEAF_MAX));
        assert_eq!((word.generation(), word.slots()), (0x3_ffff, 2_047));
    }
}
