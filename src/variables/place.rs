//! Where a writer finds a name's slot, or a slot that a new name can take.
//!
//! The writer lock is held, so slots stand still and no read section is needed. Readers search in `lookup.rs`. The
//! order in which slots are taken is in "Reading, without a lock" in docs/protocol.md (*Missing*).

use crate::error::{Error, Result};
use crate::format::Slot;
use crate::format::slot_flags::RELEASED_LOCK;
use crate::key::{Index, Name, NameOf};
use crate::os::mem::Scratch;
use crate::process::access::MappedAccess;
use crate::sync::slot::{BUSY, Content, Seqlock};
use crate::variables::found::ContentSource;
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::lookup::Probe;
use crate::variables::{AsVariables, VariablesWriter};
use std::sync::atomic::Ordering;

/// Private to the process: the slot that a name has, or can take, and its leaf.
#[derive(Clone, Copy, Debug)]
pub struct SlotPlace {
    /// The leaf of the name's hash.
    pub leaf: Leaf,
    /// The slot in that leaf.
    pub spot: Spot,
}

/// Private to the process: what a search with the writer lock held found in a leaf. The numbers are file offsets of
/// slots.
#[derive(Clone, Copy, Debug)]
pub enum Spot {
    /// The name is in this slot, with these contents.
    Occupied(u64, Content),
    /// The name is in no slot; this slot holds a tombstone, which the name can take.
    Tombstone(u64),
    /// The name is in no slot; this slot was never used, and the name can take it.
    Unused(u64),
    /// The name is in no slot, and no slot of the leaf is free.
    LeafFull,
}

impl SlotPlace {
    /// Returns what is in the slot now. `None`: the name is in no slot.
    #[inline(always)]
    pub fn occupant(&self) -> Option<&Content> {
        match &self.spot {
            Spot::Occupied(_, content) => Some(content),
            _ => None,
        }
    }
}

impl VariablesWriter<'_> {
    /// Finds the place of a name.
    #[inline]
    pub fn find_place(&self, name: &Name<'_>, scratch: &mut Scratch) -> Result<SlotPlace> {
        self.find_place_of_hash(name, name.hash(self.att.identity.hash_key), scratch)
    }

    /// Finds the place of a name whose hash the caller has computed already.
    #[inline(always)]
    pub fn find_place_of_hash(&self, name: &Name<'_>, hash: u64, scratch: &mut Scratch) -> Result<SlotPlace> {
        self.find_place_within(name, hash, scratch, &mut { u64::MAX })
    }

    /// Finds the place of a name, and takes the number of slots that it looked at from `probes_left`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where none are left: a table with hardly a slot that was never used would make each search as
    /// long as a leaf.
    #[inline(always)]
    pub fn find_place_within(
        &self,
        name: &Name<'_>,
        hash: u64,
        scratch: &mut Scratch,
        probes_left: &mut u64,
    ) -> Result<SlotPlace> {
        let leaf = self.att.variables().leaf_of(hash, TableOf::of(name.is_name()))?;
        self.find_place_in(leaf, name, hash, scratch, probes_left)
    }

    /// Finds the place of a name whose leaf is known, in the same way.
    #[inline(always)]
    pub fn find_place_in(
        &self,
        leaf: Leaf,
        name: &Name<'_>,
        hash: u64,
        scratch: &mut Scratch,
        probes_left: &mut u64,
    ) -> Result<SlotPlace> {
        let att = self.att;
        let place = |spot| Ok(SlotPlace { leaf, spot });
        let (first, mask, flags) = (name.index_word(hash), name.mask(), name.flags());
        let slots = att.mem.slots(leaf.base, leaf.slots + 1)?;
        let mut tombstone = None;
        let mut number = leaf.home(hash);
        for _ in 0..leaf.slots {
            let offset = leaf.slot_at(number);
            let Some(slot) = slots.get(number as usize) else { break };
            number = leaf.after(number);
            let word = slot.begin();
            *probes_left =
                probes_left.checked_sub(1).ok_or_else(|| Error::corrupt("a table with hardly an unused slot"))?;
            if word == 0 {
                return place(tombstone.map_or(Spot::Unused(offset), Spot::Tombstone));
            }
            if word & BUSY == 1 {
                return Err(Error::corrupt(format_args!("slot at {offset} is busy and no change is under way")));
            }
            let tag = slot.rest[1].load(Ordering::Relaxed);
            if tag & 7 >= 2 && (slot.rest[0].load(Ordering::Relaxed) != first || tag & mask != flags) {
                continue;
            }
            let content = Content { word, rest: slot.rest() };
            if !content.is_entry() {
                // A named lock that was released in this slot takes the same slot again, so that a lock has one slot,
                // and at most one tombstone.
                if name.of == NameOf::Lock
                    && content.rest[1] == RELEASED_LOCK
                    && name.index == Index::Int(content.rest[0] as i64)
                {
                    return place(Spot::Tombstone(offset));
                }
                // A slot that no writer would have left counts as a tombstone, because readers pass over it.
                tombstone = tombstone.or(Some(offset));
                continue;
            }
            if !name.is_text() {
                return place(Spot::Occupied(offset, content));
            }
            match att.variables().probe(
                name,
                hash,
                leaf.found(offset, content, ContentSource::Slot),
                scratch,
                MappedAccess,
            )? {
                Probe::Found(_) => return place(Spot::Occupied(offset, content)),
                Probe::Other => {}
                Probe::Changed | Probe::Busy(_) => {
                    return Err(Error::corrupt("a slot that changed although the writer lock is held"));
                }
            }
        }
        place(tombstone.map_or(Spot::LeafFull, Spot::Tombstone))
    }

    /// Finds a slot that a name which is in no slot of its leaf can take, beside the slots that others are about to
    /// take: those for which `is_taken` returns `true`.
    #[cold]
    pub fn find_free_beside(&self, leaf: &Leaf, hash: u64, is_taken: impl Fn(u64) -> bool) -> Result<Spot> {
        let mut number = leaf.home(hash);
        for _ in 0..leaf.slots {
            let offset = leaf.slot_at(number);
            let slot = self.att.mem.at::<Slot>(offset)?;
            let content = Content { word: slot.begin(), rest: slot.rest() };
            if !is_taken(offset) && !content.is_entry() {
                return Ok(if content.word == 0 { Spot::Unused(offset) } else { Spot::Tombstone(offset) });
            }
            number = leaf.after(number);
        }
        Ok(Spot::LeafFull)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::wait_policy::Blocking;
    use crate::variables::AsVariables;

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn a_search_ends_when_no_probes_are_left() {
        let key = crate::key::Key::text(&format!("table-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        let att = segment.attachment().unwrap();
        let writer = att.variables().write(&Blocking).unwrap();
        let name = Name::from(&Index::Int(1));
        let place = |probes_left: &mut u64| writer.find_place_within(&name, 5, &mut Scratch::new(), probes_left);
        let mut probes_left = 1;
        assert!(matches!(place(&mut probes_left), Ok(SlotPlace { spot: Spot::Unused(_), .. })) && probes_left == 0);
        assert!(matches!(place(&mut probes_left), Err(Error::Corrupt(_))));
        drop(writer);
        segment.destroy().unwrap();
    }
}
