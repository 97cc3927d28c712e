//! Blocks of slabs: which are used, which have pages, and which slab has room.

use super::{Arena, WRONG_BITS, set_bit};
use crate::error::{Error, Result};
use crate::format::{CLASSES, GRANULE, SLAB_HEAD, SlabHead, SpanState, ZONE, blocks_of, slab_is_whole};
use std::sync::atomic::{AtomicU64, Ordering};

impl<'a> Arena<'a> {
    #[inline]
    pub(super) fn set_room(&self, granule: u64, class: usize, on: bool) -> Result<()> {
        let zone = granule / ZONE;
        let bitmap = self.rooms(zone, class)?;
        let bit = granule % ZONE / 4;
        let word = &bitmap[(bit / 64) as usize];
        if (word.load(Ordering::Relaxed) >> (bit % 64) & 1 == 1) == on {
            // The usual case. The summary follows all the same: a death may have come between the two.
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

    fn rooms(&self, zone: u64, class: usize) -> Result<&'a [AtomicU64; 16]> {
        let rooms = &self.zone(zone)?.rooms;
        rooms.get(class).ok_or_else(|| Error::corrupt(format_args!("a slab of class {class} in zone {zone}")))
    }

    fn slab(&self, granule: u64) -> Result<&'a SlabHead> {
        self.mem.at(self.geo.granule_at(granule))
    }

    /// Lowest free block of a slab whose pages are present.
    #[inline]
    pub fn usable_block(&self, granule: u64, class: usize) -> Result<Option<u64>> {
        match self.free_block(granule, class)? {
            Some(block) if !self.block_is_present(granule, class, block)? => {
                self.next_free_block(granule, class, block, true)
            }
            block => Ok(block),
        }
    }

    /// The lowest free block from this one on whose pages are present, or are not. (Granules that were present before the
    /// slab was made lie behind some that are not.)
    #[cold]
    fn next_free_block(&self, granule: u64, class: usize, from: u64, present: bool) -> Result<Option<u64>> {
        for block in from..blocks_of(class) {
            if !self.block_used(granule, block)? && self.block_is_present(granule, class, block)? == present {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// Lowest free block of a slab, whether its pages are present or not.
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

    /// Blocks of a slab that hold a record.
    pub fn used_blocks(&self, granule: u64) -> Result<u64> {
        let used = &self.slab(granule)?.used;
        Ok(used.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum())
    }

    /// Which blocks those are.
    pub fn used_words(&self, granule: u64) -> Result<[u64; 8]> {
        let used = &self.slab(granule)?.used;
        Ok(std::array::from_fn(|i| used[i].load(Ordering::Relaxed)))
    }

    /// Is no block of this slab used?
    pub fn slab_is_empty(&self, granule: u64) -> Result<bool> {
        Ok(self.slab(granule)?.used.iter().all(|word| word.load(Ordering::Relaxed) == 0))
    }

    /// Is this block's bit set?
    pub fn block_used(&self, granule: u64, block: u64) -> Result<bool> {
        let word = self.slab(granule)?.used.get((block / 64) as usize);
        Ok(word.is_some_and(|word| word.load(Ordering::Relaxed) >> (block % 64) & 1 == 1))
    }

    /// The granules of a block: first and number.
    pub fn granules_of_block(granule: u64, class: usize, block: u64) -> (u64, u64) {
        let size = u64::from(CLASSES[class]);
        let start = SLAB_HEAD + block * size;
        let (first, last) = (start / GRANULE, (start + size - 1) / GRANULE);
        (granule + first, last - first + 1)
    }

    /// Are the pages of a block present?
    #[inline]
    pub fn block_is_present(&self, granule: u64, class: usize, block: u64) -> Result<bool> {
        if slab_is_whole(class) {
            return Ok(true);
        }
        let (first, len) = Self::granules_of_block(granule, class, block);
        self.is_present(first, len)
    }

    /// Makes a block edit of a valid intent; with `room`, also what the bitmaps say of its slab.
    #[inline]
    pub fn apply_block(&self, granule: u64, block: u64, set: bool, room: bool) -> Result<()> {
        set_bit(&self.slab(granule)?.used[(block / 64 % 8) as usize], block % 64, set);
        crash_point!("block-stored");
        // CRASH: the class bit may be wrong until the intent's next application.
        if room {
            let class = self.entry(granule)?.class();
            self.set_room(granule, class, !set || self.free_block(granule, class)?.is_some())?;
        }
        crash_point!("block-applied");
        Ok(())
    }

    /// A slab of this class with a free block whose pages are present: the lowest.
    pub fn find_slab(&self, class: usize) -> Result<Option<(u64, u64)>> {
        self.find_slab_with(class, |granule| self.usable_block(granule, class))
    }

    /// A slab of this class with a free block whose pages are not: the lowest.
    pub fn find_absent_block(&self, class: usize) -> Result<Option<(u64, u64)>> {
        if slab_is_whole(class) {
            return Ok(None);
        }
        self.find_slab_with(class, |granule| self.next_free_block(granule, class, 0, false))
    }

    fn find_slab_with(
        &self,
        class: usize,
        block_of: impl Fn(u64) -> Result<Option<u64>>,
    ) -> Result<Option<(u64, u64)>> {
        let mut wrong = 0;
        for zone in self.zones_of(class) {
            let zone = zone?;
            for (number, word) in self.rooms(zone, class)?.iter().enumerate() {
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
                    if wrong > WRONG_BITS {
                        return Err(Error::corrupt("the bitmaps of slabs"));
                    }
                    self.set_room(first, class, false)?;
                }
            }
            if self.rooms(zone, class)?.iter().all(|word| word.load(Ordering::Relaxed) == 0) {
                self.set_summary(class, zone, false)?;
            }
        }
        Ok(None)
    }

    /// The slab of this class that begins among these four granules, which one bit stands for: slabs are no shorter.
    fn slab_among(&self, first: u64, class: usize) -> Result<Option<u64>> {
        for granule in first..first + 4 {
            let entry = self.entry(granule)?;
            if entry.state() == SpanState::Slab && entry.class() == class {
                return Ok(Some(granule));
            }
        }
        Ok(None)
    }

    /// Slabs of this class with a free block, from the left, until `each` says that it is enough.
    pub fn slabs_with_room(&self, class: usize, mut each: impl FnMut(u64) -> Result<bool>) -> Result<()> {
        for zone in self.zones_of(class) {
            let zone = zone?;
            for (number, word) in self.rooms(zone, class)?.iter().enumerate() {
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

    /// How many free blocks whose pages are present the slabs of this class lack for so many.
    pub fn lacks_blocks(&self, class: usize, needed: u64) -> Result<u64> {
        let mut free = 0;
        self.slabs_with_room(class, |granule| {
            free += if slab_is_whole(class) {
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
