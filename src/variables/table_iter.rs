//! Any variable: from a random place on, round the table once.

use crate::error::Result;
use crate::key::IndexBuf;
use crate::process::access::{Called, Look, Mapped, looking};
use crate::process::wait_policy::WaitPolicy;
use crate::variables::Variables;
use crate::variables::leaf::TableOf;
use crate::variables::scan::{Pass, Stuck};

/// How far a walk is that began at a random hash: it ends where it began.
pub struct Wander {
    began: u64,
    hash: u64,
    /// The slot to look at next; 0: where a search for the hash begins.
    slot: u64,
    wrapped: bool,
    /// Variables that are passed over first: who lies behind another one would hardly ever be met, else.
    skip: u64,
    passed: u64,
    stuck: Stuck,
}

/// What one look at the rest of a leaf found.
enum Seen {
    Variable(IndexBuf, u64),
    /// Nothing up to its end; the first hash behind it.
    End(Option<u64>),
    /// Something did not stand still: a slot that was busy, if it was one.
    Again,
}

impl Wander {
    /// From a hash on.
    pub fn new(hash: u64) -> Self {
        let skip = hash >> 8 & 7;
        Wander { began: hash, hash, slot: 0, wrapped: false, skip, passed: 0, stuck: Stuck::default() }
    }
}

impl Variables {
    /// The index of the next variable of a walk. `None`: it has come round.
    pub fn wander(&self, wander: &mut Wander, patience: &dyn WaitPolicy) -> Result<Option<IndexBuf>> {
        loop {
            let (hash, slot) = (wander.hash, wander.slot);
            match looking!(self, patience, |look| self.look_on(hash, slot, look))? {
                Seen::Variable(index, next) => {
                    wander.slot = next;
                    if wander.skip == 0 {
                        return Ok(Some(index));
                    }
                    (wander.skip, wander.passed) = (wander.skip - 1, wander.passed + 1);
                }
                Seen::Again => wander.stuck.again(self, patience)?,
                Seen::End(end) => {
                    if wander.wrapped && end.is_none_or(|end| end > wander.began) {
                        if wander.passed == 0 {
                            return Ok(None);
                        }
                        // Those that were passed over have their turn; if there were too few, as if it had gone round.
                        let skip = wander.skip % wander.passed;
                        *wander = Wander { skip, passed: 0, ..Wander::new(wander.began) };
                        continue;
                    }
                    wander.wrapped |= end.is_none();
                    (wander.hash, wander.slot) = (end.unwrap_or(0), 1);
                    patience.interrupted()?;
                }
            }
        }
    }

    /// The rest of a leaf, within one section.
    fn look_on(&self, hash: u64, slot: u64, look: impl Look) -> Result<Seen> {
        let of = TableOf::Variables;
        let leaf = self.leaf_by(hash, of, look)?;
        let first = if slot == 0 { leaf.home(hash) } else { slot };
        // Its head: what it counts. A leaf without an entry is passed over at once.
        let empty = look.word(self, leaf.base)? & u64::from(u32::MAX) == 0;
        let pass = Pass::new(self, leaf, of);
        for number in first..=if empty { 0 } else { leaf.slots } {
            let Some(found) = pass.slot(leaf.slot_at(number), look)? else { return Ok(Seen::Again) };
            if !found.content.is_variable() {
                continue;
            }
            if let Some(live) = self.live(&pass, &found)? {
                if let Some(index) = self.index_of(&pass, &live)? {
                    return Ok(Seen::Variable(index, number + 1));
                }
            }
        }
        Ok(if self.in_force_by(&leaf, of, look)? { Seen::End(leaf.end(hash)) } else { Seen::Again })
    }
}
