//! What a change does to a block of a slab and to the counts of a leaf, and how the intent packs it.
//!
//! `intent.rs` and `slot_set.rs` describe changes that have such edits.

/// The value of [`crate::format::IntentArea::counts`] that leaves the counts of the leaf as they are.
pub(super) const UNCHANGED: u64 = u64::MAX;

/// Private to the process: one block of a slab becomes used or free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BlockEdit {
    /// First granule of the slab.
    pub granule: u64,
    /// Number of the block in the slab.
    pub block: u64,
    /// `true` if the block is used after the change.
    pub used: bool,
}

impl BlockEdit {
    /// Packs the edit into a word of the intent.
    #[inline]
    pub(super) fn pack(&self) -> u64 {
        self.granule << 32 | u64::from(self.used) << 31 | self.block
    }

    /// Unpacks a word of the intent.
    pub(super) fn unpack(packed: u64) -> Self {
        BlockEdit { granule: packed >> 32, block: packed & 0x7fff_ffff, used: packed >> 31 & 1 == 1 }
    }
}

/// Private to the process: the counts in the head of a leaf after a change. They are absolute, not differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LeafCounts {
    /// Number of slots that are not empty. Tombstones count.
    pub fill: u64,
    /// Number of slots that hold a variable or a lock.
    pub entries: u64,
}

impl LeafCounts {
    /// Unpacks the word in the head of a leaf.
    #[inline]
    pub fn unpack(word: u64) -> Self {
        LeafCounts { fill: word >> 32, entries: word & u64::from(u32::MAX) }
    }

    /// Packs the counts into the word for the head of a leaf.
    #[inline]
    pub fn pack(self) -> u64 {
        self.fill << 32 | self.entries
    }
}
