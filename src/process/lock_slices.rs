//! Long work under the writer lock is done in slices, so that no other process waits for the whole of it. This file
//! says how long a slice is, and yields the lock between two slices.

use crate::format::WAITERS;
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::process::writer::Writer;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the writer lock is held at a time. One more step may follow: a few spans, or, in a reaping, one leaf of the
/// names. (With crash points it is 0, so that deaths are tried between any two steps.)
pub const LOCK_SLICE: Duration = Duration::from_millis(if cfg!(feature = "crash-points") { 0 } else { 4 });
/// How long a waiter has to wake up and take the lock after it was released.
const YIELD_PAUSE: Duration = Duration::from_millis(1);

/// Private to the process: decides when work that takes the writer lock again and again, each time for a short while,
/// yields it. Releasing the lock alone would not do: a waiter that sleeps on it would wake up too late each time. So
/// the work pauses once in a slice.
pub struct YieldTimer(Instant);

impl YieldTimer {
    /// Begins the work.
    pub fn new() -> Self {
        YieldTimer(Instant::now())
    }

    /// Releases the lock, and pauses for a waiter if a slice is over since the last pause. Otherwise `writer` is
    /// dropped, which releases the lock without a pause.
    pub fn release(&mut self, writer: Writer<'_>, policy: &dyn WaitPolicy) {
        if self.0.elapsed() >= LOCK_SLICE {
            writer.att.yield_lock(writer, policy);
            self.0 = Instant::now();
        }
    }
}

impl Attachment {
    /// Releases the writer lock and, if another thread or process waits for it, leaves it the time to wake up and take
    /// it.
    pub fn yield_lock(&self, writer: Writer<'_>, policy: &dyn WaitPolicy) {
        let waited_for = self.state().lock.load(Ordering::Relaxed) & WAITERS != 0;
        drop(writer);
        if waited_for {
            policy.allow_threads(&mut || std::thread::sleep(YIELD_PAUSE));
        }
    }
}
