//! The arena: covered exactly, each span and block named once, every derived bit what it is derived from.

use super::{Named, Report, bytes_of, hold};
use crate::arena::{Arena, KIND_FREE, KIND_ZONES, pages_of};
use crate::error::Result;
use crate::layout::{
    CLASSES, Entry, FREE_WORDS, GRANULE, SLOT, SpanState, ZONE, ZONE_ORDER, ZoneMeta, blocks_of, free_bits,
};
use crate::segment::attachment::Attachment;
use crate::segment::table::Table;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a walk over the spans found.
#[derive(Default)]
pub(super) struct Walked {
    /// Bytes that the entries say are present.
    pub present: u64,
    /// Who fills or frees a span, and one such.
    pub owners: HashMap<u32, u64>,
}

/// What a zone's bitmaps should say.
struct Bits {
    classes: [[u64; 16]; CLASSES.len()],
    free: [u64; FREE_WORDS],
}

impl Bits {
    const NONE: Bits = Bits { classes: [[0; 16]; CLASSES.len()], free: [0; FREE_WORDS] };
}

impl Attachment {
    pub(super) fn check_spans(&self, table: &Table, named: &Named, report: &mut Report) -> Result<Walked> {
        let arena = self.arena();
        let (mut walked, mut tables) = (Walked::default(), 0);
        let mut frees: HashMap<u64, u32> = HashMap::new();
        // Derived, kept for the zone that the walk is in, and for the summary of all.
        let (mut bits, mut zone) = (Bits::NONE, 0);
        let mut summary = vec![[0_u64; 64]; arena.zones().div_ceil(64) as usize];
        report.zones = arena.zones();
        for span in arena.spans() {
            let (granule, entry) = span?;
            while zone < granule / ZONE {
                check_bits(&arena, zone, &std::mem::replace(&mut bits, Bits::NONE), &mut summary)?;
                zone += 1;
            }
            hold!(
                entry.present() <= pages_of(entry.order()),
                12,
                "granule {granule}: more pages than it has: {entry:?}"
            );
            walked.present = walked.present.saturating_add(bytes_of(entry.present()));
            match entry.state() {
                SpanState::Free => {
                    report.free += 1;
                    frees.insert(granule, entry.order());
                    mark_free(granule, entry.order(), &mut bits, &mut summary);
                }
                SpanState::Filling | SpanState::Freeing => {
                    report.busy += 1;
                    walked.owners.insert(entry.owner(), granule);
                }
                SpanState::Live => {
                    report.live += 1;
                    hold!(named.spans.contains(&granule), 2, "the span at granule {granule} is live, nobody names it");
                }
                SpanState::Retired => report.retired += 1,
                SpanState::Slab => {
                    report.slabs += 1;
                    report.blocks += self.check_slab(granule, entry, named)?;
                    if arena.free_block(granule, entry.class())?.is_some() {
                        let bit = granule % ZONE;
                        bits.classes[entry.class()][(bit / 64) as usize] |= 1 << (bit % 64);
                    }
                }
                SpanState::Table => {
                    tables += 1;
                    hold!(granule == table.root.granule(), 3, "a second table at granule {granule}");
                    let (len, room) = (SLOT << table.root.log2(), GRANULE << entry.order());
                    hold!(len <= room, 3, "the table has {len} bytes, its span {room}");
                }
                // Not given by the walk.
                SpanState::None | SpanState::Bad => {}
            }
            self.check_inside(granule, entry)?;
        }
        while zone < arena.zones() {
            check_bits(&arena, zone, &std::mem::replace(&mut bits, Bits::NONE), &mut summary)?;
            zone += 1;
        }
        hold!(tables == 1, 3, "there are {tables} tables");
        for (granule, order) in &frees {
            let buddy = granule ^ (1 << order);
            hold!(
                frees.get(&buddy) != Some(order),
                4,
                "granules {granule} and {buddy} are free buddies, order {order}"
            );
        }
        check_summary(&arena, &summary)?;
        Ok(walked)
    }

    /// A slab's bits against what the slots name. Its blocks in use.
    fn check_slab(&self, granule: u64, entry: Entry, named: &Named) -> Result<u64> {
        hold!(entry.order() == 0 && entry.class() < CLASSES.len(), 3, "slab at granule {granule}: {entry:?}");
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

    /// The granules of a span: only the first one's entry says something, but for the sticky bit.
    fn check_inside(&self, granule: u64, entry: Entry) -> Result<()> {
        let sticky = matches!(entry.state(), SpanState::Slab | SpanState::Table);
        hold!(!sticky || entry.sticky(), 3, "granule {granule} is {entry:?} and not sticky");
        for inner in granule + 1..granule + (1_u64 << entry.order()) {
            let other = self.arena().entry(inner)?;
            hold!(other.0 & !Entry::STICKY == 0, 3, "granule {inner}, inside {entry:?} at {granule}, says {other:?}");
            hold!(!sticky || other.sticky(), 3, "granule {inner} of the table is not sticky");
        }
        Ok(())
    }
}

fn mark_free(granule: u64, order: u32, bits: &mut Bits, summary: &mut [[u64; 64]]) {
    let zone = granule / ZONE;
    if order >= ZONE_ORDER {
        let kind = KIND_ZONES + (order - ZONE_ORDER) as usize;
        summary[(zone / 64) as usize][kind] |= 1 << (zone % 64);
        return;
    }
    let bit = (granule % ZONE) >> order;
    bits.free[free_bits(order).0 + (bit / 64) as usize] |= 1 << (bit % 64);
}

/// A zone's bitmaps, all of their words; what they come to goes into the summary.
fn check_bits(arena: &Arena<'_>, zone: u64, bits: &Bits, summary: &mut [[u64; 64]]) -> Result<()> {
    let meta: &ZoneMeta = arena.zone(zone)?;
    let kinds = &mut summary[(zone / 64) as usize];
    let differs = |found: &[AtomicU64], right: &[u64]| {
        found.iter().zip(right).position(|(found, right)| found.load(Ordering::Relaxed) != *right)
    };
    for (class, right) in bits.classes.iter().enumerate() {
        let wrong = differs(&meta.classes[class], right);
        hold!(wrong.is_none(), 5, "zone {zone}: the bitmap of slabs of class {class}, word {}", wrong.unwrap_or(0));
        kinds[class] |= u64::from(right.iter().any(|word| *word != 0)) << (zone % 64);
    }
    for order in 0..ZONE_ORDER {
        let (first, words) = free_bits(order);
        let right = &bits.free[first..first + words];
        let wrong = differs(&meta.free[first..first + words], right);
        hold!(
            wrong.is_none(),
            5,
            "zone {zone}: the bitmap of free spans of order {order}, word {}",
            wrong.unwrap_or(0)
        );
        kinds[KIND_FREE + order as usize] |= u64::from(right.iter().any(|word| *word != 0)) << (zone % 64);
    }
    Ok(())
}

fn check_summary(arena: &Arena<'_>, summary: &[[u64; 64]]) -> Result<()> {
    for (number, right) in summary.iter().enumerate() {
        let group = arena.group(number as u64)?;
        for (kind, right) in right.iter().enumerate() {
            let says = group.kinds[kind].load(Ordering::Relaxed);
            hold!(says == *right, 5, "the summary of zones from {}, kind {kind}: {says:#x}", number * 64);
        }
    }
    Ok(())
}
