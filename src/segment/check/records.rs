//! What one slot says of its variable or lock: its record's place, length and beginning, its index, its buffers, its
//! owner (docs/format.md, "Slot", "Record", "Lock"; invariants 2, 10, 12 and 14). The slot's place in its leaf is
//! verified in `table`. Protocol: docs/protocol.md, "Check".

use super::checker::Checker;
use super::invariant::{LISTS, ensure};
use super::participants::in_use;
use super::references::NamingSlot;
use crate::codec::buffers;
use crate::coordination::AsCoordination;
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{CLASSES, Slot, SpanState, blocks_of, granules_of};
use crate::key::{INDEX_MAX, IndexBuf};
use crate::process::access::MappedAccess;
use crate::process::attachment::Attachment;
use crate::sync::slot::{Content, Kind, Seqlock};
use crate::variables::AsVariables;
use crate::variables::found::ContentSource;
use crate::variables::leaf::Leaf;
use std::sync::atomic::Ordering;

impl Checker<'_> {
    /// Verifies a slot that names a block, and the block.
    pub(super) fn check_block(&mut self, by: &NamingSlot<'_>) -> Result<()> {
        let (number, content, arena) = (by.number, by.content, self.att.arena());
        let (granule, block) = (content.granule(), content.block());
        let entry = arena.entry(granule)?;
        ensure!(entry.state() == SpanState::Slab, 2, "slot {number} names a block of {entry:?} at granule {granule}");
        let class = entry.class();
        ensure!(class < CLASSES.len(), 2, "slot {number} names a slab of class {class}");
        ensure!(block < blocks_of(class), 2, "slot {number} names block {block} of class {class}");
        self.references.block(self.att, by, class)?;
        let set = arena.block_used(granule, block)?;
        ensure!(set, 2, "block {block} of granule {granule}: in use false, named true");
        let (len, room) = (content.record_len(), u64::from(CLASSES[class]));
        ensure!(len <= room, 10, "slot {number}: a record of {len} bytes in a block of {room}");
        ensure!(!content.has_buffers() || content.is_queue(), 10, "slot {number}: buffers in a slab");
        ensure!(!content.is_in_place(), 10, "slot {number}: in place in a slab");
        ensure!(content.prefix_len() <= len, 10, "slot {number}: a record of {len} bytes is shorter than its key");
        let present = arena.block_is_present(granule, class, block)?;
        ensure!(present, 12, "slot {number}: block {block} of granule {granule} is not said to be present");
        Ok(())
    }

    /// Verifies a slot that names a span, and the span.
    pub(super) fn check_span(&mut self, by: &NamingSlot<'_>) -> Result<()> {
        let (number, content, arena) = (by.number, by.content, self.att.arena());
        let (granule, block) = (content.granule(), content.block());
        let entry = arena.entry(granule)?;
        ensure!(entry.state() == SpanState::Live, 2, "slot {number} names the span at {granule}, which is {entry:?}");
        self.references.span(self.att, by)?;
        ensure!(block == 0, 10, "slot {number}: block {block} of a span");
        let len = content.lead().saturating_add(content.record_len());
        ensure!(granules_of(len) == entry.len(), 10, "slot {number}: {len} bytes in {entry:?}");
        let present = arena.is_present(granule, entry.len())?;
        ensure!(present, 12, "slot {number}: the span at {granule} is not said to be present");
        ensure!(content.prefix_len() <= content.record_len(), 10, "slot {number}: a record shorter than its key");
        ensure!(!content.is_in_place() || content.has_buffers(), 10, "slot {number}: in place, without buffers");
        if content.has_buffers() {
            check_buffers(self.att, number, content)?;
        }
        Ok(())
    }

    /// Verifies that a lock has an owner that is in use and knows of it.
    pub(super) fn check_lock(&self, number: u64, content: &Content) -> Result<()> {
        let lock = self.att.coordination().lock_state_of(content)?;
        ensure!(lock.is_some(), 10, "slot {number}: a lock that says nothing of its owner");
        if let Some(holder) = lock.and_then(|lock| lock.owner()) {
            let holds = in_use(self.live, holder).is_some_and(|record| record.locks.load(Ordering::Relaxed) == 1);
            ensure!(
                holds,
                14,
                "slot {number}: the lock is participant {holder}'s, whose record says that it has taken none"
            );
        }
        Ok(())
    }
}

/// Verifies a value in the slot itself.
pub(super) fn check_inline(number: u64, content: &Content) -> Result<()> {
    let flags = content.is_text() || content.expires() || content.has_buffers() || content.is_in_place();
    ensure!(!flags, 10, "slot {number}: inline, with a text index, an expiry or buffers, or in place");
    let len = content.rest[1] >> 8 & 0xff;
    ensure!(len <= crate::format::INLINE_MAX as u64, 10, "slot {number}: {len} bytes inline");
    Ok(())
}

/// What a slot holds now.
pub(super) fn slot_content(att: &Attachment, offset: u64) -> Result<Content> {
    let slot = att.mem.at::<Slot>(offset)?;
    Ok(Content { word: slot.begin(), rest: slot.rest() })
}

/// Verifies the table of the buffers that a value has out of band.
fn check_buffers(att: &Attachment, number: u64, content: &Content) -> Result<()> {
    let (prefix, mut start) = (content.prefix_len(), [0; 16]);
    let total = content.record_len() - prefix;
    ensure!(total >= 16, 10, "slot {number}: {total} bytes have no table of buffers");
    att.variables().read_span(content, prefix, &mut start)?;
    let len = buffers::head_len(start).filter(|len| *len <= total).unwrap_or(0);
    let mut head = fallible::zeros(len as usize, LISTS)?;
    att.variables().read_span(content, prefix, &mut head)?;
    let parsed = buffers::parse(&head, total)?;
    ensure!(parsed.is_some(), 10, "slot {number}: the table of its buffers");
    let buffers = parsed.map_or(0, |parsed| parsed.buffers.len());
    ensure!(!content.is_in_place() || buffers == 1, 10, "slot {number}: {buffers} buffers in place");
    Ok(())
}

/// Verifies an index and, in front of it, an expiry. Returns the index.
pub(super) fn check_index(att: &Attachment, number: u64, leaf: &Leaf, content: Content) -> Result<IndexBuf> {
    let len = content.key_len();
    let inline = content.kind() == Kind::Inline;
    ensure!(inline || content.is_text() || len == 0, 10, "slot {number}: an integer index with a key of {len} bytes");
    ensure!(inline || len <= INDEX_MAX as u64, 10, "slot {number}: a text index of {len} bytes");
    if content.expires() && !inline {
        let mut expiry = [0; 8];
        read_prefix(att, &content, &mut expiry)?;
        let expiry = u64::from_ne_bytes(expiry);
        ensure!((1..1 << 63).contains(&expiry), 10, "slot {number} expires at {expiry}");
    }
    let found = leaf.found(leaf.slot_at(number), content, ContentSource::Slot);
    att.variables()
        .index_with(&found, MappedAccess)?
        .ok_or_else(|| Error::corrupt(format_args!("slot {number} changed while it was checked")))
}

/// Copies the first bytes of a record.
fn read_prefix(att: &Attachment, content: &Content, to: &mut [u8]) -> Result<()> {
    if content.kind() == Kind::Span {
        return att.variables().read_span(content, 0, to);
    }
    match crate::variables::record::record_at(att.variables(), content)? {
        Some(at) => att.mem.copy_to(at, to),
        None => Err(Error::corrupt("a slot names no block that could hold its record")),
    }
}
