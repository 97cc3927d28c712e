//! The commit of one variable: its record is written, its slot and its leaf's counts are planned, the change is
//! committed.
//!
//! Everything here runs under the writer lock; steps 1 to 3 are those of "A change" in docs/protocol.md. Loops that
//! wait and obtain memory are in `change.rs`.

use crate::error::{Error, Lack, Result};
use crate::fallible;
use crate::format::slot_flags::RELEASED_LOCK;
use crate::format::{RemovalRing, Slot, SpanEntry, SpanState, VERSION_MAX, at, granules_of};
use crate::heap::AsHeap;
use crate::heap::span_writer::FilledSpan;
use crate::sync::intent::{Change, LeafCounts};
use crate::sync::removals::{self, Noted};
use crate::sync::slot::{Content, Kind};
use crate::variables::leaf::Leaf;
use crate::variables::place::{SlotPlace, Spot};
use crate::variables::record::record_at;
use crate::variables::store_plan::StorePlan;
use crate::variables::{AsVariables, VariablesWriter};
use std::sync::atomic::{Ordering, fence};

impl VariablesWriter<'_> {
    /// Checks that the limit leaves room for a new charge in place of the old one.
    ///
    /// # Errors
    /// [`Error::Full`] where it does not.
    #[inline(always)]
    pub fn check_limit(&self, old: Option<&Content>, charge: u64, change: &Change) -> Result<()> {
        let others = change.counters.used.saturating_sub(old.map_or(0, Content::charge));
        let size = self.att.state().limit.load(Ordering::Relaxed);
        if charge > size.saturating_sub(others) {
            return Err(limit_reached(charge, size.saturating_sub(change.counters.used), size));
        }
        Ok(())
    }

    /// Finds a free block, writes the record there, and plans that the block is used. Returns the new contents of the
    /// slot. `None`: no free block of this class is present.
    #[inline]
    pub fn put_in_block(&self, plan: &StorePlan<'_>, class: usize, change: &mut Change) -> Result<Option<Content>> {
        let Some((granule, block)) = self.find_block(class)? else { return Ok(None) };
        let content = plan.content(granule, Some(block));
        let Some(at) = record_at(self.att, &content)? else { return Err(Error::corrupt("the place of a free block")) };
        self.write_record(at, &plan.prefix, plan.stored.parts)?;
        change.edit_block(granule, block, true);
        Ok(Some(content))
    }

    /// Takes a run of free granules whose pages are present and mapped, writes the record there, and plans that the run
    /// becomes a live span. Returns the new contents of the slot. `None`: there is no such run.
    pub fn put_in_warm_span(&self, plan: &StorePlan<'_>, change: &mut Change) -> Result<Option<Content>> {
        let (lead, att) = (plan.lead(), self.att);
        let len = granules_of(lead + plan.record_len);
        if att.state().doomed.load(Ordering::Relaxed) != 0 {
            return Ok(None);
        }
        let live = SpanEntry::new(SpanState::Live, len);
        let Some(granule) = self.arena().plan_reserve_present(len, live, change)? else { return Ok(None) };
        if !att.heap().has_filled(granule, len) {
            change.spans.clear();
            return Ok(None);
        }
        let mut at = att.identity.geometry.granule_at(granule) + lead;
        // SYNC: as in `write_record`.
        fence(Ordering::Release);
        for part in std::iter::once(&&*plan.prefix).chain(plan.stored.parts) {
            att.mem.write_unpublished(at, part)?;
            at += part.len() as u64;
        }
        // CRASH: bytes in granules that are free.
        crash_point!("warm-span-written");
        Ok(Some(plan.content(granule, None)))
    }

    /// Stores the expiry of a plan into a span that was filled for a plan with another one. The value and the key stay
    /// where they are.
    pub fn fill_expiry(&self, plan: &StorePlan<'_>, filled: &FilledSpan<'_>) -> Result<()> {
        let Some(expiry) = plan.stored.expiry else { return Ok(()) };
        let at = self.att.identity.geometry.granule_at(filled.span.granule) + plan.lead();
        self.att.mem.map_up_to(at + 8)?;
        self.att.mem.write_unpublished(at, &expiry.to_le_bytes())
    }

    /// Plans that a filled span becomes live. Returns the new contents of the slot.
    pub fn put_in_span(&self, plan: &StorePlan<'_>, filled: &FilledSpan<'_>, change: &mut Change) -> Result<Content> {
        let granule = filled.span.granule;
        self.plan_live(granule, change)?;
        Ok(plan.content(granule, None))
    }

    /// Plans that a span that is filling becomes live.
    pub fn plan_live(&self, granule: u64, change: &mut Change) -> Result<()> {
        let before = self.arena().entry(granule)?;
        change.edit_span(granule, before, SpanEntry::new(SpanState::Live, before.len()));
        Ok(())
    }

    /// Writes a record into a free block, or into a span that is filling.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the record would lie outside of the memory.
    pub fn write_record(&self, at: u64, prefix: &[u8], value: &[&[u8]]) -> Result<()> {
        // SYNC: pairs with the acquire fences of readers: the block may have been freed under this very acquisition of
        // the lock.
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
        // CRASH: bytes in a free block that no slot names.
        crash_point!("record-written");
        Ok(())
    }

    /// Commits the new contents of a slot and frees what the old ones named. Returns the new version.
    #[inline]
    pub fn replace(&mut self, place: &SlotPlace, content: Content, change: &mut Change) -> Result<u64> {
        let content = content.with_version(next_version(change)?);
        self.store_and_free(place, content, change)
    }

    /// Commits the contents of a slot for the same value at another place, and frees what the old ones named. The
    /// version stays.
    pub fn replace_by_moved(&mut self, place: &SlotPlace, content: Content, change: &mut Change) -> Result<u64> {
        let Some(old) = place.occupant() else { return Err(Error::corrupt("a variable that is moved")) };
        let content = content.moved_from(old);
        count_round(&content, change);
        self.store_and_free(place, content, change)
    }

    /// Commits the contents of a slot, with the word that they have, and frees what the old ones named.
    #[inline(always)]
    fn store_and_free(&mut self, place: &SlotPlace, content: Content, change: &mut Change) -> Result<u64> {
        let old = place.occupant();
        let version = self.store(place, content, change)?;
        // The change is made. An error from here on would be about damage elsewhere, which the next call meets.
        if let Some(old) = old {
            // If the new record lies in the same slab, that slab is not empty.
            if old.kind() == Kind::Record && (content.kind() != Kind::Record || content.granule() != old.granule()) {
                let _ = self.free_slab_if_spare(old.granule());
            }
        }
        Ok(version)
    }

    /// Commits the new contents of a slot and frees what the old ones named, but leaves a slab that becomes empty where
    /// it is. Returns the new version.
    #[inline(always)]
    pub fn replace_keeping_slab(&mut self, place: &SlotPlace, content: Content, change: &mut Change) -> Result<u64> {
        let content = content.with_version(next_version(change)?);
        self.store(place, content, change)
    }

    /// Commits the contents of a slot, with the word that they have. Returns their version.
    #[inline(always)]
    fn store(&mut self, place: &SlotPlace, content: Content, change: &mut Change) -> Result<u64> {
        let old = place.occupant();
        let (offset, counts) = self.counts_after(place, &content)?;
        change.leaf = Some((place.leaf.base, counts));
        let counters = &mut change.counters;
        counters.used = counters.used.saturating_sub(old.map_or(0, Content::charge)).saturating_add(content.charge());
        let count = |content: &Content| u64::from(content.is_variable());
        let before = old.map_or(0, count);
        counters.count = counters.count.saturating_add(count(&content)).saturating_sub(before);
        let expires = |content: &Content| u64::from(content.is_entry() && content.expires());
        counters.expiring = counters.expiring.saturating_add(expires(&content)).saturating_sub(old.map_or(0, expires));
        change.slot = Some((offset, content));
        match old.map(Content::kind) {
            Some(Kind::Record) => {
                let old = old.expect("just matched");
                if record_at(self.att, old)?.is_none() {
                    return Err(Error::corrupt("the place of the record that is replaced"));
                }
                change.edit_block(old.granule(), old.block(), false);
            }
            Some(Kind::Span) => {
                self.plan_retire(old.expect("just matched"), change)?;
            }
            _ => {}
        }
        self.commit(change)?;
        if let Some(old) = old.filter(|old| old.kind() == Kind::Span) {
            // The change is made. An error from here on would be about damage elsewhere, which the next call meets.
            let _ = self.free_retired(old.granule());
        }
        Ok(content.version())
    }

    /// Commits a slot as it is, with the next version. Returns that version.
    pub fn restamp(&mut self, leaf: &Leaf, offset: u64, content: &Content) -> Result<u64> {
        let mut change = self.change();
        let version = next_version(&mut change)?;
        change.leaf = Some((leaf.base, None));
        change.slot = Some((offset, content.with_version(version)));
        self.commit(&change)?;
        Ok(version)
    }

    /// Returns the file offset of a place's slot, and what its leaf counts once the slot holds `content`. `None`: the
    /// counts stay.
    #[inline(always)]
    fn counts_after(&self, place: &SlotPlace, content: &Content) -> Result<(u64, Option<LeafCounts>)> {
        let (offset, fresh, added) = match place.spot {
            Spot::Occupied(offset, _) if content.is_entry() => return Ok((offset, None)),
            Spot::Occupied(offset, _) => (offset, false, false),
            Spot::Tombstone(offset) => {
                // What a named lock left behind is counted as an entry already.
                let tag = self.att.mem.at::<Slot>(offset)?.rest[1].load(Ordering::Relaxed);
                if tag == RELEASED_LOCK {
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

    /// Removes what is in a slot: the slot becomes a tombstone.
    pub fn discard(&mut self, leaf: &Leaf, offset: u64, old: &Content) -> Result<()> {
        let mut change = self.change();
        if old.is_variable() {
            let version = change.counters.version.saturating_add(1);
            self.note_removal(Noted::of_variable(version, old.rest[0], old.is_text()))?;
        }
        let place = SlotPlace { leaf: *leaf, spot: Spot::Occupied(offset, *old) };
        self.replace(&place, Content::tombstone(), &mut change).map(drop)
    }
}

/// Plans that the root counts a round where a slot's count of moves goes round, so that a reader of the record that would
/// miss all of these moves finds another root.
pub fn count_round(content: &Content, change: &mut Change) {
    if content.has_gone_round() {
        let root = match content.is_name() {
            true => &mut change.counters.names,
            false => &mut change.counters.root,
        };
        *root = root.with_next_round();
    }
}

impl VariablesWriter<'_> {
    /// Notes a removal that the next commit makes, for those who want to hear of every change.
    pub fn note_removal(&self, removal: Noted) -> Result<()> {
        removals::note(self.att.mem.at::<RemovalRing>(at::REMOVALS)?, removal);
        Ok(())
    }
}

/// Plans that the segment's version counter grows. Returns the new version.
#[inline(always)]
pub fn next_version(change: &mut Change) -> Result<u64> {
    let version = change.counters.version.saturating_add(1);
    if version >= VERSION_MAX {
        return Err(Error::corrupt("the version counter"));
    }
    change.counters.version = version;
    Ok(version)
}

/// Returns the error for a change that the limit does not allow.
#[cold]
pub fn limit_reached(needed: u64, free: u64, size: u64) -> Error {
    let remedy = match needed > size {
        // No removal would make room for it.
        true => "it is larger than the limit: raise that: resize(), or attach with a larger size",
        false => "remove variables, or raise the limit: resize(), or attach with a larger size",
    };
    let remedy = remedy.into();
    Error::Full { lack: Lack::Other, needed, free, size, remedy }
}
