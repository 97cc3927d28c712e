//! A set: several slots of one table that one change gives new contents; those of variables at one instant to `get_many`.
//!
//! It is described in the intent behind the other fields of the change (`intent.rs`), before the change is valid. The
//! protocol is "Batches" in `docs/protocol.md` (**A small batch**), the bytes are "Intent" in `docs/format.md`. All
//! structs here are private to the process.

use crate::atomic::Ordering;
use crate::format::{IntentArea, SET_BLOCKS, SET_SLOTS};
use crate::sync::edits::{BlockEdit, LeafCounts, UNCHANGED};
use crate::sync::slot::Content;

/// Private to the process: one slot of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SetSlot {
    /// File offset of the slot.
    pub offset: u64,
    /// Its new content.
    pub content: Content,
    /// File offset of its leaf.
    pub leaf: u64,
    /// The new counts of that leaf, packed, or [`UNCHANGED`].
    counts: u64,
}

impl SetSlot {
    /// Makes a slot of a set. `counts` are those of the leaf after this slot and those before it; `None` if they stay
    /// as they are.
    #[inline]
    pub fn new(offset: u64, content: Content, leaf: u64, counts: Option<LeafCounts>) -> Self {
        SetSlot { offset, content, leaf, counts: counts.map_or(UNCHANGED, LeafCounts::pack) }
    }

    /// Returns the new counts of the leaf. `None` if they stay as they are.
    #[inline]
    pub fn counts(&self) -> Option<LeafCounts> {
        (self.counts != UNCHANGED).then(|| LeafCounts::unpack(self.counts))
    }
}

/// Private to the process: the slots and blocks of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSet {
    slots: [SetSlot; SET_SLOTS],
    slot_count: usize,
    /// The block edits, packed.
    blocks: [u64; SET_BLOCKS],
    block_count: usize,
    /// What the state's `many` is while the slots are stored: an odd number. It is one more afterwards. 0: the slots are
    /// of the table of the names, and the state's `many` stays.
    pub many: u64,
    /// What the state's `queued` is afterwards, if the slots are of the table of the names.
    pub queued: u64,
}

/// Where the number of slots stands in [`IntentArea::lengths`], and that of block edits.
const SLOTS_SHIFT: u32 = 40;
const BLOCKS_SHIFT: u32 = 48;

impl SlotSet {
    /// Makes a set of no slots.
    pub fn new(many: u64) -> Self {
        let (slots, blocks) = ([SetSlot::default(); SET_SLOTS], [0; SET_BLOCKS]);
        SlotSet { slots, slot_count: 0, blocks, block_count: 0, many, queued: 0 }
    }

    /// Makes a set of no slots, for slots of the table of the names. `queued` is the present one; the caller changes it
    /// in place.
    pub fn of_names(queued: u64) -> Self {
        SlotSet { queued, ..SlotSet::new(0) }
    }

    /// Returns `true` if the slots are of the table of the names.
    #[inline]
    pub fn is_of_names(&self) -> bool {
        self.many == 0
    }

    /// Returns the slots.
    #[inline]
    pub fn slots(&self) -> &[SetSlot] {
        &self.slots[..self.slot_count]
    }

    /// Returns the block edits.
    #[inline]
    pub fn blocks(&self) -> impl Iterator<Item = BlockEdit> {
        self.blocks[..self.block_count].iter().map(|packed| BlockEdit::unpack(*packed))
    }

    /// Adds a slot. The caller adds at most [`SET_SLOTS`].
    #[inline]
    pub fn push(&mut self, slot: SetSlot) {
        self.slots[self.slot_count] = slot;
        self.slot_count += 1;
    }

    /// Adds an edit: this block becomes used, or free. The caller adds at most two for each slot.
    #[inline]
    pub fn edit_block(&mut self, granule: u64, block: u64, used: bool) {
        self.blocks[self.block_count] = BlockEdit { granule, block, used }.pack();
        self.block_count += 1;
    }

    /// Stores the set into the intent, which is not valid yet. Returns what belongs into its `lengths`.
    pub(super) fn describe(&self, area: &IntentArea) -> u64 {
        let relaxed = Ordering::Relaxed;
        area.many.store(self.many, relaxed);
        area.queued.store(self.queued, relaxed);
        for (to, from) in area.set.iter().zip(self.slots()) {
            to.slot.store(from.offset, relaxed);
            to.content[0].store(from.content.word, relaxed);
            for (to, from) in to.content[1..].iter().zip(from.content.rest) {
                to.store(from, relaxed);
            }
            to.leaf.store(from.leaf, relaxed);
            to.counts.store(from.counts, relaxed);
        }
        for (to, edit) in area.set_blocks.iter().zip(&self.blocks[..self.block_count]) {
            to.store(*edit, relaxed);
        }
        (self.slot_count as u64) << SLOTS_SHIFT | (self.block_count as u64) << BLOCKS_SHIFT
    }

    /// Copies the set of the change under way out of the intent, or returns `None` if that change is no set. Nothing in
    /// the copy was checked: a hostile process may have written it.
    pub fn read(area: &IntentArea) -> Option<Self> {
        let relaxed = Ordering::Relaxed;
        let lengths = area.lengths.load(relaxed);
        let count = |shift: u32| (lengths >> shift & 0xff) as usize;
        if count(SLOTS_SHIFT) == 0 {
            return None;
        }
        let mut set = SlotSet { queued: area.queued.load(relaxed), ..SlotSet::new(area.many.load(relaxed)) };
        for from in area.set.iter().take(count(SLOTS_SHIFT)) {
            let word = |i: usize| from.content[i].load(relaxed);
            set.push(SetSlot {
                offset: from.slot.load(relaxed),
                content: Content { word: word(0), rest: [word(1), word(2), word(3)] },
                leaf: from.leaf.load(relaxed),
                counts: from.counts.load(relaxed),
            });
        }
        for from in area.set_blocks.iter().take(count(BLOCKS_SHIFT)) {
            set.blocks[set.block_count] = from.load(relaxed);
            set.block_count += 1;
        }
        Some(set)
    }

    /// Returns what the set of the change under way makes of the slot at `offset`. `None`: it does not have that slot.
    #[cold]
    pub(super) fn content_of(area: &IntentArea, offset: u64) -> Option<Content> {
        let count = (area.lengths.load(Ordering::Relaxed) >> SLOTS_SHIFT & 0xff) as usize;
        let mut slots = area.set.iter().take(count);
        let slot = slots.find(|slot| slot.slot.load(Ordering::Relaxed) == offset)?;
        let word = |i: usize| slot.content[i].load(Ordering::Relaxed);
        Some(Content { word: word(0), rest: [word(1), word(2), word(3)] })
    }
}
