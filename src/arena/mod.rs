//! Spans of granules: the span map, which is the truth, and the bitmaps that find room in it.
//!
//! A granule that belongs to no span is free, so there is nothing to merge and nothing to split: every step is one edit
//! of a [`Change`](crate::sync::intent::Change). All of it is called under the writer lock, but for what readers ask of an entry.

mod block;
mod run;

use crate::bit_runs::{longest_run, mask, range};
use crate::error::{Error, Result};
use crate::format::{
    CLASSES, Geometry, Group, KIND_RUN, RUN_KINDS, SpanEntry, SpanState, ZONE, ZONE_WORDS, ZoneMeta, at, slab_granules,
};
use crate::os::mem::Mem;
use crate::sync::intent::SpanEdit;
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
    pub fn entry(&self, granule: u64) -> Result<SpanEntry> {
        Ok(SpanEntry(self.entry_word(granule)?.load(Ordering::Relaxed)))
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

    /// Could this edit be one of ours? Asked of every edit of an intent found valid, before any of it is applied.
    pub fn edit_is_sound(&self, edit: &SpanEdit, zones: u64) -> bool {
        let sound = |entry: SpanEntry| match entry.state() {
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
}
