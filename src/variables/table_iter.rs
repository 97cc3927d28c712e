//! Any variable: from a random place on, round the table once.

use crate::error::Result;
use crate::key::IndexBuf;
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;
use crate::variables::Variables;
use crate::variables::leaf::TableOf;
use crate::variables::scan::ScanPass;

/// How far a walk is that began at a random hash: it ends where it began.
pub struct TableIter {
    began: u64,
    hash: u64,
    /// The slot to look at next; 0: where a search for the hash begins.
    slot: u64,
    wrapped: bool,
    /// Variables that are passed over first: who lies behind another one would hardly ever be met, else.
    skip: u64,
    passed: u64,
    backoff: Backoff,
}

/// What one look at the rest of a leaf found.
enum Step {
    Variable(IndexBuf, u64),
    /// Nothing up to its end; the first hash behind it.
    End(Option<u64>),
    /// Something did not stand still: a slot that was busy, if it was one.
    Again,
}

impl TableIter {
    /// From a hash on.
    pub fn new(hash: u64) -> Self {
        let skip = hash >> 8 & 7;
        TableIter { began: hash, hash, slot: 0, wrapped: false, skip, passed: 0, backoff: Backoff::default() }
    }
}

impl Variables {
    /// The index of the next variable of a walk. `None`: it has come round.
    pub fn next_variable(&self, table_iter: &mut TableIter, policy: &dyn WaitPolicy) -> Result<Option<IndexBuf>> {
        loop {
            let (hash, slot) = (table_iter.hash, table_iter.slot);
            match reading!(self, policy, |access| self.search_rest_of_leaf(hash, slot, access))? {
                Step::Variable(index, next) => {
                    table_iter.slot = next;
                    if table_iter.skip == 0 {
                        return Ok(Some(index));
                    }
                    (table_iter.skip, table_iter.passed) = (table_iter.skip - 1, table_iter.passed + 1);
                }
                Step::Again => table_iter.backoff.again(Obstacle::Changed, self, policy)?,
                Step::End(end) => {
                    if table_iter.wrapped && end.is_none_or(|end| end > table_iter.began) {
                        if table_iter.passed == 0 {
                            return Ok(None);
                        }
                        // Those that were passed over have their turn; if there were too few, as if it had gone round.
                        let skip = table_iter.skip % table_iter.passed;
                        *table_iter = TableIter { skip, passed: 0, ..TableIter::new(table_iter.began) };
                        continue;
                    }
                    table_iter.wrapped |= end.is_none();
                    (table_iter.hash, table_iter.slot) = (end.unwrap_or(0), 1);
                    policy.interrupted()?;
                }
            }
        }
    }

    /// The rest of a leaf, within one section.
    fn search_rest_of_leaf(&self, hash: u64, slot: u64, access: impl Access) -> Result<Step> {
        let table = TableOf::Variables;
        let leaf = self.leaf_with(hash, table, access)?;
        let first = if slot == 0 { leaf.home(hash) } else { slot };
        // Its head: what it counts. A leaf without an entry is passed over at once.
        let empty = access.word(self, leaf.base)? & u64::from(u32::MAX) == 0;
        let pass = ScanPass::new(self, leaf, table);
        for number in first..=if empty { 0 } else { leaf.slots } {
            let Some(found) = pass.slot(leaf.slot_at(number), access)? else { return Ok(Step::Again) };
            if !found.content.is_variable() {
                continue;
            }
            if let Some(live) = self.live_now(&pass, &found)? {
                if let Some(index) = self.index_of(&pass, &live)? {
                    return Ok(Step::Variable(index, number + 1));
                }
            }
        }
        Ok(if self.is_in_force_with(&leaf, table, access)? { Step::End(leaf.end(hash)) } else { Step::Again })
    }
}
