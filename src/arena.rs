//! Spans of granules: the span map, which is the truth, and the bitmaps that find room in it.
//!
//! A buddy allocator whose every step is an edit of a [`Change`]. All of it is called under the writer lock.

use crate::error::{Error, Result};
use crate::intent::{Change, SpanEdit};
use crate::layout::{
    CLASSES, Entry, Geometry, Group, ORDER_MAX, PAGE, SlabHead, SpanState, ZONE, ZONE_ORDER, ZoneMeta, at, blocks_of,
    free_bits,
};
use crate::mem::Mem;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kinds of the summary: classes come first, then free spans by order, from here on.
pub const KIND_FREE: usize = 32;
/// Free spans of whole zones, by order.
pub const KIND_ZONES: usize = 42;
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

/// Pages of a span of this order.
pub fn pages_of(order: u32) -> u64 {
    (crate::layout::GRANULE / PAGE) << order
}

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
    pub fn group(&self, group: u64) -> Result<&'a Group> {
        self.mem.at(at::SUMMARY + group * 512)
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

    /// Marks the granules of a span that the caller owns as sticky, before it becomes a table.
    pub fn make_sticky(&self, granule: u64, order: u32) -> Result<()> {
        for g in granule..granule + (1 << order) {
            self.entry_word(g)?.fetch_or(Entry::STICKY, Ordering::Relaxed);
            // CRASH: a span that is filling, some of its granules sticky without ever having been a table: they stay so.
            crash_point!("made-sticky");
        }
        Ok(())
    }

    // --- the bitmaps ---

    fn set_summary(&self, kind: usize, zone: u64, on: bool) -> Result<()> {
        set_bit(&self.group(zone / 64)?.kinds[kind], zone % 64, on);
        crash_point!("summary-bit");
        Ok(())
    }

    fn set_free(&self, granule: u64, order: u32, on: bool) -> Result<()> {
        let zone = granule / ZONE;
        if order > ORDER_MAX {
            return Err(Error::corrupt(format_args!("a span of order {order} at granule {granule}")));
        }
        if order >= ZONE_ORDER {
            return self.set_summary(KIND_ZONES + (order - ZONE_ORDER) as usize, zone, on);
        }
        let (first, words) = free_bits(order);
        let bit = (granule % ZONE) >> order;
        let bitmap = &self.zone(zone)?.free[first..first + words];
        set_bit(&bitmap[(bit / 64) as usize], bit % 64, on);
        crash_point!("free-bit");
        let any = on || bitmap.iter().any(|word| word.load(Ordering::Relaxed) != 0);
        self.set_summary(KIND_FREE + order as usize, zone, any)
    }

    #[inline]
    fn set_room(&self, granule: u64, class: usize, on: bool) -> Result<()> {
        let zone = granule / ZONE;
        let bitmap = self.class_bits(zone, class)?;
        let bit = granule % ZONE;
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
        self.set_summary(class, zone, any)
    }

    fn class_bits(&self, zone: u64, class: usize) -> Result<&'a [AtomicU64; 16]> {
        let classes = &self.zone(zone)?.classes;
        classes.get(class).ok_or_else(|| Error::corrupt(format_args!("a slab of class {class} in zone {zone}")))
    }

    fn slab(&self, granule: u64) -> Result<&'a SlabHead> {
        self.mem.at(self.geo.granule_at(granule))
    }

    /// Lowest free block of a slab.
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

    /// Is no block of this slab used?
    pub fn slab_is_empty(&self, granule: u64) -> Result<bool> {
        Ok(self.slab(granule)?.used.iter().all(|word| word.load(Ordering::Relaxed) == 0))
    }

    /// Is this block's bit set?
    pub fn block_used(&self, granule: u64, block: u64) -> Result<bool> {
        let word = self.slab(granule)?.used.get((block / 64) as usize);
        Ok(word.is_some_and(|word| word.load(Ordering::Relaxed) >> (block % 64) & 1 == 1))
    }

    // --- applying: every store is of a stated result ---

    /// Makes a span edit of a valid intent.
    pub fn apply_span(&self, edit: &SpanEdit) -> Result<()> {
        let SpanEdit { granule, before, after } = *edit;
        let word = self.entry_word(granule)?;
        word.store(after.0 | word.load(Ordering::Relaxed) & Entry::STICKY, Ordering::Relaxed);
        crash_point!("span-stored");
        // CRASH: the bitmaps still say `before`; the intent's next application moves them.
        match before.state() {
            SpanState::Free => self.set_free(granule, before.order(), false)?,
            SpanState::Slab => self.set_room(granule, before.class(), false)?,
            _ => {}
        }
        match after.state() {
            SpanState::Free => self.set_free(granule, after.order(), true)?,
            SpanState::Slab => {
                self.set_room(granule, after.class(), self.free_block(granule, after.class())?.is_some())?
            }
            _ => {}
        }
        crash_point!("span-applied");
        Ok(())
    }

    /// Makes a block edit of a valid intent.
    #[inline]
    pub fn apply_block(&self, granule: u64, block: u64, set: bool) -> Result<()> {
        let class = self.entry(granule)?.class();
        set_bit(&self.slab(granule)?.used[(block / 64 % 8) as usize], block % 64, set);
        crash_point!("block-stored");
        // CRASH: the class bit may be wrong until the intent's next application.
        let room = !set || self.free_block(granule, class)?.is_some();
        self.set_room(granule, class, room)?;
        crash_point!("block-applied");
        Ok(())
    }

    /// Could this edit be one of ours? Asked of every edit of an intent found valid, before any of it is applied.
    pub fn edit_is_sound(&self, edit: &SpanEdit, zones: u64) -> bool {
        let sound = |entry: Entry| {
            let fits = entry.state() == SpanState::None || self.fits(edit.granule, entry.order(), zones);
            fits && entry.state() != SpanState::Bad
                && (entry.state() != SpanState::Slab || entry.class() < CLASSES.len())
        };
        edit.granule < zones.min(self.geo.zones_max) * ZONE && sound(edit.before) && sound(edit.after)
    }

    /// Is this a place for a span of this order?
    pub fn fits(&self, granule: u64, order: u32, zones: u64) -> bool {
        let zones = zones.min(self.geo.zones_max);
        order <= ORDER_MAX
            && granule < zones * ZONE
            && granule.is_multiple_of(1 << order)
            && granule + (1 << order) <= zones * ZONE
    }

    // --- finding and planning ---

    fn first_zone(&self, kind: usize) -> Result<Option<u64>> {
        let zones = self.zones();
        for group in 0..zones.div_ceil(64) {
            // Bits of zones that are not in use are none of ours.
            let used = (zones - group * 64).min(64);
            let word = self.group(group)?.kinds[kind].load(Ordering::Relaxed) & (u64::MAX >> (64 - used));
            if word != 0 {
                return Ok(Some(group * 64 + u64::from(word.trailing_zeros())));
            }
        }
        Ok(None)
    }

    fn first_bit(words: &[AtomicU64]) -> Option<u64> {
        let (i, word) = words.iter().map(|w| w.load(Ordering::Relaxed)).enumerate().find(|(_, w)| *w != 0)?;
        Some(i as u64 * 64 + u64::from(word.trailing_zeros()))
    }

    /// A slab of this class with a free block.
    pub fn find_slab(&self, class: usize) -> Result<Option<(u64, u64)>> {
        for _ in 0..WRONG_BITS {
            let Some(zone) = self.first_zone(class)? else { return Ok(None) };
            let Some(bit) = Self::first_bit(&self.zone(zone)?.classes[class]) else {
                self.set_summary(class, zone, false)?;
                continue;
            };
            let granule = zone * ZONE + bit;
            let entry = self.entry(granule)?;
            if entry.state() == SpanState::Slab && entry.class() == class {
                if let Some(block) = self.free_block(granule, class)? {
                    return Ok(Some((granule, block)));
                }
            }
            self.set_room(granule, class, false)?;
        }
        Err(Error::corrupt("the bitmaps of slabs"))
    }

    /// Do the slabs of this class have so many free blocks?
    pub fn has_blocks(&self, class: usize, needed: u64) -> Result<bool> {
        let mut free = 0;
        for zone in 0..self.zones() {
            if self.group(zone / 64)?.kinds[class].load(Ordering::Relaxed) >> (zone % 64) & 1 == 0 {
                continue;
            }
            for bit in 0..ZONE {
                let word = self.zone(zone)?.classes[class][(bit / 64) as usize].load(Ordering::Relaxed);
                let granule = zone * ZONE + bit;
                let entry = self.entry(granule)?;
                if word >> (bit % 64) & 1 == 1 && entry.state() == SpanState::Slab && entry.class() == class {
                    let used: u32 =
                        self.slab(granule)?.used.iter().map(|w| w.load(Ordering::Relaxed).count_ones()).sum();
                    free += blocks_of(class).saturating_sub(u64::from(used));
                }
                if free >= needed {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The lowest free span of the smallest order that is at least `order`.
    fn find_free(&self, order: u32) -> Result<Option<(u64, Entry)>> {
        let mut wrong = 0;
        let mut at_order = order;
        while at_order <= ORDER_MAX && wrong < WRONG_BITS {
            let kind = match at_order {
                0..ZONE_ORDER => KIND_FREE + at_order as usize,
                _ => KIND_ZONES + (at_order - ZONE_ORDER) as usize,
            };
            let Some(zone) = self.first_zone(kind)? else {
                at_order += 1;
                continue;
            };
            let mut granule = zone * ZONE;
            if at_order < ZONE_ORDER {
                let (first, words) = free_bits(at_order);
                let Some(bit) = Self::first_bit(&self.zone(zone)?.free[first..first + words]) else {
                    self.set_summary(kind, zone, false)?;
                    wrong += 1;
                    continue;
                };
                granule += bit << at_order;
            }
            let entry = self.entry(granule)?;
            let real = entry.state() == SpanState::Free && entry.order() == at_order;
            if real && self.fits(granule, at_order, self.zones()) {
                return Ok(Some((granule, entry)));
            }
            self.set_free(granule, at_order, false)?;
            wrong += 1;
        }
        if wrong < WRONG_BITS { Ok(None) } else { Err(Error::corrupt("the bitmaps of free spans")) }
    }

    /// Plans to take a span of this order, which becomes `state` with its pages known to be present. `None`: no room in
    /// the zones in use.
    pub fn plan_take(&self, order: u32, state: Entry, change: &mut Change) -> Result<Option<(u64, Entry)>> {
        let Some((granule, found)) = self.find_free(order)? else { return Ok(None) };
        self.plan_take_from(granule, found, order, state, change)
    }

    /// Plans to take one granule whose pages are known to be present, wherever it lies. `None`: there is none at hand.
    pub fn plan_take_present(&self, state: Entry, change: &mut Change) -> Result<Option<(u64, Entry)>> {
        let Some((granule, found)) = self.find_present()? else { return Ok(None) };
        self.plan_take_from(granule, found, 0, state, change)
    }

    /// A free span whose first granule is present, the smallest ones first.
    fn find_present(&self) -> Result<Option<(u64, Entry)>> {
        // So many absent spans are passed over in one search: more cost more than the pages that they would save.
        let mut looks = 512;
        for order in 0..ZONE_ORDER {
            let (first, words) = free_bits(order);
            for zone in 0..self.zones() {
                if self.group(zone / 64)?.kinds[KIND_FREE + order as usize].load(Ordering::Relaxed) >> (zone % 64) & 1 == 0 {
                    continue;
                }
                for (number, word) in self.zone(zone)?.free[first..first + words].iter().enumerate() {
                    let mut bits = word.load(Ordering::Relaxed);
                    while bits != 0 && looks > 0 {
                        let granule = zone * ZONE + ((number as u64 * 64 + u64::from(bits.trailing_zeros())) << order);
                        let entry = self.entry(granule)?;
                        let free = entry.state() == SpanState::Free && entry.order() == order;
                        if free && entry.present() >= pages_of(0) && self.fits(granule, order, self.zones()) {
                            return Ok(Some((granule, entry)));
                        }
                        bits &= bits - 1;
                        looks -= 1;
                    }
                }
            }
        }
        Ok(None)
    }

    fn plan_take_from(
        &self,
        granule: u64,
        found: Entry,
        order: u32,
        state: Entry,
        change: &mut Change,
    ) -> Result<Option<(u64, Entry)>> {
        let mut present = found.present();
        // CRASH: the order of these edits is of no matter, the intent makes them all.
        for half in (order..found.order()).rev() {
            let right = granule + (1 << half);
            let beyond = present.saturating_sub(pages_of(half));
            change.span(right, Entry(0), Entry::new(SpanState::Free, half).with_present(beyond));
            present = present.min(pages_of(half));
        }
        let taken = Entry(state.0 & !(0x3f << 4) | u64::from(order) << 4).with_present(present);
        change.span(granule, found, taken);
        Ok(Some((granule, taken)))
    }

    /// Plans to free a span, merged with what is free beside it. `zones`: those in use afterwards.
    pub fn plan_free(&self, granule: u64, before: Entry, order: u32, present: u64, change: &mut Change) -> Result<()> {
        let zones = change.counters.zones;
        let mut heads = vec![(granule, before)];
        let (mut head, mut order, mut present) = (granule, order, present);
        while order < ORDER_MAX {
            let buddy = head ^ (1 << order);
            if !self.fits(buddy.min(head), order + 1, zones) || buddy / ZONE >= self.zones() {
                break;
            }
            let entry = self.entry(buddy)?;
            if entry.state() != SpanState::Free || entry.order() != order {
                break;
            }
            let (left, right) = if head < buddy { (present, entry.present()) } else { (entry.present(), present) };
            // `present` counts from the start: behind a gap nothing is known.
            present = if left == pages_of(order) { left + right } else { left };
            heads.push((buddy, entry));
            head = head.min(buddy);
            order += 1;
        }
        for (at, before) in heads {
            let free = Entry::new(SpanState::Free, order).with_present(present);
            change.span(at, before, if at == head { free } else { Entry(0) });
        }
        Ok(())
    }

    /// Which zones come next into use so that a span of this order fits: up to which zone metadata must be present. `None`: the
    /// reserve is used up.
    pub fn zones_for(&self, order: u32) -> Option<u64> {
        let run = 1 << order.saturating_sub(ZONE_ORDER);
        let end = self.zones().next_multiple_of(run) + run;
        (end <= self.geo.zones_max).then_some(end)
    }

    /// Plans to bring the next aligned run of zones into use, at most up to `end`.
    pub fn plan_zones(&self, end: u64, change: &mut Change) -> Result<()> {
        let zone = self.zones();
        let Some(run) = end.checked_sub(zone).and_then(u64::checked_ilog2) else {
            return Err(Error::corrupt(format_args!("{zone} zones in use, {end} expected at most")));
        };
        let run = run.min(zone.trailing_zeros());
        change.counters.zones = zone + (1 << run);
        self.plan_free(zone * ZONE, Entry(0), ZONE_ORDER + run, 0, change)
    }

    /// Every span of the zones in use, from the left: head and entry. Ends early, with an error, where the map is damaged.
    pub fn spans(self) -> impl Iterator<Item = Result<(u64, Entry)>> + 'a {
        let end = self.zones() * ZONE;
        let mut next = 0;
        std::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let granule = next;
            let entry = match self.entry(granule) {
                Ok(entry) => entry,
                Err(error) => {
                    next = end;
                    return Some(Err(error));
                }
            };
            let state = entry.state();
            if matches!(state, SpanState::None | SpanState::Bad) || !self.fits(granule, entry.order(), end / ZONE) {
                next = end;
                return Some(Err(Error::corrupt(format_args!("span map, granule {granule}: {entry:?}"))));
            }
            next += 1 << entry.order();
            Some(Ok((granule, entry)))
        })
    }
}
