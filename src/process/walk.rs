//! All spans of the arena, a few at a time under the writer lock, which is let go in between.

use crate::error::Result;
use crate::format::{SpanEntry, SpanState, ZONE};
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::process::writer::Writer;
use std::time::{Duration, Instant};

/// Spans and runs of free granules that are looked at before the clock is.
const A_FEW: u32 = 256;
/// The writer lock is let go after so long, and one step more: a few spans, or of a reaping a leaf of the names. (Deaths are tried
/// between any two steps.)
pub const SLICE: Duration = Duration::from_millis(if cfg!(feature = "crash-points") { 0 } else { 4 });

/// Of work that takes the lock again and again, each time shortly: whoever sleeps on it would never be soon enough. So they are let
/// have it once in a slice.
pub struct Yielding(Instant);

impl Yielding {
    /// The work begins.
    pub fn new() -> Self {
        Yielding(Instant::now())
    }

    /// Lets the lock go, and others have it where it is time to.
    pub fn release(&mut self, writer: Writer<'_>, policy: &dyn WaitPolicy) {
        if self.0.elapsed() >= SLICE {
            writer.att.yield_lock(writer, policy);
            self.0 = Instant::now();
        }
    }
}

impl Attachment {
    /// Does something with every span. Those that are taken meanwhile may be passed over; what stands throughout is not.
    pub fn walk(
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
                if began.elapsed() >= SLICE {
                    break;
                }
            }
            self.yield_lock(writer, policy);
            policy.interrupted()?;
        }
        Ok(())
    }

    /// Frees every retired span that nobody has pinned.
    pub fn sweep(&self, policy: &dyn WaitPolicy) -> Result<()> {
        self.walk(policy, |writer, granule, entry| writer.sweep_one(granule, entry))
    }
}

impl Writer<'_> {
    /// Does something with a few spans, from this granule on, which it may free. Where to go on; `None`: these were the last.
    pub fn walk_some(
        &mut self,
        from: u64,
        mut each: impl FnMut(&mut Self, u64, SpanEntry) -> Result<()>,
    ) -> Result<Option<u64>> {
        let end = self.arena().zones() * ZONE;
        if from >= end {
            return Ok(None);
        }
        // By now it may lie within a span that was taken since.
        let mut at = self.arena().head_of(from)?;
        for _ in 0..A_FEW {
            let (granule, entry, len) = self.arena().step(at, end)?;
            if !entry.is_none() {
                each(self, granule, entry)?;
            }
            at += len;
            if at >= end {
                return Ok(None);
            }
        }
        Ok(Some(at))
    }

    /// The same, freeing those that are retired and that nobody has pinned.
    pub fn sweep_some(&mut self, from: u64) -> Result<Option<u64>> {
        self.walk_some(from, |writer, granule, entry| writer.sweep_one(granule, entry))
    }

    fn sweep_one(&mut self, granule: u64, entry: SpanEntry) -> Result<()> {
        if entry.state() == SpanState::Retired { self.free_retired(granule) } else { Ok(()) }
    }
}
