//! A pass over the table for what has changed since a version. Of a leaf in which nothing has changed no slot is looked
//! at closely: the leaf is copied as a whole, and the copy says so.
//!
//! The protocol is "Changes" in docs/protocol.md. Passes that look at each slot closely are in `scan.rs`.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::SLOT;
use crate::format::slot_flags::EXPIRES;
use crate::key::IndexBuf;
use crate::os;
use crate::os::mem::Scratch;
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::slot::Content;
use crate::variables::Variables;
use crate::variables::found::Found;
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::scan::{ATTEMPTS_PER_SLOT, ScanPass};
use std::time::{Duration, Instant};

/// The name of what a pass finds, in the error for a lack of memory.
const CHANGES: &str = "the changes of a segment";

/// After so long a pass lets the interpreter's other threads go on, and its caller look at something else.
const TURN: Duration = Duration::from_millis(1);

/// Private to the process: what a pass looks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Variables with a later version, and those that have expired.
    pub newer_than: u64,
    /// All variables, whatever their version.
    pub all: bool,
    /// Only texts that begin with this.
    pub prefix: Option<&'a str>,
}

/// Private to the process: a variable that a pass found.
#[derive(Debug)]
pub struct Seen {
    /// Its index.
    pub index: IndexBuf,
    /// The integer index, or the hash of the text: what stands in its slot.
    pub index_word: u64,
    /// Its version.
    pub version: u64,
    /// It has expired, so it is missing.
    pub expired: bool,
}

/// Private to the process: what a pass has found.
#[derive(Debug, Default)]
pub struct PassResult {
    /// The variables that were looked for. Each that stood still throughout comes once, and none of those is left out.
    pub seen: Vec<Seen>,
    /// When the first variable expires that has not expired yet, whatever its version, on the clock of expiries.
    pub expires: Option<u64>,
    /// The least version of any variable, in a pass over all of them.
    pub oldest: Option<u64>,
}

/// A slot that is busy although no change under way explains it: its file offset, its word, and its leaf.
type BusySlot = (u64, u64, Leaf);

impl Variables {
    /// Passes over all variables. `turn` is called every millisecond or so.
    pub fn pass_changes(
        &self,
        wanted: Wanted<'_>,
        turn: &mut dyn FnMut() -> Result<()>,
        policy: &dyn WaitPolicy,
    ) -> Result<PassResult> {
        let (mut result, mut scratch) = (PassResult::default(), Scratch::new());
        let (mut backoff, mut hash) = (Backoff::default(), Some(0));
        let mut since = Instant::now();
        while let Some(from) = hash {
            let seen = result.seen.len();
            let passed =
                reading!(self, policy, |access| self.pass_leaf(from, &wanted, &mut result, &mut scratch, access));
            match passed? {
                Ok(end) => hash = end,
                Err(busy) => {
                    result.seen.truncate(seen);
                    if let Some((offset, word, leaf)) = busy {
                        self.wait_for_busy_slot(offset, word, &leaf, &mut backoff, policy)?;
                    }
                    backoff.again(Obstacle::Changed, self, policy)?;
                }
            }
            // Between two leaves nothing is held that the interpreter's other threads could wait for.
            if since.elapsed() >= TURN {
                turn()?;
                policy.allow_threads(&mut || {});
                since = Instant::now();
            }
            policy.interrupted()?;
        }
        Ok(result)
    }

    /// Passes over the leaf of a hash, within one read section. Returns the first hash behind the leaf's. `Err`: the
    /// leaf has to be looked at anew, and this busy slot is the reason, if one is.
    fn pass_leaf(
        &self,
        from: u64,
        wanted: &Wanted<'_>,
        result: &mut PassResult,
        scratch: &mut Scratch,
        access: impl Access,
    ) -> Result<std::result::Result<Option<u64>, Option<BusySlot>>> {
        let table = TableOf::Variables;
        let leaf = self.leaf_with(from, table, access)?;
        if !self.leaf_is_sound(&leaf, access)? && !self.is_being_replaced(&leaf) {
            if !self.is_in_force_with(&leaf, table, access)? {
                return Ok(Err(None));
            }
            return Err(Error::corrupt(format_args!("the leaf {:#x} that a directory names", leaf.word.0)));
        }
        access.record(self, leaf.base, ((leaf.slots + 1) * SLOT) as usize, scratch)?;
        let (joined, pass) = (leaf.begin(from) < from, ScanPass::new(self, leaf, table));
        for (number, slot) in scratch.bytes().chunks_exact(SLOT as usize).enumerate().skip(1) {
            let word = |at: usize| u64::from_ne_bytes(slot[at..at + 8].try_into().expect("eight bytes"));
            let copy = Content { word: word(0), rest: [word(8), word(16), word(24)] };
            // SYNC: the copy is not that of an instant. But a slot that stands still is copied right, and one that does
            // not is changed to a version that the caller leaves to its next pass.
            let close = copy.version() > wanted.newer_than || wanted.all || copy.rest[1] & EXPIRES != 0;
            if copy.word == 0 || !close || !(copy.is_entry() || copy.word & 1 == 1) {
                continue;
            }
            let Some(found) = pass.slot(leaf.slot_at(number as u64), access)? else { break };
            self.look_closely(&pass, found, wanted, joined.then_some(from), result)?;
            if pass.is_given_up() {
                break;
            }
        }
        if pass.is_given_up() || !self.is_in_force_with(&leaf, table, access)? {
            return Ok(Err(pass.busy().map(|(offset, word)| (offset, word, leaf))));
        }
        Ok(Ok(leaf.end(from)))
    }

    /// Takes what is in a slot, if it is wanted. `from`: only hashes from this one on are taken from the leaf.
    fn look_closely(
        &self,
        pass: &ScanPass<'_>,
        mut found: Found,
        wanted: &Wanted<'_>,
        from: Option<u64>,
        result: &mut PassResult,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS_PER_SLOT {
            let content = &found.content;
            if !content.is_variable() || from.is_some_and(|from| self.hash_of(content) < from) {
                return Ok(());
            }
            let expiry = if content.expires() { self.read_expiry(&found) } else { Ok(None) };
            // An expiry counts only if the slot is unchanged. Where it has changed, its span may have been given back.
            let unchanged = !content.expires() || self.is_unchanged(&found)?;
            if unchanged {
                let expiry = expiry?;
                let expired = expiry.is_some_and(|expiry| expiry <= os::boottime_ns());
                if !expired {
                    result.expires = [result.expires, expiry].into_iter().flatten().min();
                }
                result.oldest = [result.oldest, Some(content.version())].into_iter().flatten().min();
                if !(wanted.all || expired || content.version() > wanted.newer_than)
                    || (wanted.prefix.is_some() && !content.is_text())
                {
                    return Ok(());
                }
                if let Some(index) = self.index_if_unchanged(&found)? {
                    let is_wanted = |prefix: &str| matches!(&index, IndexBuf::Text(text) if text.starts_with(prefix));
                    if wanted.prefix.is_none_or(is_wanted) {
                        let (index_word, version) = (content.rest[0], content.version());
                        fallible::push(&mut result.seen, Seen { index, index_word, version, expired }, CHANGES)?;
                    }
                    return Ok(());
                }
            }
            let Some(now) = pass.reload(&found)? else { return Ok(()) };
            found = now;
        }
        pass.give_up();
        Ok(())
    }
}
