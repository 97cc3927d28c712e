//! Going through all spans of the arena, a few at a time under the writer lock, which is released in between. The
//! protocol is "Death" in `docs/protocol.md`, "In slices".

use crate::error::Result;
use crate::format::{SpanEntry, SpanState, ZONE};
use crate::process::attachment::Attachment;
use crate::process::lock_slices::LOCK_SLICE;
use crate::process::wait_policy::WaitPolicy;
use crate::process::writer::Writer;
use std::time::Instant;

/// How many spans and runs of free granules are looked at before the clock is.
const STEPS: u32 = 256;

impl Attachment {
    /// Calls `each` for every span: writer, first granule, entry. A span that is reserved meanwhile may be left out; a
    /// span that is there throughout is not.
    pub fn walk_spans(
        &self,
        policy: &dyn WaitPolicy,
        mut each: impl FnMut(&mut Writer<'_>, u64, SpanEntry) -> Result<()>,
    ) -> Result<()> {
        let mut next = Some(0);
        while let Some(granule) = next {
            let (mut writer, began) = (self.write(policy)?, Instant::now());
            next = Some(granule);
            while let Some(granule) = next {
                next = writer.walk_some(granule, &mut each)?;
                if began.elapsed() >= LOCK_SLICE {
                    break;
                }
            }
            self.yield_lock(writer, policy);
            policy.interrupted()?;
        }
        Ok(())
    }

    /// Frees every retired span that no participant has pinned.
    pub fn sweep(&self, policy: &dyn WaitPolicy) -> Result<()> {
        self.walk_spans(policy, |writer, granule, entry| writer.sweep_one(granule, entry))
    }
}

impl Writer<'_> {
    /// Calls `each` for a few spans, from granule `from` on. `each` may free the span. Returns the granule at which to
    /// go on. `None`: these were the last spans.
    pub fn walk_some(
        &mut self,
        from: u64,
        mut each: impl FnMut(&mut Self, u64, SpanEntry) -> Result<()>,
    ) -> Result<Option<u64>> {
        let end = self.arena().zones() * ZONE;
        if from >= end {
            return Ok(None);
        }
        // `from` may lie within a span that was reserved since the last slice.
        let mut next = self.arena().head_of(from)?;
        for _ in 0..STEPS {
            let (granule, entry, len) = self.arena().step(next, end)?;
            if !entry.is_none() {
                each(self, granule, entry)?;
            }
            next += len;
            if next >= end {
                return Ok(None);
            }
        }
        Ok(Some(next))
    }

    /// Frees those of a few spans, from granule `from` on, that are retired and that no participant has pinned. Returns
    /// the granule at which to go on. `None`: these were the last spans.
    pub fn sweep_some(&mut self, from: u64) -> Result<Option<u64>> {
        self.walk_some(from, |writer, granule, entry| writer.sweep_one(granule, entry))
    }

    fn sweep_one(&mut self, granule: u64, entry: SpanEntry) -> Result<()> {
        if entry.state() == SpanState::Retired { self.free_retired(granule) } else { Ok(()) }
    }
}
