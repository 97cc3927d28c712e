//! Which leaf names which block, span or leaf, as the check saw it. What a hold has seen may have changed before the
//! next hold, so these notes prove nothing by themselves: they say which leaf must be looked at once more, in the
//! present hold, before two references to one thing are damage (docs/protocol.md, "Check", *Named twice*). What no leaf
//! names is not here but in `suspects`.

use super::invariant::{LISTS, ensure};
use super::leaf_id::LeafId;
use crate::error::Result;
use crate::fallible;
use crate::format::{Slot, blocks_of};
use crate::process::access::MappedAccess;
use crate::process::attachment::Attachment;
use crate::sync::slot::{Content, Seqlock};
use crate::variables::AsVariables;
use crate::variables::leaf::Leaf;
use std::collections::HashMap;

/// What the tables name in the arena, each part of them as it was when the check looked at it.
#[derive(Default)]
pub(super) struct References {
    /// For each slab, by its first granule: the leaf that names each block.
    blocks: HashMap<u64, Vec<LeafId>>,
    /// For each large value, by its first granule: the leaf that names it.
    spans: HashMap<u64, LeafId>,
    /// For each leaf, by its first granule: its length in granules, and its range of hashes.
    leaves: HashMap<u64, (u64, LeafId)>,
}

/// A slot that names a block or a span, and where the slot is.
pub(super) struct NamingSlot<'a> {
    pub leaf: LeafId,
    /// Its number in that leaf.
    pub number: u64,
    /// Its offset in the segment.
    pub offset: u64,
    pub content: &'a Content,
}

impl References {
    /// Notes that a slot names a block of a slab of this class. An error if another slot names the block, too.
    pub fn block(&mut self, att: &Attachment, by: &NamingSlot<'_>, class: usize) -> Result<()> {
        let (granule, block) = (by.content.granule(), by.content.block());
        fallible::reserve_in_map(&mut self.blocks, 1, LISTS)?;
        let leaves = self.blocks.entry(granule).or_default();
        if leaves.len() != blocks_of(class) as usize {
            // The slab that was noted here was given back, and this is another one.
            *leaves = fallible::zeros(blocks_of(class) as usize, LISTS)?;
        }
        let before = std::mem::replace(&mut leaves[block as usize], by.leaf);
        let twice = before != LeafId::default() && still_named(att, before, by)?;
        ensure!(!twice, 2, "block {block} of granule {granule} is named twice, by slot {}", by.number);
        Ok(())
    }

    /// Notes that a slot names a span. An error if another slot names the span, too.
    pub fn span(&mut self, att: &Attachment, by: &NamingSlot<'_>) -> Result<()> {
        let granule = by.content.granule();
        let twice = match fallible::insert(&mut self.spans, granule, by.leaf, LISTS)? {
            Some(before) => still_named(att, before, by)?,
            None => false,
        };
        ensure!(!twice, 2, "the span at granule {granule} is named twice, by slot {}", by.number);
        Ok(())
    }

    /// Notes that words of a directory name a leaf. An error if other words, or another directory, name it, too.
    pub fn leaf(&mut self, att: &Attachment, leaf: &Leaf, id: LeafId) -> Result<()> {
        let granule = leaf.word.granule();
        if let Some((_, before)) = fallible::insert(&mut self.leaves, granule, (leaf.word.size(), id), LISTS)? {
            let first = |leaf: &Leaf| leaf.words(att.variables().directory_at(leaf.root)).0;
            // A leaf that was joined with its neighbour meanwhile serves both ranges of hashes: it is met twice, and is
            // one.
            let same = |other: &Leaf| before.same_table(id) && first(other) == first(leaf);
            let other = before.leaf(att)?.filter(|(other, _)| other.word.granule() == granule);
            ensure!(other.is_none_or(|(other, _)| same(&other)), 3, "the leaf at granule {granule} is named twice");
        }
        Ok(())
    }

    /// A bitmap of the blocks of a slab that a slot named.
    pub fn blocks_of(&self, granule: u64) -> [u64; 8] {
        let mut bits = [0; 8];
        for (block, leaf) in self.blocks.get(&granule).into_iter().flatten().enumerate() {
            bits[block / 64] |= u64::from(*leaf != LeafId::default()) << (block % 64);
        }
        bits
    }

    /// Did a slot name the span that begins here?
    pub fn names_span(&self, granule: u64) -> bool {
        self.spans.contains_key(&granule)
    }

    /// Did a directory name the leaf of this length that begins here?
    pub fn names_leaf(&self, granule: u64, len: u64) -> bool {
        self.leaves.get(&granule).is_some_and(|(named, _)| *named == len)
    }
}

/// Does another slot of the leaf that was noted name, at this moment, what this slot names?
fn still_named(att: &Attachment, before: LeafId, by: &NamingSlot<'_>) -> Result<bool> {
    let Some((leaf, first)) = before.leaf(att)? else { return Ok(false) };
    if !att.variables().leaf_is_sound(&leaf, MappedAccess)? {
        return Ok(false);
    }
    for number in first..=leaf.slots {
        let offset = leaf.slot_at(number);
        let [_, tag, at] = att.mem.at::<Slot>(offset)?.rest();
        if offset != by.offset && tag & 7 == by.content.rest[1] & 7 && at == by.content.rest[2] {
            return Ok(true);
        }
    }
    Ok(false)
}
