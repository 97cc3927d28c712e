//! Blocks of slabs: which blocks are used, which have their pages, and which slabs have a free block.
//!
//! A record is not written here, and no page is obtained here: see `heap/slabs.rs`. The protocol is "Small records" in
//! `docs/protocol.md`.

use super::{Arena, WRONG_BITS_MAX, set_bit};
use crate::error::{Error, Result};
use crate::format::{CLASSES, GRANULE, SLAB_HEAD, SlabHead, SpanState, ZONE, blocks_of, slab_has_all_pages};
use std::sync::atomic::{AtomicU64, Ordering};

impl<'a> Arena<'a> {
    /// Records whether the slab at `granule` has a free block, in the bitmap of its class and in the summary.
    #[inline]
    pub(super) fn set_nonfull(&self, granule: u64, class: usize, on: bool) -> Result<()> {
        let zone = granule / ZONE;
        let bitmap = self.nonfull_slabs(zone, class)?;
        let bit = granule % ZONE / 4;
        let word = &bitmap[(bit / 64) as usize];
        if (word.load(Ordering::Relaxed) >> (bit % 64) & 1 == 1) == on {
            // The usual case: the bit is right already. The summary is checked all the same, because a process may have
            // died between storing the two.
            let summary = self.group(zone / 64)?.kinds[class].load(Ordering::Relaxed);
            if on && summary >> (zone % 64) & 1 == 1 {
                return Ok(());
            }
            return self.set_summary(class, zone, on || bitmap.iter().any(|w| w.load(Ordering::Relaxed) != 0));
        }
        set_bit(word, bit % 64, on);
        crash_point!("room-bit");
        let any = on || bitmap.iter().any(|word| word.load(Ordering::Relaxed) != 0);
        self.set_summary(class, zone, any)?;
        crash_point!("room-summary");
        Ok(())
    }

    /// Returns the bitmap of the slabs of a class in a zone that have a free block.
    fn nonfull_slabs(&self, zone: u64, class: usize) -> Result<&'a [AtomicU64; 16]> {
        let bitmaps = &self.zone(zone)?.nonfull_slabs;
        bitmaps.get(class).ok_or_else(|| Error::corrupt(format_args!("a slab of class {class} in zone {zone}")))
    }

    /// Returns the bitmap at the start of a slab.
    fn slab(&self, granule: u64) -> Result<&'a SlabHead> {
        self.mem.at(self.geo.granule_at(granule))
    }

    /// Returns the lowest free block of a slab whose pages are present, or `None` if there is none.
    #[inline]
    pub fn usable_block(&self, granule: u64, class: usize) -> Result<Option<u64>> {
        match self.free_block(granule, class)? {
            Some(block) if !self.block_is_present(granule, class, block)? => {
                self.next_free_block(granule, class, block, true)
            }
            block => Ok(block),
        }
    }

    /// Returns the lowest free block, from block `from` on, whose pages are present (or, with `present` false, are
    /// not). Every block has to be looked at: granules that were present before the slab was made may lie behind some
    /// that are not.
    #[cold]
    fn next_free_block(&self, granule: u64, class: usize, from: u64, present: bool) -> Result<Option<u64>> {
        for block in from..blocks_of(class) {
            if !self.block_used(granule, block)? && self.block_is_present(granule, class, block)? == present {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// Returns the lowest free block of a slab, whether its pages are present or not.
    #[inline]
    pub fn free_block(&self, granule: u64, class: usize) -> Result<Option<u64>> {
        if class >= CLASSES.len() {
            return Err(Error::corrupt(format_args!("granule {granule} is a slab of class {class}")));
        }
        for (i, word) in self.slab(granule)?.used.iter().enumerate() {
            let block = i as u64 * 64 + u64::from(word.load(Ordering::Relaxed).trailing_ones());
            if block < (i as u64 + 1) * 64 {
                return Ok((block < blocks_of(class)).then_some(block));
            }
        }
        Ok(None)
    }

    /// Counts the blocks of a slab that hold a record.
    pub fn used_blocks(&self, granule: u64) -> Result<u64> {
        let used = &self.slab(granule)?.used;
        Ok(used.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum())
    }

    /// Returns a copy of a slab's bitmap: bit *b* is set if block *b* holds a record.
    pub fn used_words(&self, granule: u64) -> Result<[u64; 8]> {
        let used = &self.slab(granule)?.used;
        Ok(std::array::from_fn(|i| used[i].load(Ordering::Relaxed)))
    }

    /// Returns `true` if no block of a slab is used.
    pub fn slab_is_empty(&self, granule: u64) -> Result<bool> {
        Ok(self.slab(granule)?.used.iter().all(|word| word.load(Ordering::Relaxed) == 0))
    }

    /// Returns `true` if a block of a slab holds a record.
    pub fn block_used(&self, granule: u64, block: u64) -> Result<bool> {
        let word = self.slab(granule)?.used.get((block / 64) as usize);
        Ok(word.is_some_and(|word| word.load(Ordering::Relaxed) >> (block % 64) & 1 == 1))
    }

    /// Returns the granules that a block of a slab lies in: the first one, and how many.
    pub fn granules_of_block(granule: u64, class: usize, block: u64) -> (u64, u64) {
        let size = u64::from(CLASSES[class]);
        let start = SLAB_HEAD + block * size;
        let (first, last) = (start / GRANULE, (start + size - 1) / GRANULE);
        (granule + first, last - first + 1)
    }

    /// Returns `true` if all pages of a block are present.
    #[inline]
    pub fn block_is_present(&self, granule: u64, class: usize, block: u64) -> Result<bool> {
        if slab_has_all_pages(class) {
            return Ok(true);
        }
        let (first, len) = Self::granules_of_block(granule, class, block);
        self.is_present(first, len)
    }

    /// Applies an edit of a block, which the valid intent describes: the block is used, or free. With `update_bitmaps`,
    /// the bits that say whether the slab has a free block are updated, too.
    #[inline]
    pub fn apply_block(&self, granule: u64, block: u64, used: bool, update_bitmaps: bool) -> Result<()> {
        set_bit(&self.slab(granule)?.used[(block / 64 % 8) as usize], block % 64, used);
        crash_point!("block-stored");
        // CRASH: the bit of the slab may be wrong until the intent is applied again.
        if update_bitmaps {
            let class = self.entry(granule)?.class();
            self.set_nonfull(granule, class, !used || self.free_block(granule, class)?.is_some())?;
        }
        crash_point!("block-applied");
        Ok(())
    }

    /// Finds the lowest slab of a class with a free block whose pages are present. Returns the slab and the block.
    pub fn find_slab(&self, class: usize) -> Result<Option<(u64, u64)>> {
        self.find_slab_with(class, |granule| self.usable_block(granule, class))
    }

    /// Finds the lowest slab of a class with a free block whose pages are not present. Returns the slab and the block.
    pub fn find_absent_block(&self, class: usize) -> Result<Option<(u64, u64)>> {
        if slab_has_all_pages(class) {
            return Ok(None);
        }
        self.find_slab_with(class, |granule| self.next_free_block(granule, class, 0, false))
    }

    /// Finds the lowest slab of a class for which `block_of` returns a block. Bits of slabs that are full, or that are
    /// none, are corrected on the way.
    fn find_slab_with(
        &self,
        class: usize,
        block_of: impl Fn(u64) -> Result<Option<u64>>,
    ) -> Result<Option<(u64, u64)>> {
        let mut wrong = 0;
        for zone in self.zones_with(class) {
            let zone = zone?;
            for (number, word) in self.nonfull_slabs(zone, class)?.iter().enumerate() {
                let mut bits = word.load(Ordering::Relaxed);
                while bits != 0 {
                    let first = zone * ZONE + (number as u64 * 64 + u64::from(bits.trailing_zeros())) * 4;
                    bits &= bits - 1;
                    if let Some(granule) = self.slab_among(first, class)? {
                        if let Some(block) = block_of(granule)? {
                            return Ok(Some((granule, block)));
                        }
                        if self.free_block(granule, class)?.is_some() {
                            continue;
                        }
                    }
                    wrong += 1;
                    if wrong > WRONG_BITS_MAX {
                        return Err(Error::corrupt("the bitmaps of slabs"));
                    }
                    self.set_nonfull(first, class, false)?;
                }
            }
            if self.nonfull_slabs(zone, class)?.iter().all(|word| word.load(Ordering::Relaxed) == 0) {
                self.set_summary(class, zone, false)?;
            }
        }
        Ok(None)
    }

    /// Returns the slab of a class that begins at one of the four granules from `first` on. One bit stands for these
    /// four, because a slab has at least four granules.
    fn slab_among(&self, first: u64, class: usize) -> Result<Option<u64>> {
        for granule in first..first + 4 {
            let entry = self.entry(granule)?;
            if entry.state() == SpanState::Slab && entry.class() == class {
                return Ok(Some(granule));
            }
        }
        Ok(None)
    }

    /// Calls `each` with every slab of a class that has a free block, the lowest first, until `each` returns `true`.
    pub fn each_nonfull_slab(&self, class: usize, mut each: impl FnMut(u64) -> Result<bool>) -> Result<()> {
        for zone in self.zones_with(class) {
            let zone = zone?;
            for (number, word) in self.nonfull_slabs(zone, class)?.iter().enumerate() {
                let mut bits = word.load(Ordering::Relaxed);
                while bits != 0 {
                    let first = zone * ZONE + (number as u64 * 64 + u64::from(bits.trailing_zeros())) * 4;
                    bits &= bits - 1;
                    if let Some(granule) = self.slab_among(first, class)? {
                        if each(granule)? {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns how many of `needed` free blocks with present pages are missing in the slabs of a class. 0: there are
    /// enough.
    pub fn missing_blocks(&self, class: usize, needed: u64) -> Result<u64> {
        let mut free = 0;
        self.each_nonfull_slab(class, |granule| {
            free += if slab_has_all_pages(class) {
                blocks_of(class).saturating_sub(self.used_blocks(granule)?)
            } else {
                let mut present = 0;
                for block in 0..blocks_of(class) {
                    let usable = !self.block_used(granule, block)? && self.block_is_present(granule, class, block)?;
                    present += u64::from(usable);
                }
                present
            };
            Ok(free >= needed)
        })?;
        Ok(needed.saturating_sub(free))
    }
}
