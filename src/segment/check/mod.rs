//! The self-check: verifies every invariant of docs/format.md ("Invariants"), one condition a line, named by its number
//! there. It reports the first invariant that does not hold and repairs nothing. Protocol: docs/protocol.md, "Check".
//!
//! From the entry down to what everything uses:
//!
//! * `without_lock`: the whole check for a handle that may not write
//! * `private_copy`: the copy of a segment that such a check verifies
//! * `slices`: the order of the steps, and the holds of the writer lock
//! * `closing`: the last steps: sums, and what the tables did not name
//! * `table`: a leaf with its slots, and the directory words that name it
//! * `records`: what one slot says: its record, index and lock
//! * `arena`: a zone: spans, blocks and bitmaps
//! * `checker`: `Checker`, what the check has seen so far
//! * `participants`: the participants' records and pins
//! * `fixed`: the identity and the counters that bound everything else
//! * `references`: which leaf names what in the arena
//! * `suspects`: what is in use in the arena although no table named it
//! * `leaf_id`: a leaf of one of the three tables, in four bytes
//! * `last_span`: the span that may reach into the next zone
//! * `sums`: counts of variables and bytes
//! * `report`: the result, for callers
//! * `invariant`: the macro that states an invariant

mod arena;
mod checker;
mod closing;
mod fixed;
mod invariant;
mod last_span;
mod leaf_id;
mod participants;
mod private_copy;
mod queues;
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

/// Verifies every invariant. If `write`, the check holds the writer lock, one slice at a time; taking the lock repairs
/// first what a dead owner left. Otherwise it takes no lock, and begins again until nobody has changed the segment
/// during it.
pub fn check(att: &Attachment, write: bool, policy: &dyn WaitPolicy) -> Result<Report> {
    // The length comes first: if the object was cut short, touching its pages would be a signal and not an error.
    att.with_file(|_| ())?;
    if write {
        check_unlocked_intent(att)?;
        return check_in_slices(att, HOLD, policy).map(|(report, _)| report);
    }
    check_without_lock(att, policy)
}
