//! Reading several variables as of one instant, without a lock.
//!
//! The protocol is "Batches" in docs/protocol.md (**get_many**): two passes, and a counter of batches that is compared.

use crate::error::Result;
use crate::fallible;
use crate::format::Eviction;
use crate::key::{Index, Name};
use crate::os;
use crate::os::mem::Scratch;
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::variables::Variables;
use crate::variables::expiry::expiry_in;
use crate::variables::found::Found;
use crate::variables::large::LargeValue;
use crate::variables::leaf::TableOf;
use crate::variables::read::FoundValue;
use std::sync::atomic::{Ordering, fence};

/// The name of the values in the error for a lack of memory.
pub(super) const VALUES: &str = "the values of several variables";
/// Attempts without the writer lock. After them, a handle that may write acquires it.
const ATTEMPTS: u32 = 8;

/// Private to the process: one variable's value.
#[derive(Clone, Copy)]
pub enum SnapshotValue {
    /// The value was in the slot: the pickle is `bytes[2..2 + len]`.
    Inline([u8; 16], u8),
    /// The pickle was copied to [`Snapshot::bytes`]: where it begins, and its length.
    Small(usize, usize),
    /// The value is large and pinned: its number in [`Snapshot::large`].
    Large(usize),
    /// The variable is missing.
    Missing,
}

/// Private to the process: what the second pass compares.
enum SnapshotProof {
    /// The slot that was found.
    Found(Found),
    /// The sum over the probe path of a missing variable.
    Missing(u64),
}

/// Private to the process: the values of several variables.
#[derive(Default)]
pub struct Snapshot<'a> {
    /// The pickles of small values, one after the other.
    pub bytes: Vec<u8>,
    /// The values, in the order asked for.
    pub values: Vec<SnapshotValue>,
    /// The large values that are pinned. The caller takes them out of here.
    pub large: Vec<Option<LargeValue<'a>>>,
    /// For each variable, what the second pass compares.
    proof: Vec<SnapshotProof>,
    /// For each variable that expires, its number and when.
    pub(super) expiries: Vec<(usize, u64)>,
}

impl Snapshot<'_> {
    /// Makes the expired variables missing. One reading of the clock judges all of them.
    pub(super) fn expire(&mut self) {
        if self.expiries.is_empty() {
            return;
        }
        let now = os::boottime_ns();
        for (number, _) in self.expiries.iter().filter(|(_, expiry)| *expiry <= now) {
            self.values[*number] = SnapshotValue::Missing;
        }
    }
}

impl Variables {
    /// Reads the values of several variables as of one instant, and notes that they were used.
    pub fn get_many<'a>(&'a self, indexes: &[Index<'_>], policy: &dyn WaitPolicy) -> Result<Snapshot<'a>> {
        let snapshot = self.snapshot(indexes, policy)?;
        if self.eviction == Some(Eviction::Lru) {
            self.note_uses_of(indexes, &snapshot.values);
        }
        Ok(snapshot)
    }

    /// Reads the values of several variables as of one instant.
    #[inline]
    fn snapshot<'a>(&'a self, indexes: &[Index<'_>], policy: &dyn WaitPolicy) -> Result<Snapshot<'a>> {
        let mut snapshot = Snapshot::default();
        if self.snapshot_fast(indexes, &mut snapshot) {
            return Ok(snapshot);
        }
        let (mut backoff, mut attempts) = (Backoff::default(), 0);
        loop {
            let many = self.state().many.load(Ordering::Acquire);
            // A reader that cannot pin a large value may find that it changed during the copy.
            let looked = many.is_multiple_of(2) && self.first_pass(indexes, &mut snapshot, policy)?;
            if looked {
                snapshot.expire();
            }
            if looked && self.second_pass(indexes, &snapshot, policy)? {
                // SYNC: pairs with the store of `many` before any slot of a batch: a reader that saw a slot's word of
                // that batch sees here that `many` has changed.
                fence(Ordering::Acquire);
                if self.state().many.load(Ordering::Relaxed) == many {
                    return Ok(snapshot);
                }
            }
            attempts += 1;
            if !self.mem.writable() {
                let obstacle = match many.is_multiple_of(2) {
                    true => Obstacle::ManyChanged,
                    // The batch's writer goes on, or a process that may write brings the batch to its end.
                    false => Obstacle::HalfMadeBatch,
                };
                backoff.again(obstacle, self, policy)?;
            } else if !many.is_multiple_of(2) || attempts > ATTEMPTS {
                let writer = self.write(policy)?;
                if attempts > ATTEMPTS {
                    // With the writer lock held nothing changes, and no call may wait for an interpreter.
                    let whole = self.first_pass(indexes, &mut snapshot, &Blocking)?;
                    drop(writer);
                    if whole {
                        snapshot.expire();
                        return Ok(snapshot);
                    }
                    policy.interrupted()?;
                }
            }
        }
    }

    /// Makes the first pass: finds and copies every value. Returns `false` if a large value changed during the copy.
    fn first_pass<'a>(
        &'a self,
        indexes: &[Index<'_>],
        snapshot: &mut Snapshot<'a>,
        policy: &dyn WaitPolicy,
    ) -> Result<bool> {
        snapshot.bytes.clear();
        snapshot.values.clear();
        snapshot.large.clear();
        snapshot.proof.clear();
        snapshot.expiries.clear();
        fallible::reserve(&mut snapshot.values, indexes.len(), VALUES)?;
        fallible::reserve(&mut snapshot.proof, indexes.len(), VALUES)?;
        for index in indexes {
            let mut scratch = Scratch::new();
            let Some(found) = self.find_entry(&index.into(), &mut scratch, policy)? else {
                // The variable may have come before the sum was made, so it is looked for once more afterwards.
                let sum = self.probe_path_sum(&index.into())?;
                if self.find_entry(&index.into(), &mut scratch, policy)?.is_some() {
                    return Ok(false);
                }
                snapshot.proof.push(SnapshotProof::Missing(sum));
                snapshot.values.push(SnapshotValue::Missing);
                continue;
            };
            snapshot.proof.push(SnapshotProof::Found(found));
            if found.content.expires() {
                let expiry = (snapshot.values.len(), expiry_in(scratch.bytes()).unwrap_or(0));
                fallible::push(&mut snapshot.expiries, expiry, VALUES)?;
            }
            let start = snapshot.bytes.len();
            let value = match self.value_of(found, policy)? {
                FoundValue::Inline { bytes, len, .. } => SnapshotValue::Inline(bytes, len as u8),
                FoundValue::Record { prefix, .. } => {
                    let pickle = &scratch.bytes()[prefix..];
                    fallible::reserve(&mut snapshot.bytes, pickle.len(), VALUES)?;
                    snapshot.bytes.extend_from_slice(pickle);
                    SnapshotValue::Small(start, snapshot.bytes.len() - start)
                }
                FoundValue::Large(large) if large.pinned() => {
                    fallible::push(&mut snapshot.large, Some(large), VALUES)?;
                    SnapshotValue::Large(snapshot.large.len() - 1)
                }
                FoundValue::Large(large) => {
                    let Some(pickle) = large.pickle(policy)? else { return Ok(false) };
                    fallible::reserve(&mut snapshot.bytes, pickle.len(), VALUES)?;
                    snapshot.bytes.extend_from_slice(&pickle);
                    SnapshotValue::Small(start, pickle.len())
                }
            };
            snapshot.values.push(value);
        }
        Ok(true)
    }

    /// Makes the second pass: returns whether everything is still as the first pass found it. Then all of it was so at
    /// the instant between the two passes.
    fn second_pass(&self, indexes: &[Index<'_>], snapshot: &Snapshot<'_>, policy: &dyn WaitPolicy) -> Result<bool> {
        for ((index, proof), value) in indexes.iter().zip(&snapshot.proof).zip(&snapshot.values) {
            let same = match proof {
                SnapshotProof::Found(found) => {
                    let missing = matches!(value, SnapshotValue::Missing);
                    self.is_unchanged(found)? || (!missing && self.has_same_value(index, found, policy)?)
                }
                SnapshotProof::Missing(sum) => self.probe_path_sum(&index.into())? == *sum,
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns whether a variable that had not expired still has the version that was found, and has not expired by now.
    /// So it was there all the time with that value, whatever `expire` did.
    #[cold]
    fn has_same_value(&self, index: &Index<'_>, found: &Found, policy: &dyn WaitPolicy) -> Result<bool> {
        let now = self.find(index, &mut Scratch::new(), policy)?;
        Ok(now.is_some_and(|now| now.content.version() == found.content.version()))
    }

    /// Returns a sum over the root, the directory's word, and the words of the slots on the probe path of a missing
    /// name. If the variable came and went between two such sums, one of these words has changed.
    fn probe_path_sum(&self, name: &Name<'_>) -> Result<u64> {
        let hash = name.hash(self.identity.hash_key);
        reading!(self, |access| self.probe_path_sum_with(hash, TableOf::of(name.is_name()), access))
    }

    /// Computes the sum within one read section.
    fn probe_path_sum_with(&self, hash: u64, table: TableOf, access: impl Access) -> Result<u64> {
        let leaf = self.leaf_with(hash, table, access)?;
        let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        let (mut sum, mut number) = (mix(leaf.root.table(), leaf.word.0), leaf.home(hash));
        for _ in 0..leaf.slots {
            let word = access.word(self, leaf.slot_at(number))?;
            sum = mix(sum, word);
            if word == 0 {
                break;
            }
            number = leaf.after(number);
        }
        fence(Ordering::Acquire);
        Ok(sum)
    }
}
