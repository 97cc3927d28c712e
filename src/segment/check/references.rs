//! Who names what: what a check saw of the tables, by what they name.

use super::invariant::{LISTS, hold};
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

/// What the tables name in the arena, as each part of them was seen.
#[derive(Default)]
pub(super) struct References {
    /// By slab, of each block: by what leaf.
    blocks: HashMap<u64, Vec<LeafId>>,
    /// By first granule.
    spans: HashMap<u64, LeafId>,
    /// By first granule: how many, and by what words.
    leaves: HashMap<u64, (u64, LeafId)>,
}

/// A slot that names something, and where it is.
pub(super) struct NamingSlot<'a> {
    pub leaf: LeafId,
    pub number: u64,
    pub offset: u64,
    pub content: &'a Content,
}

impl References {
    /// A slot names a block of a slab of this class.
    pub fn block(&mut self, att: &Attachment, by: &NamingSlot<'_>, class: usize) -> Result<()> {
        let (granule, block) = (by.content.granule(), by.content.block());
        fallible::room_in_map(&mut self.blocks, LISTS)?;
        let places = self.blocks.entry(granule).or_default();
        if places.len() != blocks_of(class) as usize {
            // Another slab, where one was that was given back.
            *places = fallible::zeros(blocks_of(class) as usize, LISTS)?;
        }
        let before = std::mem::replace(&mut places[block as usize], by.leaf);
        let twice = before != LeafId::default() && still_named(att, before, by)?;
        hold!(!twice, 2, "block {block} of granule {granule} is named twice, by slot {}", by.number);
        Ok(())
    }

    /// A slot names a span.
    pub fn span(&mut self, att: &Attachment, by: &NamingSlot<'_>) -> Result<()> {
        let granule = by.content.granule();
        let twice = match fallible::insert(&mut self.spans, granule, by.leaf, LISTS)? {
            Some(before) => still_named(att, before, by)?,
            None => false,
        };
        hold!(!twice, 2, "the span at granule {granule} is named twice, by slot {}", by.number);
        Ok(())
    }

    /// Words of a directory name a leaf.
    pub fn leaf(&mut self, att: &Attachment, leaf: &Leaf, place: LeafId) -> Result<()> {
        let granule = leaf.word.granule();
        if let Some((_, before)) = fallible::insert(&mut self.leaves, granule, (leaf.word.size(), place), LISTS)? {
            let first = |leaf: &Leaf| leaf.words(att.variables().directory_at(leaf.root)).0;
            // Joined with one that was looked at already, it serves that place, too, and is the same.
            let same = |other: &Leaf| before.same_table(place) && first(other) == first(leaf);
            let other = before.leaf(att)?.filter(|(other, _)| other.word.granule() == granule);
            hold!(other.is_none_or(|(other, _)| same(&other)), 3, "the leaf at granule {granule} is named twice");
        }
        Ok(())
    }

    /// Blocks of a slab that a slot named.
    pub fn blocks_of(&self, granule: u64) -> [u64; 8] {
        let mut bits = [0; 8];
        for (block, place) in self.blocks.get(&granule).into_iter().flatten().enumerate() {
            bits[block / 64] |= u64::from(*place != LeafId::default()) << (block % 64);
        }
        bits
    }

    pub fn names_span(&self, granule: u64) -> bool {
        self.spans.contains_key(&granule)
    }

    pub fn names_leaf(&self, granule: u64, len: u64) -> bool {
        self.leaves.get(&granule).is_some_and(|(named, _)| *named == len)
    }
}

/// Does another slot of that leaf, as it is now, name what this one does?
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
