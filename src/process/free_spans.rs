//! Freeing spans under the writer lock: at once if no participant has them pinned, and those that were left to the next
//! acquisition of the lock. The protocol is "Large records: spans and pins" in `docs/protocol.md`.

use crate::error::{Error, Result};
use crate::format::SpanState;
use crate::process::deferred_free::DeferredFree;
use crate::process::writer::{Writer, above};
use std::sync::atomic::{Ordering, fence};

impl Writer<'_> {
    /// Says in this participant's record that it may have spans in its name, which reaping looks for only then. Called
    /// before a commit that reserves a span.
    pub fn mark_spans(&self) {
        if let Some(record) = self.att.participant(self.number) {
            if record.spans.load(Ordering::Relaxed) == 0 {
                record.spans.store(1, Ordering::SeqCst);
                // CRASH: the process that reaps this one looks through the span map and finds nothing.
                crash_point!("spans-marked");
            }
        }
    }

    /// Frees a span, whatever its state is.
    pub fn free_span(&mut self, granule: u64) -> Result<()> {
        let entry = self.arena().entry(granule)?;
        if matches!(entry.state(), SpanState::None | SpanState::Damaged)
            || !self.arena().fits(granule, entry.len(), self.arena().zones())
        {
            return Err(Error::corrupt(format_args!(
                "span map, granule {granule}: {entry:?} is no span that can be freed"
            )));
        }
        let mut change = self.change();
        self.arena().plan_free(granule, entry, &mut change);
        self.commit(&change)
    }

    /// Frees a span if it is retired and no participant has it pinned.
    pub fn free_retired(&mut self, granule: u64) -> Result<()> {
        // SYNC: with the fences of `pin` and `unpin`. This process has changed the slot (or retired the span) before
        // this fence and loads the bits after it. The other process sets (or clears) its bit before its fence and loads
        // the slot (or the span's state) after it. So one of the two sees the other.
        fence(Ordering::SeqCst);
        let entry = self.arena().entry(granule)?;
        if entry.state() == SpanState::Retired && !self.att.is_pinned(granule)? {
            crash_point!("retired-unpinned");
            self.free_span(granule)?;
        }
        Ok(())
    }

    /// Frees the spans that were left to this acquisition of the lock, and releases the named locks that were.
    #[cold]
    pub fn free_deferred(&mut self) -> Result<()> {
        self.att.deferred.any.store(false, Ordering::Relaxed);
        above().release_abandoned_locks(self).inspect_err(|_| self.att.deferred.any.store(true, Ordering::Relaxed))?;
        // The spans are taken from the list one by one, so that the list keeps its space: adding a span must not need
        // memory.
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

    /// Tells whether this is a span that this participant is filling or freeing. (To a forked child a span of its
    /// parent is not.)
    pub fn owns(&self, granule: u64) -> Result<bool> {
        let entry = self.arena().entry(granule)?;
        Ok(matches!(entry.state(), SpanState::Filling | SpanState::Freeing) && entry.owner() == self.number)
    }
}
