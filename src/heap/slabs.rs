//! Slabs: spans of blocks of one class, made where none has a free one, given back when none is used.

use crate::error::Result;
use crate::format::{CLASSES, GRANULE, SLAB_HEAD, SpanEntry, SpanState, slab_granules, slab_has_all_pages};
use crate::heap::reserve::{ReservedSpan, WhenFull};
use crate::heap::{Heap, HeapWriter};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::intent::Change;
use std::sync::atomic::Ordering;

impl Heap {
    /// Makes a block of this class whose pages have to be obtained first. With `all`, a slab that is wholly present.
    pub fn refill(&self, class: usize, all: bool, policy: &dyn WaitPolicy) -> Result<()> {
        // In batches, as the segment grows: few calls of the system, little taken by a small one.
        let used = self.state().used.load(Ordering::Relaxed);
        if !slab_has_all_pages(class) && all {
            return self.refill_whole(class, slab_granules(class), WhenFull::Made, policy);
        }
        if !slab_has_all_pages(class) {
            // Each class has its own.
            return self.refill_in_parts(class, (used >> 24).clamp(1, 16), policy);
        }
        let batch = match used {
            ..0x10_0000 => 1,
            0x10_0000..0x100_0000 => 16,
            _ => 64,
        };
        let outcome = self.refill_whole(class, batch.max(slab_granules(class)), WhenFull::Made, policy);
        if batch > 1 && matches!(outcome, Err(crate::error::Error::Full { .. })) {
            return self.refill_whole(class, slab_granules(class), WhenFull::Made, policy);
        }
        outcome
    }

    /// A slab, all of it present, and free granules behind it that the next ones find so.
    fn refill_whole(&self, class: usize, len: u64, room: WhenFull, policy: &dyn WaitPolicy) -> Result<()> {
        let span = self.reserve_span_of(len..=len, room, policy)?;
        if !self.arena().is_present(span.granule, len)? {
            let offset = self.identity.geometry.granule_at(span.granule);
            match room {
                WhenFull::Made => self.obtain_or_trim(offset, len * GRANULE, policy)?,
                WhenFull::Fail => self.obtain_pages(offset, len * GRANULE)?,
            }
        }
        self.publish_slab(class, span, len, policy)
    }

    /// A slab for somebody who is at giving memory back, and content with what is there.
    pub fn slab_as_it_is(&self, class: usize, policy: &dyn WaitPolicy) -> Result<()> {
        self.refill_whole(class, slab_granules(class), WhenFull::Fail, policy)
    }

    /// A slab of which only the first granules are present, or more granules of one that is there.
    fn refill_in_parts(&self, class: usize, more: u64, policy: &dyn WaitPolicy) -> Result<()> {
        let writer = self.write(policy)?;
        let Some((slab, block)) = writer.arena().find_absent_block(class)? else {
            drop(writer);
            let span = self.reserve_span(slab_granules(class), policy)?;
            let (_, first) = crate::arena::Arena::granules_of_block(0, class, 0);
            let len = first.max(more).min(span.len);
            self.obtain_or_trim(self.identity.geometry.granule_at(span.granule), len * GRANULE, policy)?;
            return self.publish_slab(class, span, len, policy);
        };
        let (entry, trims) = (writer.arena().entry(slab)?, self.state().trims.load(Ordering::Relaxed));
        drop(writer);
        let (first, len) = crate::arena::Arena::granules_of_block(slab, class, block);
        let len = len.max(more).min(slab + slab_granules(class) - first);
        self.obtain_or_trim(self.identity.geometry.granule_at(first), len * GRANULE, policy)?;
        let writer = self.write(policy)?;
        // Given back meanwhile, the pages are nobody's: whoever needs them next finds them there, or `trim` gives them back.
        // Nothing of a slab was given back unless somebody has trimmed: then it may be another one, at the same place.
        if writer.arena().entry(slab)? == entry && self.state().trims.load(Ordering::Relaxed) == trims {
            writer.arena().set_present(first, len, true)?;
        }
        Ok(())
    }

    /// Makes a slab of a span of ours whose first `len` granules were obtained; what it does not need is free.
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
    /// Plans that a span whose head's page is present becomes an empty slab.
    pub fn plan_slab(&self, granule: u64, before: SpanEntry, class: usize, change: &mut Change) -> Result<()> {
        debug_assert!(class < CLASSES.len());
        // CRASH: still free, or ours to fill: nobody reads a bitmap there.
        self.att.mem.zero(self.att.identity.geometry.granule_at(granule), SLAB_HEAD as usize)?;
        crash_point!("slab-cleared");
        change.edit_span(granule, before, SpanEntry::new(SpanState::Slab, slab_granules(class)).with_class(class));
        Ok(())
    }

    /// A free block of this class whose pages are present, where the last one was or where the bitmaps say.
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

    /// Makes a slab of free granules whose pages are known to be present. False: there are none such at hand.
    pub fn slab_from_free(&mut self, class: usize) -> Result<bool> {
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

    /// A slab without a used block goes back to the arena, if its class has room elsewhere.
    pub fn release_slab(&mut self, granule: u64) -> Result<()> {
        let entry = self.arena().entry(granule)?;
        if entry.state() != SpanState::Slab || entry.class() >= CLASSES.len() || !self.arena().slab_is_empty(granule)? {
            return Ok(());
        }
        // One with room stays, so that a class does not take and give a slab at every turn.
        let mut others = 0;
        self.arena().each_nonfull_slab(entry.class(), |other| {
            others += u64::from(other != granule);
            Ok(others > 0)
        })?;
        if others > 0 {
            self.give_up_slab(granule, entry)?;
        }
        Ok(())
    }

    /// An empty slab is free from now on.
    pub fn give_up_slab(&mut self, granule: u64, entry: SpanEntry) -> Result<()> {
        let mut change = self.change();
        self.arena().plan_free(granule, entry, &mut change);
        self.commit(&change)
    }
}
