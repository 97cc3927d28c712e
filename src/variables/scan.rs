//! Looking at every slot, or at one until it stands still.

use crate::error::{Error, Result};
use crate::fallible;
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

/// Looks at one slot, within one section, before the leaf is left and looked at anew.
pub const ATTEMPTS_PER_SLOT: u32 = 64;

/// One pass over a leaf. What it is given for each slot runs within a section: it waits for nothing and nobody.
pub struct ScanPass<'a> {
    att: &'a Variables,
    leaf: Leaf,
    table: TableOf,
    /// A slot that was busy, and no change said why: its offset and word.
    busy: Cell<Option<(u64, u64)>>,
    /// Something changed at each look, or is busy: the leaf is looked at anew.
    undone: Cell<bool>,
}

impl Variables {
    /// What `see` makes of every variable, or name, as of one moment or nearly: what was there throughout is in it, once,
    /// although leaves are replaced meanwhile.
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
                // Replaced, or all were removed, or something did not stand still: this range of hashes once more.
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

    /// Every slot of the leaf of a hash, in one section: the first hash behind it. `None`: not so, and a slot that is why.
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
        // What is being replaced stands as it was until the directory's word is another: for ever, if its writer died and this
        // process may not repair.
        if !self.leaf_is_sound(&leaf, access)? && !self.is_being_replaced(&leaf) {
            if !self.is_in_force_with(&leaf, table, access)? {
                return Ok((None, None));
            }
            return Err(Error::corrupt(format_args!("the leaf {:#x} that a directory names", leaf.word.0)));
        }
        // Joined with one that was looked at already: only what is behind that.
        let joined = leaf.begin(from) < from;
        let pass = ScanPass::new(self, leaf, table);
        for number in 1..=leaf.slots {
            let Some(found) = pass.slot(leaf.slot_at(number), access)? else { break };
            if found.content.is_entry() && (!joined || self.hash_of(&found.content) >= from) {
                if let Some(seen) = see(&pass, found)? {
                    fallible::push(all, seen, "a list of what is stored")?;
                }
            }
            if pass.undone.get() {
                break;
            }
        }
        if pass.undone.get() || !self.is_in_force_with(&leaf, table, access)? {
            return Ok((None, pass.busy.get().map(|(offset, word)| (offset, word, leaf))));
        }
        Ok((Some(leaf.end(from)), None))
    }

    /// Is the change under way one of the directory's word, which is not stored yet?
    fn is_being_replaced(&self, leaf: &Leaf) -> bool {
        let area = self.mem.intent();
        let (valid, at) = (area.valid.load(Ordering::Acquire), area.words_at.load(Ordering::Relaxed));
        let within = leaf.word_at >= at && leaf.word_at - at < area.words.load(Ordering::Relaxed).saturating_mul(8);
        let replaced = area.spans.iter().any(|span| span.granule.load(Ordering::Relaxed) == leaf.word.granule());
        valid != 0 && (within || replaced)
    }
}

impl<'a> ScanPass<'a> {
    /// Over this leaf.
    pub fn new(att: &'a Variables, leaf: Leaf, table: TableOf) -> Self {
        ScanPass { att, leaf, table, busy: Cell::new(None), undone: Cell::new(false) }
    }

    /// What a slot says once it stands still, or what the change under way makes of it. `None`: it did not, or the leaf was
    /// replaced.
    pub fn slot(&self, offset: u64, access: impl Access) -> Result<Option<Found>> {
        let intent = self.att.mem.intent();
        for _ in 0..ATTEMPTS_PER_SLOT {
            let word = access.word(self.att, offset)?;
            let pending = if word & BUSY == 1 { pending(self.att, offset, word) } else { None };
            let (content, token) = match pending {
                Some((serial, content)) => (content, ContentSource::Intent(serial)),
                None => (Content { word, rest: access.rest(self.att, offset)? }, ContentSource::Slot),
            };
            let found = self.leaf.found(offset, content, token);
            let still = match token {
                ContentSource::Slot => true,
                ContentSource::Intent(serial) => Change::still(intent, serial.get()),
            };
            if !self.att.is_in_force_with(&self.leaf, self.table, access)? {
                self.undone.set(true);
                return Ok(None);
            }
            if (word & BUSY == 0 || pending.is_some()) && still && access.word(self.att, offset)? == word {
                if found.content.is_entry() && TableOf::of(found.content.is_lock()) != self.table {
                    // Whoever asks whether it is still so asks the other table, which never says so.
                    return Err(Error::corrupt(format_args!(
                        "the slot at {offset}: a name among variables, or the reverse"
                    )));
                }
                return Ok(Some(found));
            }
            self.busy.set((word & BUSY == 1 && pending.is_none()).then_some((offset, word)));
        }
        self.undone.set(true);
        Ok(None)
    }

    /// What was looked at changed at each look.
    pub fn undone(&self) {
        self.undone.set(true);
    }

    /// The slot of what was found and changed meanwhile, as it is now. `None`: it did not stand still; the leaf is looked at
    /// anew.
    pub fn reload(&self, found: &Found) -> Result<Option<Found>> {
        reading!(self.att, |access| self.slot(found.offset, access))
    }
}

impl Leaf {
    /// The first hash of those of this leaf, which has `hash`.
    fn begin(&self, hash: u64) -> u64 {
        match self.range_depth() {
            0 => 0,
            depth => hash >> (64 - depth) << (64 - depth),
        }
    }

    /// The first hash behind those of this leaf, which has `hash`. `None`: there is none.
    pub fn end(&self, hash: u64) -> Option<u64> {
        match self.range_depth() {
            0 => None,
            depth => ((hash >> (64 - depth)) + 1).checked_mul(1 << (64 - depth)).filter(|end| *end != 0),
        }
    }

    /// First bits that the hashes of this leaf have in common: of what a word claims no more than its directory looks at, so
    /// that no pass over all leaves has more steps than the directory has words.
    fn range_depth(&self) -> u32 {
        self.word.depth().min(self.root.depth()).min(63)
    }
}
