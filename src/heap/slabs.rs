//! Slabs: spans that are cut into blocks of one size class, for small records. A slab is made when its class has no
//! free block, and freed when it is empty and another slab of the class has a free block. The protocol is "Small
//! records" in `docs/protocol.md`.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::format::{CLASSES, GRANULE, SLAB_HEAD, SpanEntry, SpanState, slab_granules, slab_has_all_pages};
use crate::heap::reserve::{OnFull, ReservedSpan};
use crate::heap::{Heap, HeapWriter};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::intent::Change;
use std::sync::atomic::Ordering;

impl Heap {
    /// Adds at least one free block of this class, whose pages are not present yet. `all`: all blocks of the new slab
    /// are to be present.
    pub fn add_blocks(&self, class: usize, all: bool, policy: &dyn WaitPolicy) -> Result<()> {
        // The larger the segment, the more granules are obtained at a time: few system calls, and a small segment stays
        // small.
        let used = self.state().used.load(Ordering::Relaxed);
        if !slab_has_all_pages(class) && all {
            return self.add_whole_slab(class, slab_granules(class), OnFull::Reclaim, policy);
        }
        if !slab_has_all_pages(class) {
            // The granules that are obtained beyond the block serve further blocks of this slab.
            return self.add_part_of_slab(class, (used >> 24).clamp(1, 16), policy);
        }
        let granules = match used {
            ..0x10_0000 => 1,
            0x10_0000..0x100_0000 => 16,
            _ => 64,
        };
        let outcome = self.add_whole_slab(class, granules.max(slab_granules(class)), OnFull::Reclaim, policy);
        if granules > 1 && matches!(outcome, Err(Error::Full { .. })) {
            return self.add_whole_slab(class, slab_granules(class), OnFull::Reclaim, policy);
        }
        outcome
    }

    /// Makes a slab of which all granules are present. `len` granules are obtained in all; those behind the slab are
    /// free and present for the next slabs.
    fn add_whole_slab(&self, class: usize, len: u64, on_full: OnFull, policy: &dyn WaitPolicy) -> Result<()> {
        let span = self.reserve_span_between(len..=len, on_full, policy)?;
        if !self.arena().is_present(span.granule, len)? {
            let offset = self.identity.geometry.granule_at(span.granule);
            match on_full {
                OnFull::Reclaim => self.obtain_or_reclaim(offset, len * GRANULE, policy)?,
                OnFull::Fail => self.obtain_pages(offset, len * GRANULE)?,
            }
        }
        self.publish_slab(class, span, len, policy)
    }

    /// Makes a slab of which all granules are present, or fails if there is no memory for it. For a caller that is
    /// itself giving memory back.
    pub fn add_slab_or_fail(&self, class: usize, policy: &dyn WaitPolicy) -> Result<()> {
        self.add_whole_slab(class, slab_granules(class), OnFull::Fail, policy)
    }

    /// Makes more granules of a slab present, or, if no slab of this class has an absent block, makes a slab of which
    /// only the first granules are present. `more`: granules to obtain, if the block needs fewer.
    fn add_part_of_slab(&self, class: usize, more: u64, policy: &dyn WaitPolicy) -> Result<()> {
        let writer = self.write(policy)?;
        let Some((slab, block)) = writer.arena().find_absent_block(class)? else {
            drop(writer);
            let span = self.reserve_span(slab_granules(class), policy)?;
            let (_, first) = Arena::granules_of_block(0, class, 0);
            let len = first.max(more).min(span.len);
            self.obtain_or_reclaim(self.identity.geometry.granule_at(span.granule), len * GRANULE, policy)?;
            return self.publish_slab(class, span, len, policy);
        };
        let (entry, trims) = (writer.arena().entry(slab)?, self.state().trims.load(Ordering::Relaxed));
        drop(writer);
        let (first, len) = Arena::granules_of_block(slab, class, block);
        let len = len.max(more).min(slab + slab_granules(class) - first);
        self.obtain_or_reclaim(self.identity.geometry.granule_at(first), len * GRANULE, policy)?;
        let writer = self.write(policy)?;
        // The lock was not held meanwhile, so the slab may have been freed. Nothing of a slab is given back unless a
        // process trims: if none has, and the entry is the same, the pages are those of this slab. Otherwise no bitmap
        // speaks of them. The process that needs them next finds them present, or `trim` gives them back.
        if writer.arena().entry(slab)? == entry && self.state().trims.load(Ordering::Relaxed) == trims {
            writer.arena().set_present(first, len, true)?;
        }
        Ok(())
    }

    /// Makes a slab of a reserved span whose first `len` granules were obtained. What the slab does not need of the
    /// span is free.
    fn publish_slab(&self, class: usize, span: ReservedSpan<'_>, len: u64, policy: &dyn WaitPolicy) -> Result<()> {
        let mut writer = self.write(policy)?;
        if !writer.owns(span.granule)? {
            // A signal handler forked, and this is the child: the span is the parent's.
            return Ok(());
        }
        writer.arena().set_present(span.granule, len, true)?;
        let entry = writer.arena().entry(span.granule)?;
        let mut change = writer.change();
        writer.plan_slab(span.granule, entry, class, &mut change)?;
        writer.commit(&change)?;
        span.published();
        Ok(())
    }
}

impl HeapWriter<'_> {
    /// Plans that a span becomes an empty slab. The page of the span's head is present; `before` is the span's entry
    /// now.
    pub fn plan_slab(&self, granule: u64, before: SpanEntry, class: usize, change: &mut Change) -> Result<()> {
        debug_assert!(class < CLASSES.len());
        // CRASH: the span is still free, or filling in this process's name: no process reads a bitmap there.
        self.att.mem.zero(self.att.identity.geometry.granule_at(granule), SLAB_HEAD as usize)?;
        crash_point!("slab-cleared");
        change.edit_span(granule, before, SpanEntry::new(SpanState::Slab, slab_granules(class)).with_class(class));
        Ok(())
    }

    /// Finds a free block of this class whose pages are present: in the slab where the last one was, or else where the
    /// bitmaps say. Returns the slab's first granule and the block's number. `None`: there is no such block.
    #[inline]
    pub fn find_block(&self, class: usize) -> Result<Option<(u64, u64)>> {
        let hint = &self.att.heap_hints.slabs[class];
        let granule = u64::from(hint.load(Ordering::Relaxed));
        let entry = self.arena().entry(granule).unwrap_or_default();
        if entry.state() == SpanState::Slab && entry.class() == class {
            if let Some(block) = self.arena().usable_block(granule, class)? {
                return Ok(Some((granule, block)));
            }
        }
        let found = self.arena().find_slab(class)?;
        if let Some((granule, _)) = found {
            hint.store(granule as u32, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// Makes a slab of free granules that are known to be present. Returns `false` if no run of them is long enough.
    pub fn slab_from_warm(&mut self, class: usize) -> Result<bool> {
        let mut change = self.change();
        let slab = SpanEntry::new(SpanState::Slab, slab_granules(class)).with_class(class);
        let Some(granule) = self.arena().plan_reserve_present(slab_granules(class), slab, &mut change)? else {
            return Ok(false);
        };
        change.spans.clear();
        self.plan_slab(granule, SpanEntry(0), class, &mut change)?;
        self.commit(&change)?;
        Ok(true)
    }

    /// Frees a slab if none of its blocks is used and another slab of its class has a free block. The last such slab
    /// stays, so that a class does not free a slab and make one again at every turn.
    pub fn free_slab_if_spare(&mut self, granule: u64) -> Result<()> {
        let entry = self.arena().entry(granule)?;
        if entry.state() != SpanState::Slab || entry.class() >= CLASSES.len() || !self.arena().slab_is_empty(granule)? {
            return Ok(());
        }
        let mut others = 0;
        self.arena().each_nonfull_slab(entry.class(), |other| {
            others += u64::from(other != granule);
            Ok(others > 0)
        })?;
        if others > 0 {
            self.free_slab(granule, entry)?;
        }
        Ok(())
    }

    /// Frees an empty slab.
    pub fn free_slab(&mut self, granule: u64, entry: SpanEntry) -> Result<()> {
        let mut change = self.change();
        self.arena().plan_free(granule, entry, &mut change);
        self.commit(&change)
    }
}
