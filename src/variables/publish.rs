//! A change of one variable, made under the writer lock: planned, committed, what it leaves behind let go.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::slot_flags::{BUFFERS, EXPIRES, LET_GO};
use crate::format::{INLINE_MAX, RECORD_MAX, SLOT, Slot, SpanEntry, SpanState, VERSION_MAX, class_of};
use crate::heap::span_writer::FilledSpan;
use crate::key::Name;
use crate::sync::intent::{Change, LeafCounts};
use crate::sync::slot::{Content, Kind, lead};
use crate::variables::AsVariables;
use crate::variables::VariablesWriter;
use crate::variables::leaf::Leaf;
use crate::variables::place::{SlotPlace, Spot};
use crate::variables::record::record_at;
use crate::variables::stored::Stored;
use std::borrow::Cow;
use std::sync::atomic::{Ordering, fence};

/// What is to stand under a name, and how.
pub struct StorePlan<'a> {
    /// The name.
    pub name: Name<'a>,
    /// Its hash.
    pub hash: u64,
    /// What the record begins with: expiry and key.
    pub prefix: Cow<'a, [u8]>,
    /// The value.
    pub stored: Stored<'a>,
    /// Bytes of the record.
    pub record_len: u64,
    /// Where it goes.
    pub placement: Placement,
}

/// Where a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Into the slot.
    Inline,
    /// Into a block of this class.
    Block(usize),
    /// Into a span.
    Span,
}

impl<'a> StorePlan<'a> {
    /// Of a name that was checked.
    ///
    /// # Errors
    /// No memory for what its record begins with.
    #[inline(always)]
    pub fn new(name: Name<'a>, stored: Stored<'a>, hash_key: [u64; 2]) -> Result<Self> {
        let key = name.index.record_key();
        let prefix = match stored.expiry {
            None => Cow::Borrowed(key),
            Some(expiry) => Cow::Owned(fallible::joined(&[&expiry.to_le_bytes(), key], "an expiry and an index")?),
        };
        let value_len = stored.parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let record_len = prefix.len() as u64 + value_len;
        let placement = match record_len {
            _ if stored.buffers => Placement::Span,
            len if len <= INLINE_MAX as u64 && prefix.is_empty() && !name.is_text() => Placement::Inline,
            len if len <= RECORD_MAX => Placement::Block(class_of(len)),
            _ => Placement::Span,
        };
        Ok(StorePlan { name, hash: name.hash(hash_key), record_len, prefix, stored, placement })
    }

    /// What it is charged.
    #[inline(always)]
    pub fn charge(&self) -> u64 {
        match self.placement {
            _ if self.name.lock => 0,
            Placement::Inline => SLOT,
            _ => SLOT + self.record_len,
        }
    }

    /// The tag's flags.
    #[inline]
    pub fn flags(&self) -> u64 {
        let expires = if self.stored.expiry.is_some() { EXPIRES } else { 0 };
        let buffers = if self.stored.buffers { BUFFERS } else { 0 };
        self.name.flags() | expires | buffers
    }

    /// Bytes of the span before the record.
    pub fn lead(&self) -> u64 {
        if self.stored.buffers { lead(self.prefix.len() as u64) } else { 0 }
    }

    /// The slot of a record at this place.
    pub fn content(&self, granule: u64, block: Option<u64>) -> Content {
        let key_len = self.name.index.record_key().len();
        Content::record(self.name.first(self.hash), self.flags(), key_len, self.record_len, granule, block)
    }

    /// The slot of a value that goes into it.
    #[inline(always)]
    pub fn inline(&self) -> Content {
        let mut pickle = [0; INLINE_MAX];
        let mut at = 0;
        for part in self.stored.parts {
            pickle[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Content::inline(self.name.first(self.hash) as i64, self.name.flags(), &pickle[..at])
    }
}

impl VariablesWriter<'_> {
    /// Charges a variable, or says that it does not fit.
    #[inline(always)]
    pub fn charge(&self, old: Option<&Content>, charge: u64, change: &Change) -> Result<()> {
        let others = change.counters.used.saturating_sub(old.map_or(0, Content::charge));
        let size = self.att.state().limit.load(Ordering::Relaxed);
        if charge > size.saturating_sub(others) {
            return Err(limit_reached(charge, size.saturating_sub(change.counters.used), size));
        }
        Ok(())
    }

    /// Takes a free block and writes the record there: the slot's new contents. `None`: there is no such block.
    #[inline]
    pub fn put_in_block(&self, plan: &StorePlan<'_>, class: usize, change: &mut Change) -> Result<Option<Content>> {
        let Some((granule, block)) = self.find_block(class)? else { return Ok(None) };
        let content = plan.content(granule, Some(block));
        let Some(at) = record_at(self.att, &content)? else { return Err(Error::corrupt("a free block's place")) };
        self.write_record(at, &plan.prefix, plan.stored.parts)?;
        change.block(granule, block, true);
        Ok(Some(content))
    }

    /// Makes a filled span live: the slot's new contents.
    pub fn put_in_span(&self, plan: &StorePlan<'_>, filled: &FilledSpan<'_>, change: &mut Change) -> Result<Content> {
        let granule = filled.span.granule;
        self.plan_live(granule, change)?;
        Ok(plan.content(granule, None))
    }

    /// Plans that a span that is filling becomes live.
    pub fn plan_live(&self, granule: u64, change: &mut Change) -> Result<()> {
        let before = self.arena().entry(granule)?;
        change.span(granule, before, SpanEntry::new(SpanState::Live, before.len()));
        Ok(())
    }

    /// Writes a record into a free block, or into a span that is filling.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: it would lie outside of the memory.
    pub fn write_record(&self, at: u64, prefix: &[u8], value: &[&[u8]]) -> Result<()> {
        // SYNC: with the readers' acquire fences: the block may have been freed under this very acquisition.
        fence(Ordering::Release);
        match value {
            [whole] if prefix.is_empty() => self.att.mem.copy_in(at, &[whole])?,
            [whole] => self.att.mem.copy_in(at, &[prefix, whole])?,
            [head, middle, tail] => self.att.mem.copy_in(at, &[prefix, head, middle, tail])?,
            parts => {
                let mut all = fallible::with_room(1 + parts.len(), "the parts of a value")?;
                all.push(prefix);
                all.extend_from_slice(parts);
                self.att.mem.copy_in(at, &all)?;
            }
        }
        // CRASH: a free block with something in it.
        crash_point!("record-written");
        Ok(())
    }

    /// Commits a slot's new contents and lets go of what the old ones named.
    #[inline]
    pub fn replace(&mut self, place: &SlotPlace, content: Content, change: &mut Change) -> Result<u64> {
        let old = place.occupant();
        let version = self.replace_keeping_slab(place, content, change)?;
        // The change is made. What goes wrong now is damage elsewhere, which the next call meets.
        if let Some(old) = old {
            // The new record keeps its own slab in use.
            if old.kind() == Kind::Record && (content.kind() != Kind::Record || content.granule() != old.granule()) {
                let _ = self.release_slab(old.granule());
            }
        }
        Ok(version)
    }

    /// The same; a slab left empty stays.
    #[inline(always)]
    pub fn replace_keeping_slab(&mut self, place: &SlotPlace, content: Content, change: &mut Change) -> Result<u64> {
        let old = place.occupant();
        let (offset, counts) = self.counts_after(place, &content)?;
        change.leaf = Some((place.leaf.base, counts));
        let counters = &mut change.counters;
        let version = counters.version.saturating_add(1);
        if version >= VERSION_MAX {
            return Err(Error::corrupt("the version counter"));
        }
        counters.version = version;
        counters.used = counters.used.saturating_sub(old.map_or(0, Content::charge)).saturating_add(content.charge());
        let count = |content: &Content| u64::from(content.is_variable());
        let before = old.map_or(0, count);
        counters.count = counters.count.saturating_add(count(&content)).saturating_sub(before);
        let expires = |content: &Content| u64::from(content.is_entry() && content.expires());
        counters.expiring = counters.expiring.saturating_add(expires(&content)).saturating_sub(old.map_or(0, expires));
        change.slot = Some((offset, content.with_version(version)));
        match old.map(Content::kind) {
            Some(Kind::Record) => {
                let old = old.expect("just matched");
                if record_at(self.att, old)?.is_none() {
                    return Err(Error::corrupt("the place of the record that is replaced"));
                }
                change.block(old.granule(), old.block(), false);
            }
            Some(Kind::Span) => {
                self.plan_retire(old.expect("just matched"), change)?;
            }
            _ => {}
        }
        self.commit(change)?;
        if let Some(old) = old.filter(|old| old.kind() == Kind::Span) {
            // The change is made. What goes wrong now is damage elsewhere, which the next call meets.
            let _ = self.free_retired(old.granule());
        }
        Ok(version)
    }

    /// What a place's leaf counts once it holds `content`; `None`: as before.
    #[inline(always)]
    fn counts_after(&self, place: &SlotPlace, content: &Content) -> Result<(u64, Option<LeafCounts>)> {
        let (offset, fresh, added) = match place.spot {
            Spot::Occupied(offset, _) if content.is_entry() => return Ok((offset, None)),
            Spot::Occupied(offset, _) => (offset, false, false),
            Spot::Tombstone(offset) => {
                // What a lock left counts as it did.
                let tag = self.att.mem.at::<Slot>(offset)?.rest[1].load(Ordering::Relaxed);
                if tag == LET_GO {
                    return Ok((offset, None));
                }
                (offset, false, true)
            }
            Spot::Unused(offset) => (offset, true, true),
            Spot::LeafFull => return Err(Error::corrupt("a leaf without room")),
        };
        let LeafCounts { fill, entries } = self.att.variables().counts_of(&place.leaf)?;
        let entries = if added { entries.saturating_add(1) } else { entries.saturating_sub(1) };
        Ok((offset, Some(LeafCounts { fill: fill + u64::from(fresh), entries })))
    }

    /// Makes a slot that holds something a tombstone.
    pub fn discard(&mut self, leaf: &Leaf, offset: u64, old: &Content) -> Result<()> {
        let mut change = self.change();
        let place = SlotPlace { leaf: *leaf, spot: Spot::Occupied(offset, *old) };
        self.replace(&place, Content::tombstone(), &mut change).map(drop)
    }
}

/// What is said where the limit is reached.
#[cold]
pub fn limit_reached(needed: u64, free: u64, size: u64) -> Error {
    let remedy = "remove variables, or raise the limit: resize(), or attach with a larger size".into();
    Error::Full { needed, free, size, remedy }
}
