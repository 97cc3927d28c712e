//! Finding a name's slot, or a slot for it, with the writer lock held.

use crate::error::{Error, Result};
use crate::format::slot_flags::{LET_GO, LOCK, TEXT};
use crate::key::{Index, Name};
use crate::os::mem::Scratch;
use crate::process::access::MappedAccess;
use crate::sync::slot::{BUSY, Content, Seqlock};
use crate::variables::found::ContentSource;
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::lookup::Probe;
use crate::variables::{AsVariables, VariablesWriter};
use std::sync::atomic::Ordering;

/// Where a writer finds an index, or may put it.
#[derive(Clone, Copy, Debug)]
pub struct SlotPlace {
    /// In this leaf.
    pub leaf: Leaf,
    /// There.
    pub spot: Spot,
}

/// A slot of a leaf, for an index.
#[derive(Clone, Copy, Debug)]
pub enum Spot {
    /// It is here.
    Occupied(u64, Content),
    /// It is nowhere; a tombstone here can be taken.
    Tombstone(u64),
    /// It is nowhere; this slot was never used.
    Unused(u64),
    /// It is nowhere, and every slot was used.
    LeafFull,
}

impl SlotPlace {
    /// What stands there.
    #[inline(always)]
    pub fn occupant(&self) -> Option<&Content> {
        match &self.spot {
            Spot::Occupied(_, content) => Some(content),
            _ => None,
        }
    }
}

impl VariablesWriter<'_> {
    /// Finds a name's place. The lock is held: slots stand still.
    #[inline]
    pub fn find_place(&self, name: &Name<'_>, scratch: &mut Scratch) -> Result<SlotPlace> {
        self.find_place_of_hash(name, name.hash(self.att.identity.hash_key), scratch)
    }

    /// The same, of a name whose hash is known.
    #[inline(always)]
    pub fn find_place_of_hash(&self, name: &Name<'_>, hash: u64, scratch: &mut Scratch) -> Result<SlotPlace> {
        self.find_place_within(name, hash, scratch, &mut { u64::MAX })
    }

    /// The same, looking at no more slots than are left to look at.
    #[inline(always)]
    pub fn find_place_within(
        &self,
        name: &Name<'_>,
        hash: u64,
        scratch: &mut Scratch,
        probes_left: &mut u64,
    ) -> Result<SlotPlace> {
        let att = self.att;
        let leaf = att.variables().leaf_of(hash, TableOf::of(name.lock))?;
        let place = |spot| Ok(SlotPlace { leaf, spot });
        let (first, flags) = (name.first(hash), name.flags());
        let slots = att.mem.slots(leaf.base, leaf.slots + 1)?;
        let mut tombstone = None;
        let mut number = leaf.home(hash);
        for _ in 0..leaf.slots {
            let offset = leaf.slot_at(number);
            let Some(slot) = slots.get(number as usize) else { break };
            number = leaf.after(number);
            let word = slot.begin();
            *probes_left =
                probes_left.checked_sub(1).ok_or_else(|| Error::corrupt("the table: hardly a slot was never used"))?;
            if word == 0 {
                return place(tombstone.map_or(Spot::Unused(offset), Spot::Tombstone));
            }
            if word & BUSY == 1 {
                return Err(Error::corrupt(format_args!("slot at {offset} is busy and no change is under way")));
            }
            let tag = slot.rest[1].load(Ordering::Relaxed);
            if tag & 7 >= 2 && (slot.rest[0].load(Ordering::Relaxed) != first || tag & (TEXT | LOCK) != flags) {
                continue;
            }
            let content = Content { word, rest: slot.rest() };
            if !content.is_entry() {
                // A lock that was let go here is taken here again: then it has one slot, and one tombstone at the most.
                if name.lock && content.rest[1] == LET_GO && name.index == Index::Int(content.rest[0] as i64) {
                    return place(Spot::Tombstone(offset));
                }
                // What no writer left is one, too: readers pass over it.
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
                    return Err(Error::corrupt("a slot changed although its writer lock is held"));
                }
            }
        }
        place(tombstone.map_or(Spot::LeafFull, Spot::Tombstone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::wait_policy::Blocking;
    use crate::variables::AsVariables;

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn a_search_ends_with_the_looks_that_are_left() {
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
