//! Who names what: what a check saw of the tables, by what they name; and what it has met in the arena that nobody named yet.
//!
//! What was seen in an earlier hold of the writer lock may have changed by now. So it accuses nobody: it says where to look
//! again, under the present hold.

use super::{NAMED, hold};
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{DEPTH_MAX, Root, Slot, blocks_of};
use crate::process::access::MappedAccess;
use crate::process::attachment::Attachment;
use crate::sync::slot::Seqlock;
use crate::sync::slot::{Content, Kind};
use crate::variables::AsVariables;
use crate::variables::leaf::{Leaf, TableOf};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

/// A table, the doomed one among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Table(TableOf),
    /// What is left of it.
    Doomed,
}

/// Which leaf named something when it was looked at, by its table and the first bits of its hashes; of the doomed table, by the
/// number of its first word. 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place(u32);

/// Bits of a place that say which leaf: enough for any directory.
const BITS: u32 = 30;
const _: () = assert!(BITS >= DEPTH_MAX);

impl Place {
    pub fn new(of: Of, leaf: &Leaf, directory: u64) -> Self {
        let (first, _) = leaf.words(directory);
        let (table, bits) = match of {
            Of::Table(TableOf::Variables) => (1, first << (BITS - leaf.root.depth().min(BITS))),
            Of::Table(TableOf::Names) => (2, first << (BITS - leaf.root.depth().min(BITS))),
            Of::Doomed => (3, first),
        };
        Place(table << BITS | bits as u32 & ((1 << BITS) - 1))
    }

    /// The leaf that is there now, and the first slot of it that counts.
    fn leaf(self, att: &Attachment) -> Result<Option<(Leaf, u64)>> {
        let bits = u64::from(self.0 & ((1 << BITS) - 1));
        let of = match self.0 >> BITS {
            1 => TableOf::Variables,
            2 => TableOf::Names,
            3 => return doomed_leaf(att, bits),
            _ => return Ok(None),
        };
        let root = att.variables().root(of)?;
        let leaf = att.variables().leaf_of_word(root, bits >> (BITS - root.depth().min(BITS)))?;
        Ok(leaf.map(|leaf| (leaf, 1)))
    }
}

/// The leaf of a word of the doomed table, and the first slot of it that is not taken apart.
fn doomed_leaf(att: &Attachment, number: u64) -> Result<Option<(Leaf, u64)>> {
    let (root, at) = doomed(att);
    if root.0 == 0 || root.depth() > DEPTH_MAX || number >= 1 << root.depth() {
        return Ok(None);
    }
    let Some(leaf) = att.variables().leaf_of_word(root, number)? else { return Ok(None) };
    // The word was another table's, perhaps: it need not be the first one of this leaf.
    let (first, _) = leaf.words(att.variables().directory_at(root));
    let slot = if first == at >> 32 { (at & u64::from(u32::MAX)).max(1) } else { 1 };
    Ok((first >= at >> 32).then_some((leaf, slot)))
}

/// The doomed table, and how far it is taken apart.
pub(super) fn doomed(att: &Attachment) -> (Root, u64) {
    let state = att.state();
    (Root(state.doomed.load(Ordering::Relaxed)), state.doomed_at.load(Ordering::Relaxed))
}

/// What the tables name in the arena, as each part of them was seen.
#[derive(Default)]
pub(super) struct Named {
    /// By slab, of each block: by what leaf.
    blocks: HashMap<u64, Vec<Place>>,
    /// By first granule.
    spans: HashMap<u64, Place>,
    /// By first granule: how many, and by what words.
    leaves: HashMap<u64, (u64, Place)>,
}

/// A slot that names something, and where it is.
pub(super) struct By<'a> {
    pub place: Place,
    pub number: u64,
    pub offset: u64,
    pub content: &'a Content,
}

impl Named {
    /// A slot names a block of a slab of this class.
    pub fn block(&mut self, att: &Attachment, by: &By<'_>, class: usize) -> Result<()> {
        let (granule, block) = (by.content.granule(), by.content.block());
        fallible::room_in_map(&mut self.blocks, NAMED)?;
        let places = self.blocks.entry(granule).or_default();
        if places.len() != blocks_of(class) as usize {
            // Another slab, where one was that was given back.
            *places = fallible::zeros(blocks_of(class) as usize, NAMED)?;
        }
        let before = std::mem::replace(&mut places[block as usize], by.place);
        let twice = before != Place::default() && still_named(att, before, by)?;
        hold!(!twice, 2, "block {block} of granule {granule} is named twice, by slot {}", by.number);
        Ok(())
    }

    /// A slot names a span.
    pub fn span(&mut self, att: &Attachment, by: &By<'_>) -> Result<()> {
        let granule = by.content.granule();
        let twice = match fallible::insert(&mut self.spans, granule, by.place, NAMED)? {
            Some(before) => still_named(att, before, by)?,
            None => false,
        };
        hold!(!twice, 2, "the span at granule {granule} is named twice, by slot {}", by.number);
        Ok(())
    }

    /// Words of a directory name a leaf.
    pub fn leaf(&mut self, att: &Attachment, leaf: &Leaf, place: Place) -> Result<()> {
        let granule = leaf.word.granule();
        if let Some((_, before)) = fallible::insert(&mut self.leaves, granule, (leaf.word.size(), place), NAMED)? {
            let first = |leaf: &Leaf| leaf.words(att.variables().directory_at(leaf.root)).0;
            // Joined with one that was looked at already, it serves that place, too, and is the same.
            let same = |other: &Leaf| before.0 >> BITS == place.0 >> BITS && first(other) == first(leaf);
            let other = before.leaf(att)?.filter(|(other, _)| other.word.granule() == granule);
            hold!(other.is_none_or(|(other, _)| same(&other)), 3, "the leaf at granule {granule} is named twice");
        }
        Ok(())
    }

    /// Blocks of a slab that a slot named.
    pub fn blocks_of(&self, granule: u64) -> [u64; 8] {
        let mut bits = [0; 8];
        for (block, place) in self.blocks.get(&granule).into_iter().flatten().enumerate() {
            bits[block / 64] |= u64::from(*place != Place::default()) << (block % 64);
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
fn still_named(att: &Attachment, before: Place, by: &By<'_>) -> Result<bool> {
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

/// What is in use in the arena and was named by nobody when the tables were looked at: by now it may be. What no slot named when the
/// check began is named by none later, since only what is free is taken: so whoever is seen named once is cleared for good.
#[derive(Default)]
pub(super) struct Suspects {
    /// By slab, its blocks.
    pub blocks: HashMap<u64, [u64; 8]>,
    pub spans: HashSet<u64>,
    pub leaves: HashSet<u64>,
}

impl Suspects {
    /// How many.
    pub fn count(&self) -> u64 {
        let blocks: u64 = self.blocks.values().flatten().map(|bits| u64::from(bits.count_ones())).sum();
        blocks + self.spans.len() as u64 + self.leaves.len() as u64
    }

    /// Blocks of a slab.
    pub fn blocks(&mut self, granule: u64, bits: [u64; 8]) -> Result<()> {
        fallible::insert(&mut self.blocks, granule, bits, NAMED).map(drop)
    }

    /// A slot names this.
    pub fn seen(&mut self, kind: Kind, granule: u64, block: u64) {
        match kind {
            Kind::Record => self.seen_block(granule, block),
            Kind::Span => drop(self.spans.remove(&granule)),
            _ => {}
        }
    }

    fn seen_block(&mut self, granule: u64, block: u64) {
        if let Some(bits) = self.blocks.get_mut(&granule) {
            if let Some(word) = bits.get_mut((block / 64) as usize) {
                *word &= !(1 << (block % 64));
            }
            if *bits == [0; 8] {
                self.blocks.remove(&granule);
            }
        }
    }

    /// What there is, as damage: one of them. Nothing has changed since it was looked for.
    pub fn accuse(&self, att: &Attachment) -> Result<()> {
        if let Some((granule, bits)) = self.blocks.iter().next() {
            return unnamed_block(*granule, *bits);
        }
        if let Some(granule) = self.spans.iter().next() {
            return unnamed_span(*granule);
        }
        match self.leaves.iter().next() {
            Some(granule) => unnamed_leaf(att, *granule),
            None => Ok(()),
        }
    }
}

pub(super) fn unnamed_block(granule: u64, bits: [u64; 8]) -> Result<()> {
    let word = bits.iter().position(|word| *word != 0).unwrap_or(0);
    let block = word as u32 * 64 + bits[word].trailing_zeros();
    hold!(false, 2, "block {block} of granule {granule}: in use true, named false");
    Ok(())
}

pub(super) fn unnamed_span(granule: u64) -> Result<()> {
    hold!(false, 2, "the span at granule {granule} is live, nobody names it");
    Ok(())
}

pub(super) fn unnamed_leaf(att: &Attachment, granule: u64) -> Result<()> {
    let entry = att.arena().entry(granule)?;
    Err(Error::corrupt(format_args!("invariant 3: no directory names the leaf at granule {granule}: {entry:?}")))
}
