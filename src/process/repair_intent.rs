//! Repair: making the change that a dead owner of the writer lock had described in the intent, if a sound process could
//! have described it. The protocol is "A change", **Repair**, in `docs/protocol.md`.

use crate::error::{Error, Result};
use crate::format::{CLASSES, DEPTH_MAX, GRANULE, LEAF_MAX, Root, SLOT, SpanState, blocks_of, granules_of};
use crate::process::attachment::CHECK_RESIDENT_FROM;
use crate::process::writer::Writer;
use crate::sync::intent::{BlockEdit, Change, DirectoryWords, DoomedTable};
use crate::sync::slot::{BUSY, Content};
use crate::sync::slot_set::SlotSet;

impl Writer<'_> {
    /// Makes the change that a dead owner had decided: the intent is valid.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if no process that keeps to the protocol could have written the intent. Nothing of it is
    /// applied then.
    #[cold]
    pub fn repair(&mut self) -> Result<()> {
        let area = self.att.mem.intent();
        let Some(change) = Change::read(area) else { return Ok(()) };
        let set = SlotSet::read(area);
        let sound = self.is_sound(&change) && set.as_ref().is_none_or(|set| self.set_is_sound(&change, set));
        let applied = if sound {
            match &set {
                None => self.apply_again(&change),
                Some(set) => self.apply_set(&change, set),
            }
        } else {
            Err(Error::corrupt("no process can have described the change under way"))
        };
        if applied.is_err() {
            // The dropped change may have been a set whose slots were being stored.
            self.make_many_even();
        }
        // An intent that no process could have written is dropped as well, so that the next call goes on.
        Change::clear(area);
        applied
    }

    /// Tells whether a process that keeps to the protocol could have written that set, with the change that it belongs
    /// to, which is sound.
    fn set_is_sound(&self, change: &Change, set: &SlotSet) -> bool {
        let alone = change.slot.is_none() && change.progress.is_none() && change.words.is_none();
        alone
            && change.doomed.is_none()
            && (change.spans.is_empty() || set.is_of_names())
            && change.block_count == 0
            && (set.is_of_names() || !set.many.is_multiple_of(2))
            && change.counters.zones == self.arena().zones()
            && set.slots().iter().all(|slot| self.slot_fits(slot.leaf, slot.offset, &slot.content))
            && set.blocks().all(|edit| self.block_fits(&edit))
    }

    /// Tells whether a slot lies in the leaf that begins at an offset, if one does, and is not busy.
    fn slot_fits(&self, leaf: u64, offset: u64, content: &Content) -> bool {
        let granule = leaf.checked_sub(self.att.identity.geometry.arena).map(|at| at / GRANULE);
        let entry = granule.and_then(|granule| self.arena().entry(granule).ok()).unwrap_or_default();
        let is_leaf = leaf.is_multiple_of(GRANULE)
            && entry.state() == SpanState::Leaf
            && (1..=LEAF_MAX).contains(&entry.len())
            && granule.is_some_and(|granule| self.arena().fits(granule, entry.len(), self.arena().zones()));
        let in_leaf = is_leaf && offset > leaf && offset < leaf + entry.len() * GRANULE;
        offset.is_multiple_of(SLOT) && content.word & BUSY == 0 && in_leaf
    }

    /// Tells whether a slab has this block.
    fn block_fits(&self, edit: &BlockEdit) -> bool {
        let entry = self.arena().entry(edit.granule).unwrap_or_default();
        entry.state() == SpanState::Slab && entry.class() < CLASSES.len() && edit.block < blocks_of(entry.class())
    }

    /// Tells whether a process that keeps to the protocol could have written that intent. Every number is checked
    /// against the geometry and the span map before any of the change is applied.
    fn is_sound(&self, change: &Change) -> bool {
        let geometry = &self.att.identity.geometry;
        let zones = change.counters.zones;
        let now = self.arena().zones();
        let fits = |granule, len| self.arena().fits(granule, len, zones);
        let root_fits = |root: Root| root.depth() <= DEPTH_MAX && fits(root.granule(), granules_of(8 << root.depth()));
        // Whether all granules of a range of the arena are in zones in use.
        let within = |offset: u64, len: u64| {
            let granule = offset.checked_sub(geometry.arena).map(|at| at / GRANULE);
            granule.is_some_and(|granule| fits(granule, len.div_ceil(GRANULE).max(1)))
        };
        let leaf = change.leaf.unwrap_or_default().0;
        let words_fit = |words: &DirectoryWords| {
            let directory = |root: Root| {
                let base = geometry.granule_at(root.granule());
                words.offset >= base && words.offset + words.count * 8 <= base + (8 << root.depth())
            };
            let named = words.word.iter().all(|word| {
                (1..=LEAF_MAX).contains(&word.size()) && fits(word.granule(), word.size()) && word.depth() <= DEPTH_MAX
            });
            let bounded = words.offset.is_multiple_of(8)
                && words.count <= 1 << DEPTH_MAX
                && within(words.offset, words.count * 8);
            // A long run of words is believed only if the object takes that much memory, as with a directory.
            let is_resident =
                |bytes: u64| bytes < CHECK_RESIDENT_FROM || self.att.resident().is_ok_and(|resident| resident >= bytes);
            bounded
                && is_resident(words.count * 8)
                && named
                && (directory(change.counters.root) || directory(change.counters.names))
        };
        let doomed_fits = |doomed: &DoomedTable| doomed.root == 0 || root_fits(Root(doomed.root));
        (1..=geometry.zones_max).contains(&zones)
            // The number of zones is lowered only by a change that does nothing else.
            && (zones >= now || (change.spans.is_empty() && change.slot.is_none()))
            && root_fits(change.counters.root)
            && root_fits(change.counters.names)
            && change.slot.as_ref().is_none_or(|(offset, content)| self.slot_fits(leaf, *offset, content))
            && (change.slot.is_some() || change.leaf.is_none())
            && change.words.as_ref().is_none_or(words_fit)
            && change.doomed.as_ref().is_none_or(doomed_fits)
            && change.expiry.is_none_or(|(at, _)| change.slot.is_some() && within(at, 8) && within(at.saturating_add(7), 1))
            && change.spans.iter().all(|edit| self.arena().edit_is_sound(edit, zones))
            && change.blocks[..change.block_count].iter().all(|edit| self.block_fits(edit))
    }
}
