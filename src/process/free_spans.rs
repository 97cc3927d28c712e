//! Freeing spans under the writer lock: at once, where nobody pins them, or what was left to the next acquisition.

use crate::error::{Error, Result};
use crate::format::SpanState;
use crate::process::deferred_free::DeferredFree;
use crate::process::writer::{Writer, above};
use std::sync::atomic::{Ordering, fence};

impl Writer<'_> {
    /// Before any span is taken in our name: reaping looks for them only then.
    pub fn mark_spans(&self) {
        if let Some(record) = self.att.participant(self.me) {
            if record.spans.load(Ordering::Relaxed) == 0 {
                record.spans.store(1, Ordering::SeqCst);
                // CRASH: whoever reaps us looks through the span map and finds nothing.
                crash_point!("spans-marked");
            }
        }
    }

    /// Frees a span, whatever its state.
    pub fn free_span(&mut self, granule: u64) -> Result<()> {
        let entry = self.arena().entry(granule)?;
        if matches!(entry.state(), SpanState::None | SpanState::Damaged)
            || !self.arena().fits(granule, entry.len(), self.arena().zones())
        {
            return Err(Error::corrupt(format_args!("span map, granule {granule}: {entry:?} is not to be freed")));
        }
        let mut change = self.change();
        self.arena().plan_free(granule, entry, &mut change);
        self.commit(&change)
    }

    /// Frees a retired span unless somebody has it pinned.
    pub fn free_retired(&mut self, granule: u64) -> Result<()> {
        // SYNC: with the fence of `pin` and of `unpin`: the slot was changed (or the span retired) before this line; they set
        // (or clear) their bit before theirs and look afterwards. One of us sees the other.
        fence(Ordering::SeqCst);
        let entry = self.arena().entry(granule)?;
        if entry.state() == SpanState::Retired && !self.att.pinned(granule)? {
            crash_point!("retired-unpinned");
            self.free_span(granule)?;
        }
        Ok(())
    }

    #[cold]
    pub fn free_deferred(&mut self) -> Result<()> {
        self.att.deferred.any.store(false, Ordering::Relaxed);
        above().release_abandoned_locks(self).inspect_err(|_| self.att.deferred.any.store(true, Ordering::Relaxed))?;
        // One after the other, so that the list keeps its room: who leaves one has none to ask for.
        loop {
            let Some(free) = self.att.deferred.pop() else { return Ok(()) };
            self.free_one(free).inspect_err(|_| self.att.deferred.any.store(true, Ordering::Relaxed))?;
        }
    }

    fn free_one(&mut self, free: DeferredFree) -> Result<()> {
        match free {
            DeferredFree::Retired(granule) => self.free_retired(granule),
            DeferredFree::Unpublished(granule) if self.owns(granule)? => self.free_span(granule),
            DeferredFree::Unpublished(_) => Ok(()),
        }
    }

    /// Is this a span that we are filling or freeing? (In a forked child, a span of the parent's is not.)
    pub fn owns(&self, granule: u64) -> Result<bool> {
        let entry = self.arena().entry(granule)?;
        Ok(matches!(entry.state(), SpanState::Filling | SpanState::Freeing) && entry.owner() == self.me)
    }
}
