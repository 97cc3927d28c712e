//! Several variables as of one instant.

use crate::error::Result;
use crate::fallible;
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

/// What is copied is called so where there is no memory for it.
const VALUES: &str = "the values of several variables";
/// Attempts without the lock.
const ATTEMPTS: u32 = 8;

/// One variable's value.
#[derive(Clone, Copy)]
pub enum SnapshotValue {
    /// From its slot: the pickle is `bytes[2..2 + len]`.
    Inline([u8; 16], u8),
    /// Its pickle: so many bytes of [`Snapshot::bytes`] from here.
    Small(usize, usize),
    /// A large one, held still: its number among [`Snapshot::large`].
    Large(usize),
    /// It is missing.
    Missing,
}

/// By what the second pass knows that nothing changed.
enum SnapshotProof {
    Found(Found),
    Missing(u64),
}

/// Several variables' values.
#[derive(Default)]
pub struct Snapshot<'a> {
    /// The pickles of small values, one after the other.
    pub bytes: Vec<u8>,
    /// In the order asked for.
    pub values: Vec<SnapshotValue>,
    /// Large values, which are taken from here.
    pub large: Vec<Option<LargeValue<'a>>>,
    /// Where each was found; of the missing, what the slots said that were passed over.
    proof: Vec<SnapshotProof>,
    /// Of those that expire: which, and when.
    expiries: Vec<(usize, u64)>,
}

impl Snapshot<'_> {
    /// One moment judges all.
    fn expire(&mut self) {
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
    /// The values of several variables, as of one instant.
    pub fn get_many<'a>(&'a self, indexes: &[Index<'_>], policy: &dyn WaitPolicy) -> Result<Snapshot<'a>> {
        let mut snapshot = Snapshot::default();
        let (mut backoff, mut attempts) = (Backoff::default(), 0);
        loop {
            let many = self.state().many.load(Ordering::Acquire);
            // A reader who cannot hold a large value still may find it changed, whatever it copied.
            let looked = many.is_multiple_of(2) && self.first_pass(indexes, &mut snapshot, policy)?;
            if looked {
                snapshot.expire();
            }
            if looked && self.second_pass(indexes, &snapshot)? {
                // SYNC: with the store of `many` before any slot of a batch: who saw a word of one sees it changed here.
                fence(Ordering::Acquire);
                if self.state().many.load(Ordering::Relaxed) == many {
                    return Ok(snapshot);
                }
            }
            attempts += 1;
            if !self.mem.writable() {
                let obstacle = match many.is_multiple_of(2) {
                    true => Obstacle::ManyChanged,
                    // Its writer goes on, or a process that may write brings it to its end.
                    false => Obstacle::HalfMadeBatch,
                };
                backoff.again(obstacle, self, policy)?;
            } else if !many.is_multiple_of(2) || attempts > ATTEMPTS {
                let writer = self.write(policy)?;
                if attempts > ATTEMPTS {
                    // Nobody changes anything now. Nobody waits for an interpreter, either.
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

    /// The first pass. False: a large value changed while it was copied.
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
                // It may have come before the slots were summed up, so it is looked for once more behind that.
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
            let values = match self.value_of(found, policy)? {
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
            snapshot.values.push(values);
        }
        Ok(true)
    }

    /// The second pass: is all of it still so? Then it was so at the instant between the two.
    fn second_pass(&self, indexes: &[Index<'_>], snapshot: &Snapshot<'_>) -> Result<bool> {
        for (index, proof) in indexes.iter().zip(&snapshot.proof) {
            let same = match proof {
                SnapshotProof::Found(found) => self.is_unchanged(found)?,
                SnapshotProof::Missing(sum) => self.probe_path_sum(&index.into())? == *sum,
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A sum over the root, the directory's word and the words of the slots that a search for a missing name passes: had the variable come and
    /// gone, one of them would be another.
    fn probe_path_sum(&self, name: &Name<'_>) -> Result<u64> {
        let hash = name.hash(self.identity.hash_key);
        reading!(self, |access| self.probe_path_sum_with(hash, TableOf::of(name.lock), access))
    }

    fn probe_path_sum_with(&self, hash: u64, table: TableOf, access: impl Access) -> Result<u64> {
        let leaf = self.leaf_with(hash, table, access)?;
        let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        let (mut sum, mut number) = (mix(leaf.root.0, leaf.word.0), leaf.home(hash));
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
