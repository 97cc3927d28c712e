//! Spans of granules: the span map, which is the truth, and the bitmaps that find room in it.
//!
//! A granule that belongs to no span is free, so there is nothing to merge and nothing to split: every step is one edit
//! of a [`Change`]. All of it is called under the writer lock, but for what readers ask of an entry.

use crate::error::{Error, Result};
use crate::intent::{Change, SpanEdit};
use crate::layout::{
    CLASSES, Entry, GRANULE, Geometry, Group, KIND_RUN, RUN_KINDS, SLAB_HEAD, SlabHead, SpanState, ZONE, ZONE_WORDS,
    ZoneMeta, at, blocks_of, slab_granules, slab_is_whole,
};
use crate::mem::Mem;
use crate::runs::{first_run, longest_run, mask, range};
use std::sync::atomic::{AtomicU64, Ordering};

/// Wrong bits that a search puts right before it gives up: only a hostile writer makes any.
const WRONG_BITS: u32 = 1 << 16;

/// The arena of a mapped segment.
#[derive(Clone, Copy)]
pub struct Arena<'a> {
    /// The segment.
    pub mem: &'a Mem,
    /// Where things are.
    pub geo: &'a Geometry,
}

/// Which bitmap of a zone.
type Bitmap = fn(&ZoneMeta) -> &[AtomicU64; ZONE_WORDS];

#[inline(always)]
fn set_bit(word: &AtomicU64, bit: u64, on: bool) {
    let old = word.load(Ordering::Relaxed);
    let new = if on { old | 1 << bit } else { old & !(1 << bit) };
    if new != old {
        word.store(new, Ordering::Relaxed);
    }
}

impl<'a> Arena<'a> {
    /// Metadata of a zone in use.
    #[inline(always)]
    pub fn zone(&self, zone: u64) -> Result<&'a ZoneMeta> {
        if zone >= self.geo.zones_max {
            return Err(Error::corrupt(format_args!("zone {zone} of {}", self.geo.zones_max)));
        }
        self.mem.at(self.geo.zone_at(zone))
    }

    /// The summary of 64 zones.
    #[inline(always)]
    pub fn group(&self, group: u64) -> Result<&'a Group> {
        self.mem.at(at::SUMMARY + group * 1_024)
    }

    /// Zones in use, bounded. Their metadata is present.
    #[inline(always)]
    pub fn zones(&self) -> u64 {
        self.mem.state().zones.load(Ordering::Acquire).min(self.geo.zones_max)
    }

    #[inline(always)]
    fn entry_word(&self, granule: u64) -> Result<&'a AtomicU64> {
        if granule / ZONE >= self.zones() {
            return Err(Error::corrupt(format_args!("granule {granule} lies beyond the zones in use")));
        }
        Ok(&self.zone(granule / ZONE)?.entries[(granule % ZONE) as usize])
    }

    /// A granule's entry.
    #[inline(always)]
    pub fn entry(&self, granule: u64) -> Result<Entry> {
        Ok(Entry(self.entry_word(granule)?.load(Ordering::Relaxed)))
    }

    /// Is there room for a span here, among so many zones?
    #[inline]
    pub fn fits(&self, granule: u64, len: u64, zones: u64) -> bool {
        let end = zones.min(self.geo.zones_max) * ZONE;
        len > 0 && granule < end && len <= end - granule
    }

    // --- bitmaps of granules ---

    /// Sets or clears the bits of granules, across zones.
    fn set_range(&self, bitmap: Bitmap, granule: u64, len: u64, on: bool) -> Result<()> {
        for (zone, first, len) in range(granule, len, ZONE) {
            let words = bitmap(self.zone(zone)?);
            for (word, first, len) in range(first, len, 64) {
                let (word, bits) = (&words[word as usize], mask(first, len));
                let old = word.load(Ordering::Relaxed);
                let new = if on { old | bits } else { old & !bits };
                if new != old {
                    word.store(new, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Are the bits of all these granules set?
    #[inline]
    fn all(&self, bitmap: Bitmap, granule: u64, len: u64) -> Result<bool> {
        let bit = granule % 64;
        if len > 0 && bit + len <= 64 {
            // The usual case: all in one word.
            let words = bitmap(self.zone(granule / ZONE)?);
            let bits = mask(bit, len);
            return Ok(words[(granule % ZONE / 64) as usize].load(Ordering::Relaxed) & bits == bits);
        }
        for (zone, first, len) in range(granule, len, ZONE) {
            let words = bitmap(self.zone(zone)?);
            for (word, first, len) in range(first, len, 64) {
                let bits = mask(first, len);
                if words[word as usize].load(Ordering::Relaxed) & bits != bits {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Are the pages of all these granules known to be present?
    pub fn is_present(&self, granule: u64, len: u64) -> Result<bool> {
        self.all(|zone| &zone.present, granule, len)
    }

    /// How many of these granules' pages are known to be present.
    pub fn count_present(&self, granule: u64, len: u64) -> Result<u64> {
        let mut present = 0;
        for (zone, first, len) in range(granule, len, ZONE) {
            let words = &self.zone(zone)?.present;
            for (word, first, len) in range(first, len, 64) {
                present += u64::from((words[word as usize].load(Ordering::Relaxed) & mask(first, len)).count_ones());
            }
        }
        Ok(present)
    }

    /// Says that these pages are present (they were obtained before), or that they may not be (before they are punched).
    pub fn set_present(&self, granule: u64, len: u64, on: bool) -> Result<()> {
        // CRASH: each bit is true by itself: a page that is present and not said to be is obtained again, or punched.
        self.set_range(|zone| &zone.present, granule, len, on)?;
        crash_point!("present-stored");
        Ok(())
    }

    /// Says that readers may look into these granules from now on, or that none does (they were waited for).
    pub fn set_sticky(&self, granule: u64, len: u64, on: bool) -> Result<()> {
        self.set_range(|zone| &zone.sticky, granule, len, on)?;
        crash_point!("sticky-stored");
        Ok(())
    }

    /// Is a granule sticky?
    pub fn is_sticky(&self, granule: u64) -> Result<bool> {
        self.all(|zone| &zone.sticky, granule, 1)
    }

    /// Was it freed lately, as far as giving back goes?
    pub fn is_fresh(&self, granule: u64) -> Result<bool> {
        self.all(|zone| &zone.fresh, granule, 1)
    }

    /// Does a granule belong to no span?
    pub fn is_free(&self, granule: u64) -> Result<bool> {
        self.all(|zone| &zone.free, granule, 1)
    }

    /// Is any free granule sticky?
    pub fn has_free_sticky(&self) -> Result<bool> {
        for zone in 0..self.zones() {
            let meta = self.zone(zone)?;
            let both = |(a, b): (&AtomicU64, &AtomicU64)| a.load(Ordering::Relaxed) & b.load(Ordering::Relaxed) != 0;
            if meta.free.iter().zip(&meta.sticky).any(both) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// From here on those are fresh that are freed from here on.
    pub fn clear_fresh(&self) -> Result<()> {
        for zone in 0..self.zones() {
            for word in self.zone(zone)?.fresh.iter().filter(|word| word.load(Ordering::Relaxed) != 0) {
                word.store(0, Ordering::Relaxed);
            }
            crash_point!("fresh-cleared");
        }
        Ok(())
    }

    /// Does nothing lie in a zone, and was all of its memory given back?
    pub fn zone_is_empty(&self, zone: u64) -> Result<bool> {
        let meta = self.zone(zone)?;
        let none = |words: &[AtomicU64; ZONE_WORDS]| words.iter().all(|word| word.load(Ordering::Relaxed) == 0);
        Ok(self.all(|zone| &zone.free, zone * ZONE, ZONE)? && none(&meta.present) && none(&meta.sticky))
    }

    /// Is the last zone empty, and not the only one?
    pub fn last_zone_is_empty(&self) -> Result<bool> {
        match self.zones() {
            0 | 1 => Ok(false),
            zones => self.zone_is_empty(zones - 1),
        }
    }

    // --- what is derived ---

    fn set_summary(&self, kind: usize, zone: u64, on: bool) -> Result<()> {
        set_bit(&self.group(zone / 64)?.kinds[kind], zone % 64, on);
        Ok(())
    }

    /// Marks granules as free, or as a span's, and what the summary says of their zones.
    fn set_free(&self, granule: u64, len: u64, on: bool) -> Result<()> {
        self.set_range(|zone| &zone.free, granule, len, on)?;
        crash_point!("free-bits");
        for (zone, ..) in range(granule, len, ZONE) {
            self.sum_up_runs(zone)?;
        }
        crash_point!("summary-bits");
        Ok(())
    }

    fn sum_up_runs(&self, zone: u64) -> Result<()> {
        let longest = longest_run(self.zone(zone)?.free.iter().map(|word| word.load(Ordering::Relaxed)));
        let group = self.group(zone / 64)?;
        for kind in 0..RUN_KINDS {
            set_bit(&group.kinds[KIND_RUN + kind], zone % 64, longest >= 1 << kind);
        }
        Ok(())
    }

    #[inline]
    fn set_room(&self, granule: u64, class: usize, on: bool) -> Result<()> {
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

    // --- slabs ---

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

    // --- applying: every store is of a stated result ---

    /// Makes a span edit of a valid intent.
    pub fn apply_span(&self, edit: &SpanEdit) -> Result<()> {
        let SpanEdit { granule, before, after } = *edit;
        // Not only of zones in use: the edit was looked at before.
        let entry = &self.zone(granule / ZONE)?.entries[(granule % ZONE) as usize];
        entry.store(after.0, Ordering::Relaxed);
        crash_point!("span-stored");
        // CRASH: the bitmaps still say `before`; the intent's next application moves them.
        if before.len() > after.len() {
            if matches!(before.state(), SpanState::Slab | SpanState::Leaf | SpanState::Directory) {
                // Before they are free: who takes them for aged must not find them so.
                self.set_range(|zone| &zone.fresh, granule + after.len(), before.len() - after.len(), true)?;
            }
            self.set_free(granule + after.len(), before.len() - after.len(), true)?;
        }
        if !after.is_none() {
            self.set_free(granule, after.len(), false)?;
        }
        if before.state() == SpanState::Slab {
            self.set_room(granule, before.class(), false)?;
        }
        match after.state() {
            SpanState::Slab => {
                self.set_sticky(granule, after.len(), true)?;
                self.set_room(granule, after.class(), self.free_block(granule, after.class())?.is_some())?;
            }
            SpanState::Leaf | SpanState::Directory => self.set_sticky(granule, after.len(), true)?,
            _ => {}
        }
        match after.state() {
            // Filled to the last of their granules before this was decided.
            SpanState::Live | SpanState::Leaf | SpanState::Directory => {
                self.set_present(granule, after.len(), true)?;
            }
            // From here on: who reaps us must not take holes for pages.
            SpanState::Freeing => self.set_present(granule, after.len(), false)?,
            _ => {}
        }
        crash_point!("span-applied");
        Ok(())
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

    /// Could this edit be one of ours? Asked of every edit of an intent found valid, before any of it is applied.
    pub fn edit_is_sound(&self, edit: &SpanEdit, zones: u64) -> bool {
        let sound = |entry: Entry| match entry.state() {
            SpanState::None => entry.is_none(),
            SpanState::Bad => false,
            SpanState::Slab => {
                entry.class() < CLASSES.len()
                    && entry.len() == slab_granules(entry.class())
                    && self.fits(edit.granule, entry.len(), zones)
            }
            _ => self.fits(edit.granule, entry.len(), zones),
        };
        self.fits(edit.granule, 1, zones) && sound(edit.before) && sound(edit.after)
    }

    // --- finding and planning ---

    /// Zones whose bit of a kind is set, from the left.
    fn zones_of(self, kind: usize) -> impl Iterator<Item = Result<u64>> + 'a {
        let zones = self.zones();
        (0..zones.div_ceil(64)).flat_map(move |group| {
            // Bits of zones that are not in use are none of ours.
            let used = u64::MAX >> (64 - (zones - group * 64).min(64));
            let (mut bits, mut failed) = match self.group(group) {
                Ok(found) => (found.kinds[kind].load(Ordering::Relaxed) & used, None),
                Err(error) => (0, Some(error)),
            };
            std::iter::from_fn(move || {
                if let Some(error) = failed.take() {
                    return Some(Err(error));
                }
                let zone = (bits != 0).then(|| group * 64 + u64::from(bits.trailing_zeros()))?;
                bits &= bits - 1;
                Some(Ok(zone))
            })
        })
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
                    let mut slab = None;
                    for granule in first..first + 4 {
                        let entry = self.entry(granule)?;
                        if entry.state() == SpanState::Slab && entry.class() == class {
                            slab = Some(granule);
                        }
                    }
                    if let Some(granule) = slab {
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

    /// Slabs of this class with a free block, from the left, until `each` says that it is enough.
    pub fn slabs_with_room(&self, class: usize, mut each: impl FnMut(u64) -> Result<bool>) -> Result<()> {
        for zone in self.zones_of(class) {
            let zone = zone?;
            for (number, word) in self.rooms(zone, class)?.iter().enumerate() {
                let mut bits = word.load(Ordering::Relaxed);
                while bits != 0 {
                    let first = zone * ZONE + (number as u64 * 64 + u64::from(bits.trailing_zeros())) * 4;
                    bits &= bits - 1;
                    for granule in first..first + 4 {
                        let entry = self.entry(granule)?;
                        if entry.state() == SpanState::Slab && entry.class() == class && each(granule)? {
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

    /// The lowest run of free granules of this length, and with `present`, whose pages are.
    fn find_run(&self, len: u64, present: bool) -> Result<Option<u64>> {
        if len <= ZONE {
            for zone in self.zones_of(KIND_RUN + len.ilog2() as usize) {
                let zone = zone?;
                let meta = self.zone(zone)?;
                let word = |i: usize| {
                    let free = meta.free[i].load(Ordering::Relaxed);
                    if present { free & meta.present[i].load(Ordering::Relaxed) } else { free }
                };
                if let Some(at) = first_run((0..ZONE_WORDS).map(word), len) {
                    return Ok(Some(zone * ZONE + at));
                }
            }
        }
        if present || len == 1 {
            return Ok(None);
        }
        // Across zones: few spans are that long, or nothing else was found.
        let word = |i: u64| {
            self.zone(i / ZONE_WORDS as u64)
                .map_or(0, |zone| zone.free[(i % ZONE_WORDS as u64) as usize].load(Ordering::Relaxed))
        };
        Ok(first_run((0..self.zones() * ZONE_WORDS as u64).map(word), len))
    }

    /// How many granules of the longest free run in the zones in use.
    pub fn longest_run(&self) -> Result<u64> {
        let words = (0..self.zones() * ZONE_WORDS as u64).map(|i| {
            let zone = self.zone(i / ZONE_WORDS as u64);
            zone.map_or(0, |zone| zone.free[(i % ZONE_WORDS as u64) as usize].load(Ordering::Relaxed))
        });
        Ok(longest_run(words))
    }

    /// Is every granule there free, whatever the bitmap says? A wrong bit is put right.
    fn is_free_run(&self, granule: u64, len: u64) -> Result<bool> {
        for at in granule..granule + len {
            let entry = self.entry(at)?;
            if !entry.is_none() {
                self.set_free(at, entry.len().clamp(1, ZONE), false)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Plans to take a span of so many granules, the lowest that is free, present or not. `None`: no room in the zones in use.
    pub fn plan_take(&self, len: u64, entry: Entry, change: &mut Change) -> Result<Option<u64>> {
        let entry = Entry(entry.0 & u64::from(u32::MAX) | len << 32);
        let found = self.find_sound_run(len, false)?;
        if let Some(granule) = found {
            change.span(granule, Entry(0), entry);
        }
        Ok(found)
    }

    /// The same of one whose pages are all known to be present.
    pub fn plan_take_present(&self, len: u64, entry: Entry, change: &mut Change) -> Result<Option<u64>> {
        let found = self.find_sound_run(len, true)?;
        if let Some(granule) = found {
            change.span(granule, Entry(0), Entry(entry.0 & u64::from(u32::MAX) | len << 32));
        }
        Ok(found)
    }

    fn find_sound_run(&self, len: u64, present: bool) -> Result<Option<u64>> {
        for _ in 0..WRONG_BITS {
            let Some(granule) = self.find_run(len, present)? else { return Ok(None) };
            if self.fits(granule, len, self.zones()) && self.is_free_run(granule, len)? {
                return Ok(Some(granule));
            }
        }
        Err(Error::corrupt("the bitmaps of free granules"))
    }

    /// Plans to free a span.
    pub fn plan_free(&self, granule: u64, before: Entry, change: &mut Change) {
        change.span(granule, before, Entry(0));
    }

    /// So many zones must be in use before a span of this length can be taken. `None`: the reserve is used up.
    pub fn zones_for(&self, len: u64) -> Option<u64> {
        let zones = self.zones();
        let mut behind = 0;
        'count: for zone in (0..zones).rev() {
            let Ok(meta) = self.zone(zone) else { break };
            for word in meta.free.iter().rev() {
                let ones = word.load(Ordering::Relaxed).leading_ones();
                behind += u64::from(ones);
                if ones < 64 || behind >= len {
                    break 'count;
                }
            }
        }
        let end = zones + len.saturating_sub(behind).div_ceil(ZONE).max(1);
        (end <= self.geo.zones_max).then_some(end)
    }

    /// Writes the metadata of zones that are about to come into use: present, and nobody's yet.
    pub fn open_zones(&self, end: u64) -> Result<()> {
        for zone in self.zones()..end {
            let meta = self.zone(zone)?;
            let bits = meta.present.iter().chain(&meta.sticky).chain(&meta.fresh).chain(meta.rooms.iter().flatten());
            let zeros = meta.entries.iter().chain(bits);
            for word in zeros.filter(|word| word.load(Ordering::Relaxed) != 0) {
                word.store(0, Ordering::Relaxed);
            }
            for word in &meta.free {
                word.store(u64::MAX, Ordering::Relaxed);
            }
            for class in 0..CLASSES.len() {
                self.set_summary(class, zone, false)?;
            }
            self.sum_up_runs(zone)?;
            // CRASH: a zone that is not in use: whoever brings it into use writes all of that again.
            crash_point!("zone-opened");
        }
        Ok(())
    }

    /// Every span of the zones in use, from the left: head and entry. Ends early, with an error, where the map is damaged.
    pub fn spans(self) -> impl Iterator<Item = Result<(u64, Entry)>> + 'a {
        self.walk()
            .filter(|step| !matches!(step, Ok((_, Entry(0), _))))
            .map(|step| step.map(|(at, entry, _)| (at, entry)))
    }

    /// Every run of free granules within a zone: its first, and how many.
    pub fn free_runs(self) -> impl Iterator<Item = Result<(u64, u64)>> + 'a {
        self.walk()
            .filter(|step| step.as_ref().map_or(true, |(_, entry, _)| entry.is_none()))
            .map(|step| step.map(|(at, _, len)| (at, len)))
    }

    /// Spans, and runs of free granules within one word of their bitmap or several: first granule, entry, length.
    fn walk(self) -> impl Iterator<Item = Result<(u64, Entry, u64)>> + 'a {
        let end = self.zones() * ZONE;
        let mut next = 0;
        std::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let step = self.step(next, end);
            next = match &step {
                Ok((at, _, len)) => at + len,
                Err(_) => end,
            };
            Some(step)
        })
    }

    fn step(&self, at: u64, end: u64) -> Result<(u64, Entry, u64)> {
        let entry = self.entry(at)?;
        if !entry.is_none() {
            if matches!(entry.state(), SpanState::None | SpanState::Bad) || !self.fits(at, entry.len(), end / ZONE) {
                return Err(Error::corrupt(format_args!("span map, granule {at}: {entry:?}")));
            }
            return Ok((at, entry, entry.len()));
        }
        let (zone, mut bit) = (self.zone(at / ZONE)?, at % ZONE);
        let start = bit;
        while bit < ZONE {
            let ones = (zone.free[(bit / 64) as usize].load(Ordering::Relaxed) >> (bit % 64)).trailing_ones();
            let ones = u64::from(ones).min(64 - bit % 64);
            bit += ones;
            if ones == 0 || bit % 64 != 0 {
                break;
            }
        }
        if bit == start {
            return Err(Error::corrupt(format_args!("span map: granule {at} belongs to no span and is not free")));
        }
        Ok((at, Entry(0), bit - start))
    }
}
