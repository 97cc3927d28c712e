//! Where everything is in a segment, and the fingerprint that tells one layout from another.
//!
//! The sizes follow from the number of granules, as "Overall" in `docs/format.md` states.

use crate::format::layout::{FIRST_RUN_KIND, IntentArea, REMOVALS, State, WAKE_WORDS};
use crate::format::numbers::{
    BLOCK_EDITS, FORMAT, INLINE_MAX, ITEM_KEY, PARTICIPANTS, PIN_UNITS, QUEUE_ENTRY, QUEUE_HEAD, READERS, SET_SLOTS,
    SPAN_EDITS, STAMPS_MAX, STAMPS_MIN_BITS, STAMPS_PER_GRANULE, ZONE, ZONE_META, at,
};
use crate::format::root::{DEPTH_MAX, LEAF_MAX, SLOT};
use crate::format::size_class::{CLASSES, SLAB_HEAD, slab_granules};
use crate::format::slot_flags::IN_PLACE;
use crate::format::span_entry::GRANULE;
use crate::format::span_lead::lead;
use crate::hash;

/// Private to the process: where everything is in a segment, computed from the number of granules alone. A handle
/// computes it once, when it opens the segment, and never reads it from the segment again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Number of granules of the arena.
    pub granules: u64,
    /// Number of zones of the arena: no more can be in use.
    pub zones_max: u64,
    /// File offset of the zone metadata.
    pub zone_meta: u64,
    /// File offset of the pin bitmaps.
    pub pins: u64,
    /// Bytes from one pin bitmap to the next.
    pub pin_stride: u64,
    /// File offset of the stamps.
    pub stamps: u64,
    /// File offset of the arena.
    pub arena: u64,
    /// Largest length of the file, in bytes: the end of the arena.
    pub length: u64,
}

impl Geometry {
    /// Returns the file offset at which the first `zones` zones of the arena end.
    pub fn end_of_zones(&self, zones: u64) -> u64 {
        self.granule_at(zones.min(self.zones_max) * ZONE)
    }

    /// Computes the geometry of a segment with `granules` granules. Returns `None` if `granules` is 0, is not a
    /// multiple of a zone, or is more than the 32 bits of a granule number can name.
    pub fn new(granules: u64) -> Option<Self> {
        if granules == 0 || !granules.is_multiple_of(ZONE) || granules >= 1 << 32 {
            return None;
        }
        let zones_max = granules / ZONE;
        let groups = zones_max.div_ceil(64);
        let zone_meta = (at::SUMMARY + groups * 1_024).next_multiple_of(GRANULE);
        let pins = zone_meta + zones_max * ZONE_META;
        let pin_stride = (granules / 8).next_multiple_of(GRANULE);
        let stamps = pins + pin_stride * u64::from(PARTICIPANTS);
        let arena = (stamps + stamps_max(granules)).next_multiple_of(2 << 20);
        let length = arena + granules * GRANULE;
        Some(Geometry { granules, zones_max, zone_meta, pins, pin_stride, stamps, arena, length })
    }

    /// Returns the file offset of a granule (below `granules`).
    #[inline(always)]
    pub fn granule_at(&self, granule: u64) -> u64 {
        self.arena + granule * GRANULE
    }

    /// Returns the file offset of a zone's metadata.
    #[inline(always)]
    pub fn zone_at(&self, zone: u64) -> u64 {
        self.zone_meta + zone * ZONE_META
    }

    /// Returns the binary logarithm of the greatest number of stamps.
    #[inline(always)]
    pub fn stamps_max_bits(&self) -> u32 {
        stamps_max(self.granules).ilog2()
    }

    /// Returns the file offset of a participant's reader words.
    #[inline(always)]
    pub fn readers_at(&self, participant: u32) -> u64 {
        at::READERS + u64::from(participant) * 8 * READERS as u64
    }

    /// Returns the file offset of a participant's record.
    pub fn participant_at(&self, participant: u32) -> u64 {
        at::PARTICIPANTS + u64::from(participant) * 64
    }

    /// Returns the size in bytes of one of the 128 parts of a pin bitmap: a multiple of a page.
    pub fn pin_unit(&self) -> u64 {
        self.pin_stride.div_ceil(PIN_UNITS).next_multiple_of(GRANULE)
    }
}

/// Returns the bytes that the table of stamps of an arena has at most.
fn stamps_max(granules: u64) -> u64 {
    (granules * STAMPS_PER_GRANULE).min(STAMPS_MAX)
}

/// Returns the fingerprint of the layout: a hash of the format's constants. Two builds whose layouts differ have
/// different fingerprints, so neither opens the segments of the other.
pub fn fingerprint() -> u64 {
    fingerprint_with(lead)
}

/// The same with another way to place records in spans.
fn fingerprint_with(lead: impl Fn(u64, bool, bool) -> u64) -> u64 {
    let mut text = format!(
        "{FORMAT} {GRANULE} {ZONE} {ZONE_META} {PARTICIPANTS} {READERS} {PIN_UNITS} {LEAF_MAX} {DEPTH_MAX} {INLINE_MAX} {SLOT} \
         {SLAB_HEAD} {SPAN_EDITS} {BLOCK_EDITS} {SET_SLOTS} {FIRST_RUN_KIND} {WAKE_WORDS} {IN_PLACE} {REMOVALS} \
         {QUEUE_HEAD} {QUEUE_ENTRY} {ITEM_KEY} {STAMPS_PER_GRANULE} {STAMPS_MAX} {STAMPS_MIN_BITS} {} {} {} {} {} {} {} {} {} {}",
        at::STATE,
        at::REMOVALS,
        at::INTENT,
        at::WAKE,
        at::PARTICIPANTS,
        at::READERS,
        at::SUMMARY,
        std::mem::offset_of!(State, watch),
        std::mem::offset_of!(State, clock),
        std::mem::offset_of!(IntentArea, spans),
    );
    for (has_buffers, expires) in [(false, false), (false, true), (true, false), (true, true)] {
        text.push_str(&format!(" {}", lead(5, has_buffers, expires)));
    }
    for (class, size) in CLASSES.iter().enumerate() {
        text.push_str(&format!(" {size}/{}", slab_granules(class)));
    }
    hash::of_bytes([u64::from(FORMAT), usize::BITS as u64], text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_that_place_a_record_in_its_span_elsewhere_do_not_open_the_segments_of_each_other() {
        assert_eq!(fingerprint(), fingerprint_with(lead));
        let earlier = |key_len: u64, has_buffers, expires: bool| match has_buffers {
            false => 0,
            true => (key_len + if expires { 8 } else { 0 }).next_multiple_of(64) - key_len,
        };
        assert_ne!(fingerprint(), fingerprint_with(earlier));
    }

    #[test]
    fn geometry_refuses_what_it_cannot_address() {
        assert!(Geometry::new(0).is_none() && Geometry::new(4095).is_none() && Geometry::new(1 << 32).is_none());
        assert!(Geometry::new(u64::MAX - 4095).is_none());
        let geometry = Geometry::new(1 << 24).unwrap();
        assert_eq!(geometry.length - geometry.arena, 64 << 30);
        assert!(geometry.pin_unit() * PIN_UNITS >= geometry.pin_stride);
    }
}
