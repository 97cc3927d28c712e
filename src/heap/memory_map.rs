//! A picture of the arena for people: what each part of the addresses in use is used for.
//!
//! Nobody holds the writer lock, so the picture is a guess while other processes write. Nothing depends on it. The
//! bytes are "Zone metadata" in docs/format.md.

use crate::error::Result;
use crate::fallible;
use crate::format::{GRANULE, SpanEntry, SpanState, ZONE, ZoneMeta};
use crate::heap::Heap;
use std::sync::atomic::Ordering;

/// Private to the process: the bytes of one part of the arena, by what they are used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// In spans that hold values, and in slabs.
    pub used: u64,
    /// In leaves and directories.
    pub table: u64,
    /// In retired spans: a view still uses them, or they are about to be freed.
    pub held: u64,
    /// In spans that a process is filling or freeing.
    pub filling: u64,
    /// Free, and present: the system gets them back with `trim`.
    pub spare: u64,
    /// Free, and not present: addresses alone.
    pub absent: u64,
}

impl MemoryUse {
    fn add(&mut self, other: &MemoryUse) {
        self.used += other.used;
        self.table += other.table;
        self.held += other.held;
        self.filling += other.filling;
        self.spare += other.spare;
        self.absent += other.absent;
    }

    /// Adds bytes of a span in this state.
    fn add_span(&mut self, state: SpanState, bytes: u64) {
        *match state {
            SpanState::Live | SpanState::Slab => &mut self.used,
            SpanState::Leaf | SpanState::Directory => &mut self.table,
            SpanState::Retired => &mut self.held,
            SpanState::Filling | SpanState::Freeing | SpanState::None | SpanState::Damaged => &mut self.filling,
        } += bytes;
    }
}

/// Private to the process: the span that goes on at the next granule, and how much of it is left.
struct Span {
    state: SpanState,
    left: u64,
}

impl Heap {
    /// Returns what the whole arena is used for, and `cells` parts of it, which have nearly the same number of addresses.
    pub fn memory_map(&self, cells: usize) -> Result<(MemoryUse, Vec<MemoryUse>)> {
        let (zones, mut all) = (self.arena().zones(), MemoryUse::default());
        let mut parts = Vec::new();
        fallible::reserve(&mut parts, cells, "a map of the memory")?;
        parts.resize(cells, MemoryUse::default());
        let mut span = Span { state: SpanState::None, left: 0 };
        for zone in 0..zones {
            let in_zone = |meta: &ZoneMeta| {
                let mut first = 0;
                while first < ZONE {
                    // A part is no longer than a word of the bitmaps, and lies within one cell.
                    let granule = zone * ZONE + first;
                    let cell = (granule as u128 * cells as u128 / (zones * ZONE) as u128) as usize;
                    let end = ((cell as u128 + 1) * (zones * ZONE) as u128).div_ceil(cells.max(1) as u128) as u64;
                    let len = (64 - first % 64).min(end.saturating_sub(granule)).max(1);
                    let part = use_of(meta, first, len, &mut span);
                    all.add(&part);
                    if let Some(cell) = parts.get_mut(cell) {
                        cell.add(&part);
                    }
                    first += len;
                }
            };
            if self.with_zone(zone, in_zone)?.is_none() {
                break; // the zones behind are not in use any more
            }
        }
        Ok((all, parts))
    }
}

/// Returns what `len` granules of a zone are used for, from `first` on. They lie within one word of the bitmaps.
fn use_of(meta: &ZoneMeta, first: u64, len: u64, span: &mut Span) -> MemoryUse {
    let mut found = MemoryUse::default();
    let word = (first / 64) as usize;
    let free = meta.free[word].load(Ordering::Relaxed) >> (first % 64);
    let present = meta.present[word].load(Ordering::Relaxed) >> (first % 64);
    let mut at = 0;
    while at < len {
        if span.left > 0 {
            let of_span = span.left.min(len - at);
            found.add_span(span.state, of_span * GRANULE);
            (span.left, at) = (span.left - of_span, at + of_span);
            continue;
        }
        let entry = SpanEntry(meta.entries[(first + at) as usize].load(Ordering::Relaxed));
        if !entry.is_none() {
            // A damaged length is no reason to go on for ever: what is left is compared with the word each time.
            *span = Span { state: entry.state(), left: entry.len().max(1) };
            continue;
        }
        match (free >> at & 1, present >> at & 1) {
            (1, 0) => found.absent += GRANULE,
            (1, _) => found.spare += GRANULE,
            // Neither free nor the first granule of a span: the map changed meanwhile.
            _ => found.filling += GRANULE,
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ZONE_WORDS;
    use crate::os::mem::SharedCopy;
    use std::sync::atomic::AtomicU64;

    fn zone(spans: &[(u64, SpanState, u64)], present: u64) -> SharedCopy<ZoneMeta> {
        let copy = SharedCopy::<ZoneMeta>::new().unwrap();
        let meta = copy.get();
        let set = |words: &[AtomicU64; ZONE_WORDS], granule: u64| {
            words[(granule / 64) as usize].fetch_or(1 << (granule % 64), Ordering::Relaxed);
        };
        let taken = |granule| spans.iter().any(|(at, _, len)| (*at..at + len).contains(&granule));
        (0..ZONE).filter(|granule| !taken(*granule)).for_each(|granule| set(&meta.free, granule));
        (0..present).for_each(|granule| set(&meta.present, granule));
        for (at, state, len) in spans {
            meta.entries[*at as usize].store(SpanEntry::new(*state, *len).0, Ordering::Relaxed);
        }
        copy
    }

    fn whole(meta: &ZoneMeta, step: u64, span: &mut Span) -> MemoryUse {
        let mut all = MemoryUse::default();
        for word in (0..ZONE).step_by(64) {
            (word..word + 64).step_by(step as usize).for_each(|first| all.add(&use_of(meta, first, step, span)));
        }
        all
    }

    #[test]
    fn each_granule_is_counted_once_by_its_use() {
        let spans = [
            (0, SpanState::Leaf, 3),
            (3, SpanState::Live, 200),
            (203, SpanState::Retired, 1),
            (210, SpanState::Filling, 2),
            (212, SpanState::Slab, 4),
            (4000, SpanState::Directory, 96),
        ];
        let meta = zone(&spans, 1000);
        for step in [1, 2, 16, 64] {
            let found = whole(meta.get(), step, &mut Span { state: SpanState::None, left: 0 });
            let expected = MemoryUse {
                used: 204 * GRANULE,
                table: 99 * GRANULE,
                held: GRANULE,
                filling: 2 * GRANULE,
                spare: (1000 - 216 + 6) * GRANULE,
                absent: 3000 * GRANULE,
            };
            assert_eq!(found, expected, "{step}");
        }
    }

    #[test]
    fn a_span_goes_on_in_the_next_zone_and_a_damaged_length_ends_with_the_zones() {
        let mut span = Span { state: SpanState::None, left: 0 };
        let first = whole(zone(&[(4095, SpanState::Live, 1)], 4096).get(), 64, &mut span);
        assert_eq!((first.used, first.spare), (GRANULE, 4095 * GRANULE));
        let meta = zone(&[], 0);
        meta.get().entries[0].store(SpanEntry::new(SpanState::Live, 5000).0, Ordering::Relaxed);
        let first = whole(meta.get(), 64, &mut span);
        assert_eq!(first.used, ZONE * GRANULE);
        let second = whole(zone(&[], 0).get(), 64, &mut span);
        assert_eq!((second.used, second.absent), ((5000 - ZONE) * GRANULE, (2 * ZONE - 5000) * GRANULE));
    }
}
