//! Passes over all slots of a table without a lock, leaf by leaf.
//!
//! The protocol is "Iteration" in docs/protocol.md. A single variable is found in `lookup.rs`.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::Root;
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::process::backoff::Backoff;
use crate::process::backoff::Obstacle;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::intent::Change;
use crate::sync::slot::{BUSY, Content};
use crate::variables::Variables;
use crate::variables::found::{ContentSource, Found, pending};
use crate::variables::leaf::{Leaf, TableOf};
use std::cell::Cell;
use std::sync::atomic::Ordering;

/// How often one slot is looked at within one read section before the leaf is given up and looked at anew.
pub const ATTEMPTS_PER_SLOT: u32 = 64;

/// Private to the process: one pass over a leaf, within one read section. What a caller does for each slot runs in that
/// section, so it must not wait.
pub struct ScanPass<'a> {
    att: &'a Variables,
    leaf: Leaf,
    table: TableOf,
    /// A slot that was busy although no change under way explains it: its file offset and word.
    busy: Cell<Option<(u64, u64)>>,
    /// Something changed at each attempt, or is busy: what was seen of the leaf is dropped, and the leaf is looked at
    /// anew.
    given_up: Cell<bool>,
}

impl Variables {
    /// Calls `see` for every variable or name, and returns what `see` made of them. A variable that was there
    /// throughout comes exactly once, although leaves are replaced meanwhile.
    pub fn scan<T>(
        &self,
        table: TableOf,
        mut see: impl FnMut(&ScanPass<'_>, Found) -> Result<Option<T>>,
        policy: &dyn WaitPolicy,
    ) -> Result<Vec<T>> {
        let (mut all, mut backoff, mut hash) = (Vec::new(), Backoff::default(), Some(0));
        while let Some(from) = hash {
            let seen = all.len();
            let (end, busy) = reading!(self, policy, |access| self.pass(from, table, &mut all, &mut see, access))?;
            if end.is_none() {
                // The leaf was replaced, or all variables were removed, or a slot did not stand still: this range of
                // hashes is looked at once more.
                all.truncate(seen);
                if let Some((offset, word, leaf)) = busy {
                    self.wait_for_busy_slot(offset, word, &leaf, &mut backoff, policy)?;
                }
                backoff.again(Obstacle::Changed, self, policy)?;
                policy.interrupted()?;
                continue;
            }
            hash = end.flatten();
            policy.interrupted()?;
        }
        Ok(all)
    }

    /// Looks at every slot of the leaf of a hash, within one read section. Returns the first hash behind the leaf's;
    /// the outer `None` says that the leaf has to be looked at anew, and then the second part names the busy slot that
    /// is the reason, if one is.
    #[allow(clippy::type_complexity, reason = "one caller")]
    fn pass<T>(
        &self,
        from: u64,
        table: TableOf,
        all: &mut Vec<T>,
        see: &mut impl FnMut(&ScanPass<'_>, Found) -> Result<Option<T>>,
        access: impl Access,
    ) -> Result<(Option<Option<u64>>, Option<(u64, u64, Leaf)>)> {
        let leaf = self.leaf_with(from, table, access)?;
        // A leaf that is being replaced stands as it was until the directory's word is another one. If its writer died
        // and this process may not repair, that is for ever.
        if !self.leaf_is_sound(&leaf, access)? && !self.is_being_replaced(&leaf) {
            if !self.is_in_force_with(&leaf, table, access)? {
                return Ok((None, None));
            }
            return Err(Error::corrupt(format_args!("the leaf {:#x} that a directory names", leaf.word.0)));
        }
        // The leaf was joined with one that was looked at already: only the hashes that were not looked at are taken
        // from it.
        let joined = leaf.begin(from) < from;
        let pass = ScanPass::new(self, leaf, table);
        for number in 1..=leaf.slots {
            let Some(found) = pass.slot(leaf.slot_at(number), access)? else { break };
            if found.content.is_entry() && (!joined || self.hash_of(&found.content) >= from) {
                if let Some(seen) = see(&pass, found)? {
                    fallible::push(all, seen, "a list of what is stored")?;
                }
            }
            if pass.given_up.get() {
                break;
            }
        }
        if pass.given_up.get() || !self.is_in_force_with(&leaf, table, access)? {
            return Ok((None, pass.busy.get().map(|(offset, word)| (offset, word, leaf))));
        }
        Ok((Some(leaf.end(from)), None))
    }

    /// Returns whether the change under way replaces this leaf, and has not stored the directory's word yet.
    pub(super) fn is_being_replaced(&self, leaf: &Leaf) -> bool {
        let area = self.mem.intent();
        let (valid, at) = (area.valid.load(Ordering::Acquire), area.words_at.load(Ordering::Relaxed));
        let within = leaf.word_at >= at && leaf.word_at - at < area.words.load(Ordering::Relaxed).saturating_mul(8);
        let replaced = area.spans.iter().any(|span| span.granule.load(Ordering::Relaxed) == leaf.word.granule());
        valid != 0 && (within || replaced)
    }
}

impl<'a> ScanPass<'a> {
    /// Begins a pass over a leaf.
    pub fn new(att: &'a Variables, leaf: Leaf, table: TableOf) -> Self {
        ScanPass { att, leaf, table, busy: Cell::new(None), given_up: Cell::new(false) }
    }

    /// Returns what is in a slot once it stands still, or what the change under way makes of it. `None`: the slot did
    /// not stand still, or the leaf was replaced; the pass is given up.
    pub fn slot(&self, offset: u64, access: impl Access) -> Result<Option<Found>> {
        let intent = self.att.mem.intent();
        for _ in 0..ATTEMPTS_PER_SLOT {
            // Before the slot: so a slot whose count of moves went round while it was copied shows, by the rounds.
            let root = Root(self.att.root_word(self.table).load(Ordering::Acquire));
            let word = access.word(self.att, offset)?;
            let pending = if word & BUSY == 1 { pending(self.att, offset, word) } else { None };
            let (content, token) = match pending {
                Some((serial, content)) => (content, ContentSource::Intent(serial)),
                None => (Content { word, rest: access.rest(self.att, offset)? }, ContentSource::Slot),
            };
            let found = Found { root, ..self.leaf.found(offset, content, token) };
            let still = match token {
                ContentSource::Slot => true,
                ContentSource::Intent(serial) => Change::is_current(intent, serial.get()),
            };
            if !self.att.is_in_force_with(&self.leaf, self.table, access)? {
                self.busy.set(None);
                self.given_up.set(true);
                return Ok(None);
            }
            let unmoved = still && access.word(self.att, offset)? == word;
            // SYNC: as at the end of `is_unchanged_with`.
            let unmoved = unmoved && self.att.root_word(self.table).load(Ordering::Acquire) == root.0;
            if (word & BUSY == 0 || pending.is_some()) && unmoved {
                if found.content.is_entry() && TableOf::of(found.content.is_name()) != self.table {
                    // A later look whether the slot is unchanged would look at the other table, where it never is.
                    return Err(Error::corrupt(format_args!(
                        "the slot at {offset}: a name in the table of the variables, or a variable in that of the names"
                    )));
                }
                return Ok(Some(found));
            }
            self.busy.set((word & BUSY == 1 && pending.is_none()).then_some((offset, word)));
        }
        self.given_up.set(true);
        Ok(None)
    }

    /// Gives the pass up: what was looked at changed at each attempt.
    pub fn give_up(&self) {
        self.given_up.set(true);
    }

    /// Returns whether the pass is given up: what was seen of the leaf is dropped.
    pub fn is_given_up(&self) -> bool {
        self.given_up.get()
    }

    /// Returns the slot that is busy although no change under way explains it, if that is why the pass was given up.
    pub fn busy(&self) -> Option<(u64, u64)> {
        self.busy.get()
    }

    /// Looks again at a slot that changed after it was found. `None`: it did not stand still, and the pass is given up.
    pub fn reload(&self, found: &Found) -> Result<Option<Found>> {
        reading!(self.att, |access| self.slot(found.offset, access))
    }
}

impl Leaf {
    /// Returns the first hash of this leaf's range. `hash` is any one in it.
    pub(super) fn begin(&self, hash: u64) -> u64 {
        match self.range_depth() {
            0 => 0,
            depth => hash >> (64 - depth) << (64 - depth),
        }
    }

    /// Returns the first hash behind this leaf's range. `hash` is any one in it. `None`: the range is the last.
    pub fn end(&self, hash: u64) -> Option<u64> {
        match self.range_depth() {
            0 => None,
            depth => ((hash >> (64 - depth)) + 1).checked_mul(1 << (64 - depth)).filter(|end| *end != 0),
        }
    }

    /// Returns how many first bits the hashes of this leaf have in common. A word may claim more than its directory
    /// looks at; no more than those count, so a pass over all leaves has no more steps than the directory has words.
    fn range_depth(&self) -> u32 {
        self.word.depth().min(self.root.depth()).min(63)
    }
}
