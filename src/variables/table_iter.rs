//! Finding any variable: the table from a random hash on, once round. `popitem` of the Python interface uses it. And
//! finding a few of very many, for displays.
//!
//! The looks are those of "Iteration" in docs/protocol.md. A pass over all variables is `scan.rs`.

use crate::error::Result;
use crate::fallible;
use crate::key::IndexBuf;
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;
use crate::variables::Variables;
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::scan::ScanPass;
use std::time::{Duration, Instant};

/// Private to the process: where an iteration stands that began at a random hash. It ends where it began.
pub struct TableIter {
    began: u64,
    hash: u64,
    /// Number of the slot to look at next. 0: the slot at which a search for `hash` begins.
    slot: u64,
    wrapped: bool,
    /// Variables to pass over first. Without that, a variable behind another one would hardly ever be the first.
    skip: u64,
    passed: u64,
    backoff: Backoff,
}

/// What one look at the rest of a leaf found.
enum Step {
    Variable(IndexBuf, u64),
    /// No variable up to the leaf's end. The first hash behind the leaf; `None`: it was the last leaf.
    End(Option<u64>),
    /// A slot or the leaf changed: the rest of the leaf is looked at anew.
    Again,
    /// A slot is busy although no change under way explains it.
    Busy(BusySlot),
}

/// A busy slot that no change under way explains.
struct BusySlot {
    offset: u64,
    word: u64,
    leaf: Leaf,
    /// Number of the slot behind it.
    next: u64,
}

/// Indexes of variables, found for a display.
pub struct FirstIndexes {
    /// The indexes.
    pub indexes: Vec<IndexBuf>,
    /// Number of slots that were passed over because they are half changed: their writer is stopped, or they are damaged.
    pub half_changed: usize,
}

/// So long a display waits, in all, for slots that are half changed. A writer that runs needs less than a microsecond.
const DISPLAY_PATIENCE: Duration = Duration::from_millis(20);

impl TableIter {
    /// Begins an iteration at a hash.
    pub fn new(hash: u64) -> Self {
        let skip = hash >> 8 & 7;
        TableIter { began: hash, hash, slot: 0, wrapped: false, skip, passed: 0, backoff: Backoff::default() }
    }
}

impl Variables {
    /// Returns the index of the next variable. `None`: the iteration has come round.
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
                Step::Busy(BusySlot { offset, word, leaf, .. }) => {
                    self.wait_for_busy_slot(offset, word, &leaf, &mut table_iter.backoff, policy)?;
                    table_iter.backoff.again(Obstacle::Changed, self, policy)?;
                }
                Step::End(end) => {
                    if table_iter.wrapped && end.is_none_or(|end| end > table_iter.began) {
                        if table_iter.passed == 0 {
                            return Ok(None);
                        }
                        // The iteration came round while variables were passed over. It starts again and passes over as
                        // many as would have been left had it gone round several times.
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

    /// Returns the indexes of at most `count` variables: those with the lowest hashes. It takes no lock, so it cannot
    /// repair a slot that is half changed: it passes over such a slot after [`DISPLAY_PATIENCE`], and counts it.
    pub fn first_indexes(&self, count: usize, policy: &dyn WaitPolicy) -> Result<FirstIndexes> {
        let (mut backoff, mut hash, mut slot) = (Backoff::default(), 0, 1);
        let mut found = FirstIndexes { indexes: Vec::new(), half_changed: 0 };
        let mut patience = DISPLAY_PATIENCE;
        while found.indexes.len() < count {
            match reading!(self, policy, |access| self.search_rest_of_leaf(hash, slot, access))? {
                Step::Variable(index, next) => {
                    fallible::push(&mut found.indexes, index, "a list of indexes")?;
                    slot = next;
                }
                Step::Again => backoff.again(Obstacle::Changed, self, policy)?,
                Step::Busy(_) if !patience.is_zero() => {
                    let began = Instant::now();
                    backoff.again(Obstacle::HalfChanged, self, policy)?;
                    patience = patience.saturating_sub(began.elapsed());
                }
                Step::Busy(busy) => {
                    found.half_changed += 1;
                    slot = busy.next;
                }
                Step::End(None) => break,
                Step::End(Some(end)) => {
                    (hash, slot) = (end, 1);
                    policy.interrupted()?;
                }
            }
        }
        Ok(found)
    }

    /// Looks at the rest of a leaf, within one read section.
    fn search_rest_of_leaf(&self, hash: u64, slot: u64, access: impl Access) -> Result<Step> {
        let table = TableOf::Variables;
        let leaf = self.leaf_with(hash, table, access)?;
        let first = if slot == 0 { leaf.home(hash) } else { slot };
        // The head of a leaf counts its entries. A leaf without any is passed over at once.
        let empty = access.word(self, leaf.base)? & u64::from(u32::MAX) == 0;
        let pass = ScanPass::new(self, leaf, table);
        let again = |number| match pass.busy() {
            Some((offset, word)) => Step::Busy(BusySlot { offset, word, leaf, next: number + 1 }),
            None => Step::Again,
        };
        for number in first..=if empty { 0 } else { leaf.slots } {
            let Some(found) = pass.slot(leaf.slot_at(number), access)? else { return Ok(again(number)) };
            if !found.content.is_variable() {
                continue;
            }
            if let Some(live) = self.live_now(&pass, &found)? {
                if let Some(index) = self.index_of(&pass, &live)? {
                    return Ok(Step::Variable(index, number + 1));
                }
            }
            if pass.is_given_up() {
                return Ok(again(number));
            }
        }
        Ok(if self.is_in_force_with(&leaf, table, access)? { Step::End(leaf.end(hash)) } else { Step::Again })
    }
}
