//! Words that lead to a slot: the root, which names the directory, and the directory's words, which name leaves.

use crate::format::span_entry::GRANULE;

/// Most granules of a leaf.
pub const LEAF_MAX: u64 = 16;
/// Most bits that a directory looks at.
pub const DEPTH_MAX: u32 = 26;
/// Bytes of a slot, and what every variable is charged for it.
pub const SLOT: u64 = 32;
/// Slots of a granule; in a leaf's first one, one is its head.
pub const SLOTS_OF_GRANULE: u64 = GRANULE / SLOT;

/// Which table is in force: its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root(pub u64);

impl Root {
    /// Packs.
    pub const fn new(granule: u64, depth: u32, generation: u32) -> Self {
        Root(granule << 32 | (depth as u64 & 0xff) << 24 | (generation as u64 & 0xff_ffff))
    }
    /// First granule of the directory.
    #[inline(always)]
    pub const fn granule(self) -> u64 {
        self.0 >> 32
    }
    /// log2 of the number of its words.
    #[inline(always)]
    pub const fn depth(self) -> u32 {
        (self.0 >> 24) as u32 & 0xff
    }
    /// Changes with every new directory.
    pub const fn generation(self) -> u32 {
        self.0 as u32 & 0xff_ffff
    }
    /// Which of its words is a hash's.
    #[inline(always)]
    pub const fn word_of(self, hash: u64) -> u64 {
        // In two steps: a shift by 64 is none.
        hash >> 1 >> (63 - (self.depth() & 63))
    }
}

/// A word of a directory: a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafWord(pub u64);

impl LeafWord {
    /// Packs.
    pub const fn new(granule: u64, depth: u32, size: u64, generation: u64) -> Self {
        LeafWord(granule << 32 | (depth as u64) << 26 | size << 18 | (generation & 0x3_ffff))
    }
    /// Its first granule.
    #[inline(always)]
    pub const fn granule(self) -> u64 {
        self.0 >> 32
    }
    /// How many first bits of the hash all in it have in common.
    pub const fn depth(self) -> u32 {
        (self.0 >> 26) as u32 & 0x3f
    }
    /// Its granules: 1 to [`LEAF_MAX`], or damaged.
    #[inline(always)]
    pub const fn size(self) -> u64 {
        self.0 >> 18 & 0xff
    }
    /// Changes with every new leaf.
    pub const fn generation(self) -> u64 {
        self.0 & 0x3_ffff
    }
    /// Its slots.
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
        assert_eq!((root.granule(), root.depth(), root.generation()), (u64::from(u32::MAX), 26, 0xff_ffff));
        assert_eq!((root.word_of(u64::MAX), Root::new(1, 0, 1).word_of(u64::MAX)), ((1 << 26) - 1, 0));
        let word = LeafWord::new(u64::from(u32::MAX), 26, LEAF_MAX, u64::MAX);
        assert_eq!((word.granule(), word.depth(), word.size()), (u64::from(u32::MAX), 26, LEAF_MAX));
        assert_eq!((word.generation(), word.slots()), (0x3_ffff, 2_047));
    }
}
