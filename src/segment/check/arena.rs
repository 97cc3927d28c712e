//! The arena: covered exactly, each span and block named once, every derived bit what it is derived from.

use super::named::{doomed, unnamed_block, unnamed_leaf, unnamed_span};
use super::slices::Check;
use super::{NAMED, hold};
use crate::arena::Arena;
use crate::bit_runs::{longest_run, mask, split_at_units};
use crate::error::Result;
use crate::fallible;
use crate::format::{
    CLASSES, FIRST_RUN_KIND, RUN_KINDS, Root, SpanEntry, SpanState, ZONE, ZONE_WORDS, blocks_of, granules_of,
    slab_granules, slab_has_all_pages,
};
use crate::segment::check::in_use;
use std::sync::atomic::{AtomicU64, Ordering};

/// A span that begins in one zone and ends in another, as it was seen: its head and entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tile {
    head: u64,
    entry: SpanEntry,
}

/// What a zone's bitmaps should say.
struct Bits {
    rooms: [[u64; 16]; CLASSES.len()],
    free: [u64; ZONE_WORDS],
}

impl Bits {
    const NONE: Bits = Bits { rooms: [[0; 16]; CLASSES.len()], free: [u64::MAX; ZONE_WORDS] };
}

impl Check<'_> {
    /// A zone: the spans that begin in it, what its bitmaps say of it, and the summary.
    pub(super) fn check_zone(&mut self, zone: u64) -> Result<()> {
        let arena = self.att.arena();
        let (first, end, zones) = (zone * ZONE, (zone + 1) * ZONE, arena.zones());
        let mut bits = Bits::NONE;
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
                    self.check_tile(at, entry, &mut bits)?;
                }
                self.check_inside(from.max(at + 1), to)?;
                self.tile = Tile { head: at, entry };
            }
            at += len;
        }
        check_bits(&arena, zone, &bits)
    }

    /// Where what covers this granule begins: itself, where it is free or begins a span.
    fn head_of(&self, granule: u64) -> Result<u64> {
        let (arena, Tile { head, entry }) = (self.att.arena(), self.tile);
        if head < granule && head + entry.len() > granule && arena.entry(head)? == entry {
            return Ok(head);
        }
        arena.head_of(granule)
    }

    /// A span that begins in the zone that is looked at.
    fn check_tile(&mut self, granule: u64, entry: SpanEntry, bits: &mut Bits) -> Result<()> {
        match entry.state() {
            SpanState::Filling | SpanState::Freeing => {
                self.report.busy += 1;
                let owner = entry.owner();
                let record = in_use(self.live, owner);
                let taking = record.is_some_and(|record| record.spans.load(Ordering::Relaxed) == 1);
                hold!(taking, 11, "the span at granule {granule} is participant {owner}'s, who says he has taken none");
            }
            SpanState::Live => {
                self.report.live += 1;
                if !self.named.names_span(granule) {
                    if self.still {
                        return unnamed_span(granule);
                    }
                    fallible::replace(&mut self.suspects.spans, granule, NAMED)?;
                }
            }
            SpanState::Retired => {
                self.report.retired += 1;
                self.retired += entry.len();
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
                if !self.named.names_leaf(granule, entry.len()) {
                    if self.still {
                        return unnamed_leaf(self.att, granule);
                    }
                    fallible::replace(&mut self.suspects.leaves, granule, NAMED)?;
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
                hold!(right, 3, "no root names the directory at granule {granule}: {entry:?}");
            }
            // Not given by the walk.
            SpanState::None | SpanState::Damaged => {}
        }
        self.check_sticky(granule, entry)
    }

    /// A slab's bits against what the slots name.
    fn check_slab(&mut self, granule: u64, entry: SpanEntry) -> Result<()> {
        let arena = self.att.arena();
        let sound = entry.class() < CLASSES.len() && entry.len() == slab_granules(entry.class());
        hold!(sound, 3, "slab at granule {granule}: {entry:?}");
        let present = if slab_has_all_pages(entry.class()) { entry.len() } else { 1 };
        hold!(arena.is_present(granule, present)?, 12, "the slab at granule {granule} is not said to be present");
        let (used, named) = (arena.used_words(granule)?, self.named.blocks_of(granule));
        let beyond = used.iter().rposition(|word| *word != 0);
        let last = beyond.map(|word| word as u64 * 64 + 63 - u64::from(used[word].leading_zeros()));
        let last = last.filter(|last| *last >= blocks_of(entry.class()));
        hold!(last.is_none(), 2, "block {} of granule {granule}: {entry:?}", last.unwrap_or(0));
        self.report.blocks += used.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        // What was named and is used no more was seen to be used then.
        let mut unnamed = used;
        unnamed.iter_mut().zip(named).for_each(|(used, named)| *used &= !named);
        if unnamed == [0; 8] {
            return Ok(());
        }
        if self.still {
            return unnamed_block(granule, unnamed);
        }
        self.suspects.blocks(granule, unnamed)
    }

    /// Granules in which readers look without a pin.
    fn check_sticky(&self, granule: u64, entry: SpanEntry) -> Result<()> {
        if matches!(entry.state(), SpanState::Slab | SpanState::Leaf | SpanState::Directory) {
            for inner in granule..granule + entry.len() {
                hold!(self.att.arena().is_sticky(inner)?, 12, "granule {inner} of {entry:?} is not sticky");
            }
        }
        Ok(())
    }

    /// Granules that begin no span: their entries say nothing.
    fn check_inside(&self, from: u64, to: u64) -> Result<()> {
        for inner in from..to {
            let entry = self.att.arena().entry(inner)?;
            hold!(entry.is_none(), 3, "granule {inner} begins no span and says {entry:?}");
        }
        Ok(())
    }
}

/// A zone's bitmaps, all of their words, and what the summary says of it, all of its kinds.
fn check_bits(arena: &Arena<'_>, zone: u64, bits: &Bits) -> Result<()> {
    let meta = arena.zone(zone)?;
    let mut kinds = [false; 128];
    let differs = |found: &[AtomicU64], right: &[u64]| {
        found.iter().zip(right).position(|(found, right)| found.load(Ordering::Relaxed) != *right)
    };
    for (class, right) in bits.rooms.iter().enumerate() {
        let wrong = differs(&meta.nonfull_slabs[class], right);
        hold!(wrong.is_none(), 5, "zone {zone}: the bitmap of slabs of class {class}, word {}", wrong.unwrap_or(0));
        kinds[class] = right.iter().any(|word| *word != 0);
    }
    let wrong = differs(&meta.free, &bits.free);
    hold!(wrong.is_none(), 4, "zone {zone}: the bitmap of free granules, word {}", wrong.unwrap_or(0));
    let longest = longest_run(bits.free.iter().copied());
    for kind in 0..RUN_KINDS {
        kinds[FIRST_RUN_KIND + kind] = longest >= 1 << kind;
    }
    let group = arena.group(zone / 64)?;
    for (kind, right) in kinds.into_iter().enumerate() {
        let says = group.kinds[kind].load(Ordering::Relaxed);
        hold!(
            (says >> (zone % 64) & 1 == 1) == right,
            5,
            "the summary of zones from {}, kind {kind}: {says:#x}, of zone {zone}",
            zone / 64 * 64
        );
    }
    Ok(())
}
