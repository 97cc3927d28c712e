//! One zone of the arena: spans and free granules cover it exactly, what is in use is named by a table, and every
//! derived bit says what it is derived from (docs/format.md, "Zone metadata", "Slab"; invariants 2 to 5, 11 and 12).
//! Slots are looked at in `table`, before the zones. What one zone in one hold proves is in docs/protocol.md, "Check".

use super::checker::Checker;
use super::invariant::{LISTS, ensure};
use super::last_span::LastSpan;
use super::leaf_id::doomed;
use super::participants::in_use;
use super::suspects::{unnamed_block, unnamed_leaf, unnamed_span};
use crate::arena::Arena;
use crate::bit_runs::{longest_run, mask, split_at_units};
use crate::error::Result;
use crate::fallible;
use crate::format::{
    CLASSES, FIRST_RUN_KIND, RUN_KINDS, Root, SpanEntry, SpanState, ZONE, ZONE_WORDS, blocks_of, granules_of,
    slab_granules, slab_has_all_pages,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a zone's bitmaps should be, derived from its span map and its slabs.
struct ZoneBitmaps {
    /// For each size class, the slabs that have a free block.
    rooms: [[u64; 16]; CLASSES.len()],
    /// The granules that are free.
    free: [u64; ZONE_WORDS],
}

impl ZoneBitmaps {
    /// Those of a zone without spans.
    const NO_SPANS: ZoneBitmaps = ZoneBitmaps { rooms: [[0; 16]; CLASSES.len()], free: [u64::MAX; ZONE_WORDS] };
}

impl Checker<'_> {
    /// Verifies a zone: the spans that begin in it, its bitmaps, and its part of the summary.
    pub(super) fn check_zone(&mut self, zone: u64) -> Result<()> {
        let arena = self.att.arena();
        let (first, end, zones) = (zone * ZONE, (zone + 1) * ZONE, arena.zones());
        let mut bits = ZoneBitmaps::NO_SPANS;
        let mut at = self.head_of(first)?;
        while at < end {
            let (_, entry, len) = arena.step(at, zones * ZONE)?;
            let (from, to) = (at.max(first), (at + len).min(end));
            if entry.is_none() {
                self.report.free += len;
                self.check_inside(at, at + len)?;
            } else {
                for (word, first, len) in split_at_units(from - first, to - from, 64) {
                    bits.free[word as usize] &= !mask(first, len);
                }
                if at >= first {
                    self.check_begun_span(at, entry, &mut bits)?;
                }
                self.check_inside(from.max(at + 1), to)?;
                self.last_span = LastSpan { head: at, entry };
            }
            at += len;
        }
        check_bits(&arena, zone, &bits)
    }

    /// The first granule of the span that covers a granule; the granule itself if it is free or begins a span. The span
    /// that was met last saves the search to the left, if its entry is still the same.
    fn head_of(&self, granule: u64) -> Result<u64> {
        let (arena, LastSpan { head, entry }) = (self.att.arena(), self.last_span);
        if head < granule && head + entry.len() > granule && arena.entry(head)? == entry {
            return Ok(head);
        }
        arena.head_of(granule)
    }

    /// Verifies a span that begins in this zone, and enters it into the bitmaps.
    fn check_begun_span(&mut self, granule: u64, entry: SpanEntry, bits: &mut ZoneBitmaps) -> Result<()> {
        match entry.state() {
            SpanState::Filling | SpanState::Freeing => {
                self.report.busy += 1;
                let owner = entry.owner();
                let record = in_use(self.live, owner);
                let taking = record.is_some_and(|record| record.spans.load(Ordering::Relaxed) == 1);
                ensure!(
                    taking,
                    11,
                    "the span at granule {granule} is participant {owner}'s, whose record says that it has taken none"
                );
            }
            SpanState::Live => {
                self.report.live += 1;
                if !self.references.names_span(granule) {
                    if self.unchanged {
                        return unnamed_span(granule);
                    }
                    fallible::replace(&mut self.suspects.spans, granule, LISTS)?;
                }
            }
            SpanState::Retired => {
                self.report.retired += 1;
                self.totals.retired += entry.len();
            }
            SpanState::Slab => {
                self.report.slabs += 1;
                self.check_slab(granule, entry)?;
                if self.att.arena().free_block(granule, entry.class())?.is_some() {
                    let bit = granule % ZONE / 4;
                    bits.rooms[entry.class()][(bit / 64) as usize] |= 1 << (bit % 64);
                }
            }
            SpanState::Leaf => {
                if !self.references.names_leaf(granule, entry.len()) {
                    if self.unchanged {
                        return unnamed_leaf(self.att, granule);
                    }
                    fallible::replace(&mut self.suspects.leaves, granule, LISTS)?;
                }
            }
            SpanState::Directory => {
                let is = |root: Root| {
                    let len = granules_of(8 << root.depth().min(63));
                    root.0 != 0 && root.granule() == granule && len == entry.len()
                };
                let state = self.att.state();
                let roots = [&state.root, &state.names].map(|word| Root(word.load(Ordering::Relaxed)));
                let right = roots.into_iter().any(is) || is(doomed(self.att).0);
                ensure!(right, 3, "no root names the directory at granule {granule}: {entry:?}");
            }
            // The walk over the span map stops with an error before it gives either of them.
            SpanState::None | SpanState::Damaged => {}
        }
        self.check_sticky(granule, entry)
    }

    /// Compares a slab's bits with the blocks that slots name.
    fn check_slab(&mut self, granule: u64, entry: SpanEntry) -> Result<()> {
        let arena = self.att.arena();
        let sound = entry.class() < CLASSES.len() && entry.len() == slab_granules(entry.class());
        ensure!(sound, 3, "slab at granule {granule}: {entry:?}");
        let present = if slab_has_all_pages(entry.class()) { entry.len() } else { 1 };
        ensure!(arena.is_present(granule, present)?, 12, "the slab at granule {granule} is not said to be present");
        let (used, named) = (arena.used_words(granule)?, self.references.blocks_of(granule));
        let beyond = used.iter().rposition(|word| *word != 0);
        let last = beyond.map(|word| word as u64 * 64 + 63 - u64::from(used[word].leading_zeros()));
        let last = last.filter(|last| *last >= blocks_of(entry.class()));
        ensure!(last.is_none(), 2, "block {} of granule {granule}: {entry:?}", last.unwrap_or(0));
        self.report.blocks += used.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        // A block that was named and is free now is no damage: the look at its slot saw it in use, and it was freed
        // since.
        let mut unnamed = used;
        unnamed.iter_mut().zip(named).for_each(|(used, named)| *used &= !named);
        if unnamed == [0; 8] {
            return Ok(());
        }
        if self.unchanged {
            return unnamed_block(granule, unnamed);
        }
        self.suspects.add_blocks(granule, unnamed)
    }

    /// Verifies that granules in which readers look without a pin are sticky.
    fn check_sticky(&self, granule: u64, entry: SpanEntry) -> Result<()> {
        if matches!(entry.state(), SpanState::Slab | SpanState::Leaf | SpanState::Directory) {
            for inner in granule..granule + entry.len() {
                ensure!(self.att.arena().is_sticky(inner)?, 12, "granule {inner} of {entry:?} is not sticky");
            }
        }
        Ok(())
    }

    /// Verifies that granules that begin no span have an empty entry.
    fn check_inside(&self, from: u64, to: u64) -> Result<()> {
        for inner in from..to {
            let entry = self.att.arena().entry(inner)?;
            ensure!(entry.is_none(), 3, "granule {inner} begins no span and says {entry:?}");
        }
        Ok(())
    }
}

/// Compares all words of a zone's bitmaps, and all kinds of the summary, with what they are derived from.
fn check_bits(arena: &Arena<'_>, zone: u64, bits: &ZoneBitmaps) -> Result<()> {
    let meta = arena.zone(zone)?;
    let mut kinds = [false; 128];
    let differs = |found: &[AtomicU64], right: &[u64]| {
        found.iter().zip(right).position(|(found, right)| found.load(Ordering::Relaxed) != *right)
    };
    for (class, right) in bits.rooms.iter().enumerate() {
        let wrong = differs(&meta.nonfull_slabs[class], right);
        ensure!(wrong.is_none(), 5, "zone {zone}: the bitmap of slabs of class {class}, word {}", wrong.unwrap_or(0));
        kinds[class] = right.iter().any(|word| *word != 0);
    }
    let wrong = differs(&meta.free, &bits.free);
    ensure!(wrong.is_none(), 4, "zone {zone}: the bitmap of free granules, word {}", wrong.unwrap_or(0));
    let longest = longest_run(bits.free.iter().copied());
    for kind in 0..RUN_KINDS {
        kinds[FIRST_RUN_KIND + kind] = longest >= 1 << kind;
    }
    let group = arena.group(zone / 64)?;
    for (kind, right) in kinds.into_iter().enumerate() {
        let says = group.kinds[kind].load(Ordering::Relaxed);
        ensure!(
            (says >> (zone % 64) & 1 == 1) == right,
            5,
            "the summary of zones from {}, kind {kind}: {says:#x}, of zone {zone}",
            zone / 64 * 64
        );
    }
    Ok(())
}
