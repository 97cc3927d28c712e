//! Check.

use super::invariant::hold;
use super::last_span::LastSpan;
use super::references::References;
use super::report::Report;
use super::sums::{Totals, VariableSums};
use super::suspects::Suspects;
use crate::error::Result;
use crate::process::attachment::Attachment;
use std::sync::atomic::Ordering;

/// What a check has seen.
pub(super) struct Check<'a> {
    /// What is verified: the segment itself, or a private copy of it.
    pub att: &'a Attachment,
    /// The segment itself.
    pub live: &'a Attachment,
    pub report: Report,
    pub references: References,
    pub suspects: Suspects,
    pub totals: Totals,
    /// Nobody has changed anything since the first hold: then what was seen in any is so.
    pub still: bool,
    /// What covers the beginning of the next zone.
    pub last_span: LastSpan,
    /// The doomed table when its leaves were last looked at.
    pub doomed: u64,
}

impl<'a> Check<'a> {
    pub fn new(att: &'a Attachment, live: &'a Attachment) -> Self {
        Check {
            att,
            live,
            report: Report::default(),
            references: References::default(),
            suspects: Suspects::default(),
            totals: Totals::default(),
            still: true,
            last_span: LastSpan::default(),
            doomed: 0,
        }
    }

    /// Compares a sum that was made while nothing changed with what the state says.
    pub fn compare_sums(&self, sums: &VariableSums) -> Result<()> {
        let state = self.att.state();
        let (count, used) = (state.count.load(Ordering::Relaxed), state.used.load(Ordering::Relaxed));
        hold!(sums.variables == count, 1, "count is {count}, there are {} variables", sums.variables);
        hold!(sums.used == used, 1, "used is {used}, {} bytes are charged", sums.used);
        let (expires, expiring) = (state.expiring.load(Ordering::Relaxed), sums.expiring);
        hold!(expiring == expires, 1, "expiring is {expires}, {expiring} variables expire");
        Ok(())
    }

    pub fn compare_retired(&self, retired: u64) -> Result<()> {
        let counted = self.att.state().retired.load(Ordering::Relaxed);
        hold!(retired == counted, 4, "{retired} granules are retired, the state says {counted}");
        Ok(())
    }
}
