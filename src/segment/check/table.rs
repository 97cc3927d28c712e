//! The table: each variable once, where probing finds it, its record where the slot says.

use super::{Named, Report, hold};
use crate::codec::buffers;
use crate::error::{Error, Result};
use crate::key::{INDEX_MAX, IndexBuf, Name};
use crate::layout::{CLASSES, PAGE, Slot, SpanState, blocks_of, order_of};
use crate::segment::attachment::Attachment;
use crate::segment::table::Table;
use crate::slot::{BUSY, Content, Kind, LET_GO};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Bit 7 of a tag means nothing.
const TAG_UNUSED: u64 = 0b1000_0000;

impl Attachment {
    pub(super) fn check_table(&self, table: &Table, report: &mut Report) -> Result<Named> {
        let state = self.state();
        report.slots = table.mask + 1;
        let last_version = state.version.load(Ordering::Relaxed);
        let (mut named, mut indexes) = (Named::default(), HashSet::new());
        let (mut fill, mut expiring, mut run) = (0, 0, self.run_before_first(table)?);
        for number in 0..=table.mask {
            let offset = table.slot_at(number);
            let content = self.slot_content(offset)?;
            hold!(content.word & BUSY == 0, 6, "slot {number} is busy and no change is under way");
            hold!(content.kind() != Kind::Bad, 10, "slot {number} has kind {}", content.rest[1] & 7);
            hold!((content.word == 0) == (content.kind() == Kind::Empty), 8, "slot {number}: word and kind disagree");
            if content.word == 0 {
                hold!(content.rest == [0; 3], 8, "slot {number} was never used and is not zero");
                run = 0;
                continue;
            }
            fill += 1;
            let version = content.version();
            hold!((1..=last_version).contains(&version), 9, "slot {number} has version {version} of {last_version}");
            if !content.is_entry() {
                let empty = content.rest == Content::tombstone().rest;
                hold!(empty || content.rest[1] == LET_GO, 8, "slot {number}: a tombstone that is not empty");
                let index = IndexBuf::Int(content.rest[0] as i64);
                let once = empty || indexes.insert((true, index.clone()));
                hold!(once, 7, "the lock {} stands twice, let go in slot {number}", index.as_index());
                report.tombstones += 1;
                run += 1;
                continue;
            }
            let lock = content.is_lock();
            hold!(!lock || content.kind() != Kind::Span, 10, "slot {number}: a lock in a span");
            report.locks += u64::from(lock);
            report.variables += u64::from(!lock);
            expiring += u64::from(content.expires());
            report.used = report.used.saturating_add(content.charge());
            hold!(content.rest[1] & TAG_UNUSED == 0, 10, "slot {number} has tag {:#x}", content.rest[1] & 0xff);
            match content.kind() {
                Kind::Inline => self.check_inline(number, &content)?,
                Kind::Record => self.check_block(number, &content, &mut named)?,
                _ => self.check_span(number, &content, &mut named)?,
            }
            let index = self.check_index(number, offset, content)?;
            let home = Name { index: index.as_index(), lock }.hash(self.identity.hash_key);
            hold!(!content.is_text() || content.rest[0] == home, 8, "slot {number} does not hold its index's hash");
            let distance = number.wrapping_sub(home) & table.mask;
            hold!(distance <= run, 8, "slot {number}: an empty slot keeps index {} from being found", index.as_index());
            hold!(indexes.insert((lock, index.clone())), 7, "index {} stands twice", index.as_index());
            if lock {
                self.check_lock(number, &content, &mut named)?;
            }
            run += 1;
        }
        let (count, used) = (state.count.load(Ordering::Relaxed), state.used.load(Ordering::Relaxed));
        let (filled, limit) = (state.fill.load(Ordering::Relaxed), state.limit.load(Ordering::Relaxed));
        hold!(report.variables == count, 1, "count is {count}, there are {} variables", report.variables);
        hold!(report.used == used, 1, "used is {used}, {} bytes are charged", report.used);
        hold!(fill == filled, 1, "fill is {filled}, {fill} slots are not empty");
        let expires = state.expiring.load(Ordering::Relaxed);
        hold!(expiring == expires, 1, "expiring is {expires}, {expiring} variables expire");
        hold!(used <= limit, 1, "{used} bytes are used, the limit is {limit}");
        Ok(named)
    }

    fn slot_content(&self, offset: u64) -> Result<Content> {
        let slot = self.mem.at::<Slot>(offset)?;
        Ok(Content { word: slot.begin(), rest: slot.rest() })
    }

    /// Probing goes round: slots in use at the end of the table, one after the other up to its last.
    fn run_before_first(&self, table: &Table) -> Result<u64> {
        for back in 0..=table.mask {
            if self.slot_content(table.slot_at(table.mask - back))?.word == 0 {
                return Ok(back);
            }
        }
        Ok(table.mask)
    }

    fn check_inline(&self, number: u64, content: &Content) -> Result<()> {
        let flags = content.is_text() || content.expires() || content.has_buffers();
        hold!(!flags, 10, "slot {number}: inline, with a text index, an expiry or buffers");
        let len = content.rest[1] >> 8 & 0xff;
        hold!(len <= crate::layout::INLINE_MAX as u64, 10, "slot {number}: {len} bytes inline");
        Ok(())
    }

    fn check_block(&self, number: u64, content: &Content, named: &mut Named) -> Result<()> {
        let (granule, block) = (content.granule(), content.block());
        let entry = self.arena().entry(granule)?;
        hold!(entry.state() == SpanState::Slab, 2, "slot {number} names a block of {entry:?} at granule {granule}");
        let class = entry.class();
        hold!(class < CLASSES.len(), 2, "slot {number} names a slab of class {class}");
        hold!(block < blocks_of(class), 2, "slot {number} names block {block} of class {class}");
        let blocks = named.blocks.entry(granule).or_default();
        let (word, bit) = (&mut blocks[(block / 64) as usize], 1 << (block % 64));
        hold!(*word & bit == 0, 2, "block {block} of granule {granule} is named twice, by slot {number}");
        *word |= bit;
        let (len, room) = (content.record_len(), u64::from(CLASSES[class]));
        hold!(len <= room, 10, "slot {number}: a record of {len} bytes in a block of {room}");
        hold!(!content.has_buffers(), 10, "slot {number}: buffers in a slab");
        hold!(content.prefix_len() <= len, 10, "slot {number}: a record of {len} bytes is shorter than its key");
        Ok(())
    }

    fn check_span(&self, number: u64, content: &Content, named: &mut Named) -> Result<()> {
        let (granule, block) = (content.granule(), content.block());
        let entry = self.arena().entry(granule)?;
        hold!(entry.state() == SpanState::Live, 2, "slot {number} names the span at {granule}, which is {entry:?}");
        hold!(named.spans.insert(granule), 2, "the span at granule {granule} is named twice, by slot {number}");
        hold!(block == 0, 10, "slot {number}: block {block} of a span");
        let len = content.lead().saturating_add(content.record_len());
        hold!(order_of(len) <= entry.order(), 10, "slot {number}: {len} bytes in {entry:?}");
        let pages = len.div_ceil(PAGE);
        hold!(pages <= entry.present(), 12, "slot {number}: {pages} pages in {entry:?}");
        hold!(content.prefix_len() <= content.record_len(), 10, "slot {number}: a record shorter than its key");
        if content.has_buffers() {
            self.check_buffers(number, content)?;
        }
        Ok(())
    }

    fn check_buffers(&self, number: u64, content: &Content) -> Result<()> {
        let (prefix, mut start) = (content.prefix_len(), [0; 16]);
        let total = content.record_len() - prefix;
        hold!(total >= 16, 10, "slot {number}: {total} bytes have no table of buffers");
        self.read_span(content, prefix, &mut start)?;
        let len = buffers::head_len(start).filter(|len| *len <= total).unwrap_or(0);
        let mut head = vec![0; len as usize];
        self.read_span(content, prefix, &mut head)?;
        hold!(buffers::parse(&head, total).is_some(), 10, "slot {number}: the table of its buffers");
        Ok(())
    }

    fn check_lock(&self, number: u64, content: &Content, named: &mut Named) -> Result<()> {
        let lock = self.lock_of(content)?;
        hold!(lock.is_some(), 10, "slot {number}: a lock that says nothing of its owner");
        if let Some(owner) = lock.and_then(|lock| lock.owner()) {
            named.owners.insert(owner, number);
        }
        Ok(())
    }

    fn check_index(&self, number: u64, offset: u64, content: Content) -> Result<IndexBuf> {
        let len = content.key_len();
        let inline = content.kind() == Kind::Inline;
        hold!(inline || content.is_text() || len == 0, 10, "slot {number}: an integer index with a key of {len} bytes");
        hold!(inline || len <= INDEX_MAX as u64, 10, "slot {number}: a text index of {len} bytes");
        if content.expires() && !inline {
            let mut expiry = [0; 8];
            self.read_prefix(&content, &mut expiry)?;
            let expiry = u64::from_ne_bytes(expiry);
            hold!((1..1 << 63).contains(&expiry), 10, "slot {number} expires at {expiry}");
        }
        let found = self.found_at(offset, content)?;
        self.index_at_once(&found)?.ok_or_else(|| Error::corrupt(format_args!("slot {number} does not stand still")))
    }

    /// The first bytes of a record.
    fn read_prefix(&self, content: &Content, to: &mut [u8]) -> Result<()> {
        if content.kind() == Kind::Span {
            return self.read_span(content, 0, to);
        }
        match crate::segment::table::record_at(self, content)? {
            Some(at) => self.mem.copy_to(at, to),
            None => Err(Error::corrupt("a record's place")),
        }
    }
}
