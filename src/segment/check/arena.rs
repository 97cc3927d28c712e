//! The arena: covered exactly, each span and block named once, every derived bit what it is derived from.

use super::{NAMED, Named, Report, hold};
use crate::arena::Arena;
use crate::error::Result;
use crate::layout::{
    CLASSES, Entry, GRANULE, KIND_RUN, RUN_KINDS, SpanState, ZONE, ZONE_WORDS, blocks_of, slab_granules, slab_is_whole,
};
use crate::runs::{longest_run, mask, range};
use crate::segment::attachment::Attachment;
use crate::spare;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a walk over the spans found.
#[derive(Default)]
pub(super) struct Walked {
    /// Bytes that are said to be present.
    pub present: u64,
    /// Who fills or frees a span, and one such.
    pub owners: HashMap<u32, u64>,
}

/// What a zone's bitmaps should say.
struct Bits {
    rooms: [[u64; 16]; CLASSES.len()],
    free: [u64; ZONE_WORDS],
}

impl Bits {
    const NONE: Bits = Bits { rooms: [[0; 16]; CLASSES.len()], free: [u64::MAX; ZONE_WORDS] };
}

impl Attachment {
    pub(super) fn check_spans(&self, named: &Named, report: &mut Report) -> Result<Walked> {
        let arena = self.arena();
        let mut walked = Walked::default();
        // Derived: by zone, and the summary of all.
        let mut zones = spare::collect((0..arena.zones()).map(|_| Ok(Bits::NONE)), NAMED)?;
        report.zones = arena.zones();
        let (mut leaves, mut directories, mut retired, mut next) = (0, 0, 0, 0);
        for span in arena.spans() {
            let (granule, entry) = span?;
            report.free += granule - next;
            self.check_inside(next, granule)?;
            for (zone, first, len) in range(granule, entry.len(), ZONE) {
                for (word, first, len) in range(first, len, 64) {
                    zones[zone as usize].free[word as usize] &= !mask(first, len);
                }
            }
            match entry.state() {
                SpanState::Filling | SpanState::Freeing => {
                    report.busy += 1;
                    spare::insert(&mut walked.owners, entry.owner(), granule, NAMED)?;
                }
                SpanState::Live => {
                    report.live += 1;
                    hold!(named.spans.contains(&granule), 2, "the span at granule {granule} is live, nobody names it");
                }
                SpanState::Retired => {
                    report.retired += 1;
                    retired += entry.len();
                }
                SpanState::Slab => {
                    report.slabs += 1;
                    report.blocks += self.check_slab(granule, entry, named)?;
                    if arena.free_block(granule, entry.class())?.is_some() {
                        let bit = granule % ZONE / 4;
                        zones[(granule / ZONE) as usize].rooms[entry.class()][(bit / 64) as usize] |= 1 << (bit % 64);
                    }
                }
                SpanState::Leaf => {
                    leaves += 1;
                    let right = named.leaves.get(&granule) == Some(&entry.len());
                    hold!(right, 3, "no directory names the leaf at granule {granule}: {entry:?}");
                }
                SpanState::Directory => {
                    directories += 1;
                    let right = named.directories.get(&granule) == Some(&entry.len());
                    hold!(right, 3, "no root names the directory at granule {granule}: {entry:?}");
                }
                // Not given by the walk.
                SpanState::None | SpanState::Bad => {}
            }
            self.check_sticky(granule, entry)?;
            self.check_inside(granule + 1, granule + entry.len())?;
            next = granule + entry.len();
        }
        report.free += arena.zones() * ZONE - next;
        self.check_inside(next, arena.zones() * ZONE)?;
        let counted = self.state().retired.load(Ordering::Relaxed);
        hold!(retired == counted, 4, "{retired} granules are retired, the state says {counted}");
        let (named_leaves, named_directories) = (named.leaves.len(), named.directories.len());
        hold!(leaves == named_leaves, 3, "{leaves} leaves, {named_leaves} of them named");
        hold!(directories == named_directories, 3, "{directories} directories, {named_directories} of them named");
        let mut summary = spare::collect((0..arena.zones().div_ceil(64)).map(|_| Ok([0_u64; 128])), NAMED)?;
        for (zone, bits) in zones.iter().enumerate() {
            check_bits(&arena, zone as u64, bits, &mut summary)?;
            let present = &arena.zone(zone as u64)?.present;
            let pages: u64 = present.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum();
            walked.present += pages * GRANULE;
        }
        check_summary(&arena, &summary)?;
        Ok(walked)
    }

    /// A slab's bits against what the slots name. Its blocks in use.
    fn check_slab(&self, granule: u64, entry: Entry, named: &Named) -> Result<u64> {
        let sound = entry.class() < CLASSES.len() && entry.len() == slab_granules(entry.class());
        hold!(sound, 3, "slab at granule {granule}: {entry:?}");
        let present = if slab_is_whole(entry.class()) { entry.len() } else { 1 };
        hold!(
            self.arena().is_present(granule, present)?,
            12,
            "the slab at granule {granule} is not said to be present"
        );
        let mut used = 0;
        for block in 0..512 {
            let set = self.arena().block_used(granule, block)?;
            let by_slot =
                named.blocks.get(&granule).is_some_and(|blocks| blocks[(block / 64) as usize] >> (block % 64) & 1 == 1);
            hold!(set == by_slot, 2, "block {block} of granule {granule}: in use {set}, named {by_slot}");
            hold!(!set || block < blocks_of(entry.class()), 2, "block {block} of granule {granule}: {entry:?}");
            used += u64::from(set);
        }
        Ok(used)
    }

    /// Granules in which readers look without a pin.
    fn check_sticky(&self, granule: u64, entry: Entry) -> Result<()> {
        if matches!(entry.state(), SpanState::Slab | SpanState::Leaf | SpanState::Directory) {
            for inner in granule..granule + entry.len() {
                hold!(self.arena().is_sticky(inner)?, 12, "granule {inner} of {entry:?} is not sticky");
            }
        }
        Ok(())
    }

    /// Granules that begin no span: their entries say nothing.
    fn check_inside(&self, from: u64, to: u64) -> Result<()> {
        for inner in from..to {
            let entry = self.arena().entry(inner)?;
            hold!(entry.is_none(), 3, "granule {inner} begins no span and says {entry:?}");
        }
        Ok(())
    }
}

/// A zone's bitmaps, all of their words; what they come to goes into the summary.
fn check_bits(arena: &Arena<'_>, zone: u64, bits: &Bits, summary: &mut [[u64; 128]]) -> Result<()> {
    let meta = arena.zone(zone)?;
    let kinds = &mut summary[(zone / 64) as usize];
    let differs = |found: &[AtomicU64], right: &[u64]| {
        found.iter().zip(right).position(|(found, right)| found.load(Ordering::Relaxed) != *right)
    };
    for (class, right) in bits.rooms.iter().enumerate() {
        let wrong = differs(&meta.rooms[class], right);
        hold!(wrong.is_none(), 5, "zone {zone}: the bitmap of slabs of class {class}, word {}", wrong.unwrap_or(0));
        kinds[class] |= u64::from(right.iter().any(|word| *word != 0)) << (zone % 64);
    }
    let wrong = differs(&meta.free, &bits.free);
    hold!(wrong.is_none(), 4, "zone {zone}: the bitmap of free granules, word {}", wrong.unwrap_or(0));
    let longest = longest_run(bits.free.iter().copied());
    for kind in 0..RUN_KINDS {
        kinds[KIND_RUN + kind] |= u64::from(longest >= 1 << kind) << (zone % 64);
    }
    Ok(())
}

fn check_summary(arena: &Arena<'_>, summary: &[[u64; 128]]) -> Result<()> {
    for (number, right) in summary.iter().enumerate() {
        let group = arena.group(number as u64)?;
        // Bits of zones that are not in use are nobody's.
        let zones = (arena.zones() - number as u64 * 64).min(64);
        for (kind, right) in right.iter().enumerate() {
            let says = group.kinds[kind].load(Ordering::Relaxed) & (u64::MAX >> (64 - zones));
            hold!(says == *right, 5, "the summary of zones from {}, kind {kind}: {says:#x}", number * 64);
        }
    }
    Ok(())
}
