//! The self-check: every invariant of docs/format.md, one condition a line, named by its number there.

mod arena;
mod checker;
mod closing;
mod copy;
mod fixed;
mod invariant;
mod last_span;
mod leaf_id;
mod participants;
mod records;
mod references;
mod report;
mod slices;
mod sums;
mod suspects;
mod table;
#[cfg(test)]
mod tests;
mod without_lock;

pub use report::Report;

use crate::error::Result;
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use slices::{HOLD, check_in_slices};
use without_lock::{check_unlocked_intent, check_without_lock};

/// Verifies every invariant. With `write`, in slices of the writer lock, which repair first what a dead owner left; else
/// without, again and again until nobody changed anything meanwhile.
pub fn check(att: &Attachment, write: bool, policy: &dyn WaitPolicy) -> Result<Report> {
    // Before anything is touched: an object that was cut short is an error.
    att.with_file(|_| ())?;
    if write {
        check_unlocked_intent(att)?;
        return check_in_slices(att, HOLD, policy).map(|(report, _)| report);
    }
    check_without_lock(att, policy)
}
