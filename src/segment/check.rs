//! The self-check: every invariant of docs/format.md, one condition a line.

use crate::arena::pages_of;
use crate::error::{Error, Result};
use crate::key::IndexBuf;
use crate::layout::{CLASSES, SLOT, Slot, SpanState, blocks_of, order_of};
use crate::segment::attachment::{Attachment, Patience};
use crate::slot::{BUSY, Content, Kind};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

/// What a check counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Variables.
    pub variables: u64,
    /// Bytes charged.
    pub used: u64,
    /// Slots of the table.
    pub slots: u64,
    /// Slabs, and their blocks in use.
    pub slabs: u64,
    /// See above.
    pub blocks: u64,
    /// Spans that hold a value.
    pub live: u64,
    /// Spans that somebody is filling or freeing.
    pub busy: u64,
    /// Spans that are retired but pinned.
    pub retired: u64,
    /// Spans that are free.
    pub free: u64,
}

macro_rules! hold {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(Error::corrupt(format_args!($($text)*)));
        }
    };
}

impl Attachment {
    /// Verifies every invariant, under the writer lock.
    pub fn check(&self, patience: &dyn Patience) -> Result<Report> {
        // Before anything is touched: an object that was cut short is an error.
        self.with_file(|_| ())?;
        let writer = self.write(patience)?;
        let (arena, state) = (writer.arena(), self.state());
        let table = self.table()?;
        let mut report = Report { slots: table.mask + 1, ..Report::default() };
        hold!(self.mem.intent().valid.load(Ordering::Relaxed) == 0, "an intent is valid although the lock was free");

        // The table: each slot, each index once, each record named once.
        let (mut indexes, mut blocks, mut spans) = (HashSet::new(), HashSet::new(), HashSet::new());
        let mut fill = 0;
        for number in 0..=table.mask {
            let offset = table.slot_at(number);
            let slot = self.mem.at::<Slot>(offset)?;
            let content = Content { word: slot.begin(), rest: slot.rest() };
            hold!(content.word & BUSY == 0, "slot {number} is busy although the lock is held");
            hold!(content.kind() != Kind::Bad, "slot {number} has kind {}", content.rest[1] & 7);
            hold!((content.word == 0) == (content.kind() == Kind::Empty), "slot {number}: word and kind disagree");
            fill += u64::from(content.word != 0);
            if !content.is_variable() {
                continue;
            }
            report.variables += 1;
            report.used = report.used.saturating_add(content.charge());
            hold!(
                content.version() <= state.version.load(Ordering::Relaxed),
                "slot {number}: a version from the future"
            );
            match content.kind() {
                Kind::Record => {
                    let (granule, block) = (content.granule(), content.block());
                    hold!(blocks.insert((granule, block)), "block {block} of granule {granule} is named twice");
                    let entry = arena.entry(granule)?;
                    hold!(
                        entry.state() == SpanState::Slab && entry.class() < CLASSES.len(),
                        "slot {number} names a block of {entry:?}"
                    );
                    hold!(
                        block < blocks_of(entry.class()),
                        "slot {number} names block {block} of class {}",
                        entry.class()
                    );
                    hold!(
                        content.record_len() <= u64::from(CLASSES[entry.class()]),
                        "slot {number}: record longer than its block"
                    );
                    hold!(
                        arena.block_used(granule, block)?,
                        "slot {number}: block {block} of granule {granule} is marked free"
                    );
                }
                Kind::Span => {
                    let granule = content.granule();
                    hold!(spans.insert(granule), "the span at granule {granule} is named twice");
                    let entry = arena.entry(granule)?;
                    hold!(entry.state() == SpanState::Live, "slot {number} names a span that is {entry:?}");
                    let len = content.lead() + content.record_len();
                    hold!(order_of(len) <= entry.order(), "slot {number}: value longer than its span");
                    hold!(
                        len.div_ceil(crate::layout::PAGE) <= entry.present(),
                        "slot {number}: only {} pages of its span are present",
                        entry.present()
                    );
                }
                _ => hold!(!content.is_text(), "slot {number}: inline with a text index"),
            }
            let index = self.index_under_lock(offset, content)?;
            hold!(indexes.insert(index.clone()), "index {} stands twice", index.as_index());
        }
        hold!(report.variables == state.count.load(Ordering::Relaxed), "count: {} variables", report.variables);
        hold!(report.used == state.used.load(Ordering::Relaxed), "used: {} bytes are charged", report.used);
        hold!(fill == state.fill.load(Ordering::Relaxed), "fill: {fill} slots are not empty");
        hold!(report.used <= state.limit.load(Ordering::Relaxed), "more is used than the limit");

        // The arena: covered exactly, and the bitmaps say what the map says.
        let mut frees: HashMap<u64, u32> = HashMap::new();
        let mut tables = 0;
        for span in arena.spans() {
            let (granule, entry) = span?;
            let mut room = Vec::new();
            match entry.state() {
                SpanState::Free => {
                    report.free += 1;
                    frees.insert(granule, entry.order());
                }
                SpanState::Filling | SpanState::Freeing => report.busy += 1,
                SpanState::Live => {
                    report.live += 1;
                    hold!(spans.contains(&granule), "the span at granule {granule} is live and nobody names it");
                }
                SpanState::Retired => report.retired += 1,
                SpanState::Slab => {
                    report.slabs += 1;
                    hold!(entry.order() == 0 && entry.sticky(), "slab at granule {granule}: {entry:?}");
                    hold!(entry.class() < CLASSES.len(), "slab at granule {granule} has class {}", entry.class());
                    for block in 0..512 {
                        let used = arena.block_used(granule, block)?;
                        report.blocks += u64::from(used);
                        let named = blocks.contains(&(granule, block));
                        hold!(used == named, "block {block} of granule {granule}: used {used}, named {named}");
                    }
                    if arena.free_block(granule, entry.class())?.is_some() {
                        room.push(entry.class());
                    }
                }
                SpanState::Table => {
                    tables += 1;
                    hold!(granule == table.root.granule(), "a second table at granule {granule}");
                    hold!(
                        SLOT << table.root.log2() <= crate::layout::GRANULE << entry.order(),
                        "the table's span is short"
                    );
                }
                SpanState::None | SpanState::Bad => {}
            }
            hold!(entry.present() <= pages_of(entry.order()), "granule {granule}: more pages than it has: {entry:?}");
            let (orders, rooms) = arena.bits_of(granule)?;
            let expected: Vec<u32> = if entry.state() == SpanState::Free { vec![entry.order()] } else { Vec::new() };
            hold!(orders == expected, "granule {granule} is {entry:?}, its free bits say orders {orders:?}");
            hold!(rooms == room, "granule {granule} is {entry:?}, its class bits say {rooms:?}, expected {room:?}");
            for inner in granule + 1..granule + (1_u64 << entry.order()).min(4096) {
                let other = arena.entry(inner)?;
                hold!(other.state() == SpanState::None, "granule {inner} inside {entry:?} at {granule} says {other:?}");
            }
        }
        hold!(tables == 1, "{tables} tables");
        for (granule, order) in &frees {
            let buddy = granule ^ (1 << order);
            hold!(frees.get(&buddy) != Some(order), "free buddies of order {order} at granules {granule} and {buddy}");
        }
        for zone in 0..arena.zones() {
            hold!(arena.summary_is_right(zone)?, "the summary of zone {zone}");
        }
        Ok(report)
    }

    fn index_under_lock(&self, offset: u64, content: Content) -> Result<IndexBuf> {
        let found = self.found_at(offset, content)?;
        self.index_of(&found)?.ok_or_else(|| Error::corrupt(format_args!("the slot at {offset} does not stand still")))
    }
}
