//! What a check has seen so far. The looks themselves are methods in `table`, `records`, `arena` and `closing`; their
//! order, and the writer lock, are in `slices`. Protocol: docs/protocol.md, "Check".

use super::invariant::ensure;
use super::last_span::LastSpan;
use super::references::References;
use super::report::Report;
use super::sums::{Totals, VariableSums};
use super::suspects::Suspects;
use crate::error::Result;
use crate::process::attachment::Attachment;
use std::sync::atomic::Ordering;

/// What a check has seen. It has nine fields because each one is a piece of its own with a file of its own, and every
/// step uses several of them.
pub(super) struct Checker<'a> {
    /// What is verified: the segment itself, or a private copy of it.
    pub att: &'a Attachment,
    /// The segment itself, also where a copy is verified: participants are looked at there.
    pub live: &'a Attachment,
    pub report: Report,
    pub references: References,
    pub suspects: Suspects,
    pub totals: Totals,
    /// Nobody has changed anything since the first hold. Then everything that any hold has seen is still true.
    pub unchanged: bool,
    /// The span that may cover the beginning of the next zone.
    pub last_span: LastSpan,
    /// The root of the doomed table when the check last looked at one of its leaves.
    pub doomed: u64,
}

impl<'a> Checker<'a> {
    /// A check that has seen nothing yet.
    pub fn new(att: &'a Attachment, live: &'a Attachment) -> Self {
        Checker {
            att,
            live,
            report: Report::default(),
            references: References::default(),
            suspects: Suspects::default(),
            totals: Totals::default(),
            unchanged: true,
            last_span: LastSpan::default(),
            doomed: 0,
        }
    }

    /// Compares sums of the variables with the segment's counters. The caller knows that nothing has changed since the
    /// first slot was added.
    pub fn compare_sums(&self, sums: &VariableSums) -> Result<()> {
        let state = self.att.state();
        let (count, used) = (state.count.load(Ordering::Relaxed), state.used.load(Ordering::Relaxed));
        ensure!(sums.variables == count, 1, "count is {count}, there are {} variables", sums.variables);
        ensure!(sums.used == used, 1, "used is {used}, {} bytes are charged", sums.used);
        let (expires, expiring) = (state.expiring.load(Ordering::Relaxed), sums.expiring);
        ensure!(expiring == expires, 1, "expiring is {expires}, {expiring} variables expire");
        let queued = state.queued.load(Ordering::Relaxed);
        ensure!(sums.queued == queued, 1, "queued is {queued}, queues are charged {} bytes", sums.queued);
        let (items, stated) = ((sums.items, sums.item_bytes), (sums.stated_items, sums.stated_bytes));
        ensure!(items == stated, 15, "the queues state (items, bytes) {stated:?}, there are {items:?}");
        Ok(())
    }

    /// Compares a number of retired granules with the segment's counter. The caller knows that nothing has changed
    /// since the first span was counted.
    pub fn compare_retired(&self, retired: u64) -> Result<()> {
        let counted = self.att.state().retired.load(Ordering::Relaxed);
        ensure!(retired == counted, 4, "{retired} granules are retired, the state says {counted}");
        Ok(())
    }
}
