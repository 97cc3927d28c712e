//! The arena: spans of granules. The span map is the truth; the bitmaps and the summary, which find free memory in it,
//! are derived from it.
//!
//! This floor knows the metadata of zones and the bitmaps of slabs. It plans edits of a
//! [`Change`](crate::sync::intent::Change), and applies them. It does not know who holds the writer lock, what is
//! stored in a span, or how pages are obtained. It offers [`Arena`], a view of a mapped segment.
//!
//! A granule that belongs to no span is free, so nothing has to be merged or split: each step is one edit. All
//! functions are called under the writer lock, except [`Arena::entry`], which readers call, too. The protocols are
//! "Small records", "Large records: spans and pins" and "Giving back" in `docs/protocol.md`; the bytes are "Zone
//! metadata" and "Slab" in `docs/format.md`.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `mod` | zones, their bitmaps and summary; applying an edit of the span map |
//! | `run` | runs of granules: finding free ones, planning, walking over all spans |
//! | `block` | blocks of slabs: finding a free one, applying an edit of a block |

mod block;
mod run;

use crate::bit_runs::{longest_run, mask, split_at_units};
use crate::error::{Error, Result};
use crate::format::{
    CLASSES, FIRST_RUN_KIND, Geometry, RUN_KINDS, SpanEntry, SpanState, ZONE, ZONE_WORDS, ZoneGroup, ZoneMeta, at,
    slab_granules,
};
use crate::os::mem::Mem;
use crate::sync::intent::SpanEdit;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of wrong bits that a search corrects before it gives up. Only a hostile writer leaves so many.
const WRONG_BITS_MAX: u32 = 1 << 16;

/// Private to the process: a view of the arena of a mapped segment.
#[derive(Clone, Copy)]
pub struct Arena<'a> {
    /// The memory of the segment.
    pub mem: &'a Mem,
    /// Where everything is in the segment.
    pub geo: &'a Geometry,
}

/// Chooses one bitmap of a zone.
type Bitmap = fn(&ZoneMeta) -> &[AtomicU64; ZONE_WORDS];

/// Sets or clears one bit of a word. Does not store where the bit is right already.
#[inline(always)]
fn set_bit(word: &AtomicU64, bit: u64, on: bool) {
    let old = word.load(Ordering::Relaxed);
    let new = if on { old | 1 << bit } else { old & !(1 << bit) };
    if new != old {
        word.store(new, Ordering::Relaxed);
    }
}

impl<'a> Arena<'a> {
    /// Returns the metadata of a zone. The caller knows that the zone is in use, or is about to come into use.
    #[inline(always)]
    pub fn zone(&self, zone: u64) -> Result<&'a ZoneMeta> {
        if zone >= self.geo.zones_max {
            return Err(Error::corrupt(format_args!("zone {zone} of {}", self.geo.zones_max)));
        }
        self.mem.at(self.geo.zone_at(zone))
    }

    /// Returns the summary of 64 zones.
    #[inline(always)]
    pub fn group(&self, group: u64) -> Result<&'a ZoneGroup> {
        self.mem.at(at::SUMMARY + group * 1_024)
    }

    /// Returns the number of zones in use, and never more than the arena has. The pages of their metadata are present.
    #[inline(always)]
    pub fn zones(&self) -> u64 {
        self.mem.state().zones.load(Ordering::Acquire).min(self.geo.zones_max)
    }

    /// Returns the word of the span map for a granule of a zone in use.
    #[inline(always)]
    fn entry_word(&self, granule: u64) -> Result<&'a AtomicU64> {
        if granule / ZONE >= self.zones() {
            return Err(Error::corrupt(format_args!("granule {granule} lies beyond the zones in use")));
        }
        Ok(&self.zone(granule / ZONE)?.entries[(granule % ZONE) as usize])
    }

    /// Returns the entry of a granule in the span map.
    #[inline(always)]
    pub fn entry(&self, granule: u64) -> Result<SpanEntry> {
        Ok(SpanEntry(self.entry_word(granule)?.load(Ordering::Relaxed)))
    }

    /// Returns `true` if a span of `len` granules that begins at `granule` would end within the first `zones` zones.
    #[inline]
    pub fn fits(&self, granule: u64, len: u64, zones: u64) -> bool {
        let end = zones.min(self.geo.zones_max) * ZONE;
        len > 0 && granule < end && len <= end - granule
    }

    // --- bitmaps of granules ---

    /// Sets or clears the bits of a run of granules, which may cross zones.
    fn set_range(&self, bitmap: Bitmap, granule: u64, len: u64, on: bool) -> Result<()> {
        for (zone, first, len) in split_at_units(granule, len, ZONE) {
            let words = bitmap(self.zone(zone)?);
            for (word, first, len) in split_at_units(first, len, 64) {
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

    /// Returns `true` if the bits of all granules of a run are set.
    #[inline]
    fn all_set(&self, bitmap: Bitmap, granule: u64, len: u64) -> Result<bool> {
        let bit = granule % 64;
        if len > 0 && bit + len <= 64 {
            // The usual case: all bits are in one word.
            let words = bitmap(self.zone(granule / ZONE)?);
            let bits = mask(bit, len);
            return Ok(words[(granule % ZONE / 64) as usize].load(Ordering::Relaxed) & bits == bits);
        }
        for (zone, first, len) in split_at_units(granule, len, ZONE) {
            let words = bitmap(self.zone(zone)?);
            // Whole words are nearly all of a long run, and need no mask.
            let (from, end) = (first.div_ceil(64) as usize, ((first + len) / 64) as usize);
            let whole = words.get(from..end).unwrap_or_default();
            if whole.iter().any(|word| word.load(Ordering::Relaxed) != u64::MAX) {
                return Ok(false);
            }
            let head = (first, first.next_multiple_of(64).min(first + len) - first);
            let tail = ((first + len) / 64 * 64).max(first + head.1);
            for (first, len) in [head, (tail, first + len - tail)] {
                for (word, first, len) in split_at_units(first, len, 64) {
                    let bits = mask(first, len);
                    if words[word as usize].load(Ordering::Relaxed) & bits != bits {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Returns `true` if the pages of all granules of a run are known to be present.
    pub fn is_present(&self, granule: u64, len: u64) -> Result<bool> {
        self.all_set(|zone| &zone.present, granule, len)
    }

    /// Counts the granules of a run whose pages are known to be present.
    pub fn count_present(&self, granule: u64, len: u64) -> Result<u64> {
        let mut present = 0;
        for (zone, first, len) in split_at_units(granule, len, ZONE) {
            let words = &self.zone(zone)?.present;
            for (word, first, len) in split_at_units(first, len, 64) {
                present += u64::from((words[word as usize].load(Ordering::Relaxed) & mask(first, len)).count_ones());
            }
        }
        Ok(present)
    }

    /// Records that the pages of a run are present, or that they may be absent. The caller obtains pages before it
    /// records them as present, and punches pages after it has recorded that they may be absent.
    pub fn set_present(&self, granule: u64, len: u64, on: bool) -> Result<()> {
        // CRASH: some bits are stored. Each bit is right by itself: a page that is present without its bit is obtained
        // again, or punched.
        self.set_range(|zone| &zone.present, granule, len, on)?;
        crash_point!("present-stored");
        Ok(())
    }

    /// Records that readers may look into the granules of a run from now on, or that none does any more. Before the
    /// latter, the caller has waited for the read sections that were under way.
    pub fn set_sticky(&self, granule: u64, len: u64, on: bool) -> Result<()> {
        self.set_range(|zone| &zone.sticky, granule, len, on)?;
        crash_point!("sticky-stored");
        Ok(())
    }

    /// Returns `true` if readers may still look into a granule, whatever it is used for now.
    pub fn is_sticky(&self, granule: u64) -> Result<bool> {
        self.all_set(|zone| &zone.sticky, granule, 1)
    }

    /// Returns `true` if a granule was freed since the last round of giving sticky granules back began.
    pub fn is_fresh(&self, granule: u64) -> Result<bool> {
        self.all_set(|zone| &zone.fresh, granule, 1)
    }

    /// Returns `true` if a granule belongs to no span.
    pub fn is_free(&self, granule: u64) -> Result<bool> {
        self.all_set(|zone| &zone.free, granule, 1)
    }

    /// Returns `true` if any free granule is sticky.
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

    /// Clears all *fresh* bits. From then on a granule is fresh if it is freed after this call.
    pub fn clear_fresh(&self) -> Result<()> {
        for zone in 0..self.zones() {
            for word in self.zone(zone)?.fresh.iter().filter(|word| word.load(Ordering::Relaxed) != 0) {
                word.store(0, Ordering::Relaxed);
            }
            crash_point!("fresh-cleared");
        }
        Ok(())
    }

    /// Returns `true` if a zone has no span and all of its memory was given back.
    pub fn zone_is_empty(&self, zone: u64) -> Result<bool> {
        let meta = self.zone(zone)?;
        let none = |words: &[AtomicU64; ZONE_WORDS]| words.iter().all(|word| word.load(Ordering::Relaxed) == 0);
        Ok(self.all_set(|zone| &zone.free, zone * ZONE, ZONE)? && none(&meta.present) && none(&meta.sticky))
    }

    /// Returns `true` if the last zone in use is empty and is not the only one.
    pub fn last_zone_is_empty(&self) -> Result<bool> {
        match self.zones() {
            0 | 1 => Ok(false),
            zones => self.zone_is_empty(zones - 1),
        }
    }

    // --- what is derived from the span map ---

    /// Sets or clears the bit of a zone in the summary of one kind.
    fn set_summary(&self, kind: usize, zone: u64, on: bool) -> Result<()> {
        set_bit(&self.group(zone / 64)?.kinds[kind], zone % 64, on);
        Ok(())
    }

    /// Marks the granules of a run as free, or as part of a span, and updates the summary of their zones.
    fn set_free(&self, granule: u64, len: u64, on: bool) -> Result<()> {
        self.set_range(|zone| &zone.free, granule, len, on)?;
        crash_point!("free-bits");
        for (zone, ..) in split_at_units(granule, len, ZONE) {
            self.update_run_summary(zone)?;
        }
        crash_point!("summary-bits");
        Ok(())
    }

    /// Stores in the summary how long the longest run of free granules in a zone is.
    fn update_run_summary(&self, zone: u64) -> Result<()> {
        let longest = longest_run(self.zone(zone)?.free.iter().map(|word| word.load(Ordering::Relaxed)));
        let group = self.group(zone / 64)?;
        for kind in 0..RUN_KINDS {
            set_bit(&group.kinds[FIRST_RUN_KIND + kind], zone % 64, longest >= 1 << kind);
        }
        Ok(())
    }

    // --- applying: every store is of an absolute result, so applying twice is applying once ---

    /// Applies an edit of the span map, which the valid intent describes.
    pub fn apply_span(&self, edit: &SpanEdit) -> Result<()> {
        let SpanEdit { granule, before, after } = *edit;
        // The zone may be about to come into use, so it is not compared with the zones in use. The edit was checked
        // before.
        let entry = &self.zone(granule / ZONE)?.entries[(granule % ZONE) as usize];
        entry.store(after.0, Ordering::Relaxed);
        crash_point!("span-stored");
        // CRASH: the bitmaps still describe `before`. Applying the intent again updates them.
        if before.len() > after.len() {
            if matches!(before.state(), SpanState::Slab | SpanState::Leaf | SpanState::Directory) {
                // Before the granules become free: a free granule that is not fresh counts as aged, and may be given
                // back.
                self.set_range(|zone| &zone.fresh, granule + after.len(), before.len() - after.len(), true)?;
            }
            self.set_free(granule + after.len(), before.len() - after.len(), true)?;
        }
        // The granules of `before` are not free, and those that stay in the span are not touched.
        if after.len() > before.len() {
            self.set_free(granule, after.len(), false)?;
        }
        if before.state() == SpanState::Slab {
            self.set_nonfull(granule, before.class(), false)?;
        }
        match after.state() {
            SpanState::Slab => {
                self.set_sticky(granule, after.len(), true)?;
                self.set_nonfull(granule, after.class(), self.free_block(granule, after.class())?.is_some())?;
            }
            SpanState::Leaf | SpanState::Directory => self.set_sticky(granule, after.len(), true)?,
            _ => {}
        }
        match after.state() {
            // All granules of such a span were written before the change was decided, so their pages are present.
            SpanState::Live | SpanState::Leaf | SpanState::Directory => {
                self.set_present(granule, after.len(), true)?;
            }
            // The owner is about to punch these pages. If it dies, the process that reaps it must not take holes for
            // pages.
            SpanState::Freeing => self.set_present(granule, after.len(), false)?,
            _ => {}
        }
        crash_point!("span-applied");
        Ok(())
    }

    /// Returns `true` if a sound process could have planned this edit. A process that repairs checks every edit of the
    /// intent that it found valid, before it applies any of them.
    pub fn edit_is_sound(&self, edit: &SpanEdit, zones: u64) -> bool {
        let sound = |entry: SpanEntry| match entry.state() {
            SpanState::None => entry.is_none(),
            SpanState::Damaged => false,
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

    /// Iterates over the zones in use whose summary bit of `kind` is set, the lowest first.
    fn zones_with(self, kind: usize) -> impl Iterator<Item = Result<u64>> + 'a {
        let zones = self.zones();
        (0..zones.div_ceil(64)).flat_map(move |group| {
            // The bits of zones that are not in use are ignored.
            let in_use = u64::MAX >> (64 - (zones - group * 64).min(64));
            let (mut bits, mut failed) = match self.group(group) {
                Ok(found) => (found.kinds[kind].load(Ordering::Relaxed) & in_use, None),
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

    /// Writes the metadata of the zones up to `end` that are about to come into use: all granules are free. The pages
    /// of the metadata are present already, and no other process uses them yet.
    pub fn open_zones(&self, end: u64) -> Result<()> {
        for zone in self.zones()..end {
            let meta = self.zone(zone)?;
            let bits =
                meta.present.iter().chain(&meta.sticky).chain(&meta.fresh).chain(meta.nonfull_slabs.iter().flatten());
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
            self.update_run_summary(zone)?;
            // CRASH: the zone is not in use. The process that brings it into use writes all of its metadata again.
            crash_point!("zone-opened");
        }
        Ok(())
    }
}
