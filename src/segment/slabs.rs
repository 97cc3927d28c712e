//! Slabs: granules of blocks of one class, made where none has a free one, given back when none is used.

use crate::arena::pages_of;
use crate::error::{Error, Result};
use crate::intent::Change;
use crate::layout::{CLASSES, Entry, GRANULE, SLAB_HEAD, SpanState};
use crate::segment::attachment::{Attachment, Patience};
use crate::segment::writer::Writer;
use std::sync::atomic::Ordering;

impl Attachment {
    /// Makes a slab of this class whose pages have to be obtained first.
    pub fn refill(&self, class: usize, patience: &dyn Patience) -> Result<()> {
        // In batches, as the segment grows: few calls of the system, little taken by a small one.
        let used = self.state().used.load(Ordering::Relaxed);
        let batch = if used < 1 << 20 {
            0
        } else if used < 16 << 20 {
            2
        } else {
            4
        };
        let mut outcome = self.refill_batch(class, batch, patience);
        if batch > 0 && matches!(outcome, Err(Error::Full { .. })) {
            outcome = self.refill_batch(class, 0, patience);
        }
        outcome
    }

    fn refill_batch(&self, class: usize, order: u32, patience: &dyn Patience) -> Result<()> {
        let span = self.take_span(order, patience)?;
        let granule = span.granule;
        if span.present < pages_of(order) {
            self.obtain_or_trim(self.identity.geometry.granule_at(granule), GRANULE << order, patience)?;
        }
        let mut writer = self.write(patience)?;
        if !writer.owns(granule)? {
            // A signal handler forked, and this is the child: the span is the parent's.
            return Ok(());
        }
        let entry = writer.arena().entry(granule)?;
        let mut change = writer.change();
        writer.plan_slab(granule, entry, class, &mut change)?;
        for half in 0..order {
            let right = granule + (1 << half);
            writer.arena().plan_free(right, Entry(0), half, pages_of(half), &mut change)?;
        }
        writer.commit(&change)?;
        span.keep();
        Ok(())
    }
}

impl Writer<'_> {
    /// Plans that a granule whose pages are present becomes an empty slab.
    pub fn plan_slab(&self, granule: u64, before: Entry, class: usize, change: &mut Change) -> Result<()> {
        debug_assert!(class < CLASSES.len());
        // CRASH: still free, or ours to fill: nobody reads a bitmap there.
        self.att.mem.zero(self.att.identity.geometry.granule_at(granule), SLAB_HEAD as usize)?;
        crash_point!("slab-cleared");
        let slab = Entry::new(SpanState::Slab, 0).with_class(class).with_present(pages_of(0)).with_sticky();
        change.span(granule, before, slab);
        Ok(())
    }

    /// A free block of this class, where the last one was or where the bitmaps say.
    #[inline]
    pub fn find_block(&self, class: usize) -> Result<Option<(u64, u64)>> {
        let hint = &self.att.slab_hints[class];
        let granule = u64::from(hint.load(Ordering::Relaxed));
        let entry = self.arena().entry(granule).unwrap_or_default();
        if entry.state() == SpanState::Slab && entry.class() == class {
            if let Some(block) = self.arena().free_block(granule, class)? {
                return Ok(Some((granule, block)));
            }
        }
        let found = self.arena().find_slab(class)?;
        if let Some((granule, _)) = found {
            hint.store(granule as u32, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// Makes a slab of a free granule whose pages are known to be present. False: there is none such at hand.
    pub fn slab_from_free(&mut self, class: usize) -> Result<bool> {
        let mut change = self.change();
        let slab = Entry::new(SpanState::Slab, 0);
        let Some((granule, _)) = self.arena().plan_take_present(slab, &mut change)? else { return Ok(false) };
        // `plan_take` put the granule's own edit last.
        let Some(edit) = change.spans.pop() else { return Ok(false) };
        self.plan_slab(granule, edit.before, class, &mut change)?;
        self.commit(&change)?;
        Ok(true)
    }

    /// A slab without a used block goes back to the arena, if its class has room elsewhere.
    pub fn release_slab(&mut self, granule: u64) -> Result<()> {
        let entry = self.arena().entry(granule)?;
        if entry.state() != SpanState::Slab || entry.class() >= CLASSES.len() || !self.arena().slab_is_empty(granule)? {
            return Ok(());
        }
        let mut change = self.change();
        self.arena().plan_free(granule, entry, 0, pages_of(0), &mut change)?;
        // One with room stays, so that a class does not take and give a granule at every turn.
        if self.arena().find_slab(entry.class())?.is_some_and(|(other, _)| other != granule) {
            self.commit(&change)?;
        }
        Ok(())
    }
}
