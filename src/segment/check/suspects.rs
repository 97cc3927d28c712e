//! What is in use in the arena although no leaf named it when the check looked at the leaves. `arena` collects the
//! suspects, the passes in `closing` clear them.
//!
//! A suspect is not damage yet, since it may have been taken after that look. But only what is free is ever taken: what
//! was in use and named by nobody when the check began is named by nobody later. So a suspect that is seen named once,
//! or free, is cleared for good (docs/protocol.md, "Check", *Used and named by nobody*).

use super::invariant::{LISTS, ensure};
use crate::error::{Error, Result};
use crate::fallible;
use crate::process::attachment::Attachment;
use crate::sync::slot::Kind;
use std::collections::{HashMap, HashSet};

/// Blocks, spans and leaves in use that no table has been seen to name.
#[derive(Default)]
pub(super) struct Suspects {
    /// For each slab, by its first granule: a bitmap of its suspect blocks, never empty.
    pub blocks: HashMap<u64, [u64; 8]>,
    /// Large values, by their first granule.
    pub spans: HashSet<u64>,
    /// Leaves, by their first granule.
    pub leaves: HashSet<u64>,
}

impl Suspects {
    /// How many there are.
    pub fn count(&self) -> u64 {
        let blocks: u64 = self.blocks.values().flatten().map(|bits| u64::from(bits.count_ones())).sum();
        blocks + self.spans.len() as u64 + self.leaves.len() as u64
    }

    /// Adds blocks of a slab.
    pub fn add_blocks(&mut self, granule: u64, bits: [u64; 8]) -> Result<()> {
        fallible::insert(&mut self.blocks, granule, bits, LISTS).map(drop)
    }

    /// Clears what a slot of this kind names.
    pub fn clear(&mut self, kind: Kind, granule: u64, block: u64) {
        match kind {
            Kind::Record => self.clear_block(granule, block),
            Kind::Span => drop(self.spans.remove(&granule)),
            _ => {}
        }
    }

    fn clear_block(&mut self, granule: u64, block: u64) {
        if let Some(bits) = self.blocks.get_mut(&granule) {
            if let Some(word) = bits.get_mut((block / 64) as usize) {
                *word &= !(1 << (block % 64));
            }
            if *bits == [0; 8] {
                self.blocks.remove(&granule);
            }
        }
    }

    /// Clears the blocks of a slab that are not in this bitmap of blocks in use.
    pub fn keep_blocks(&mut self, granule: u64, used: [u64; 8]) {
        if let Some(bits) = self.blocks.get_mut(&granule) {
            bits.iter_mut().zip(used).for_each(|(bits, used)| *bits &= used);
            if *bits == [0; 8] {
                self.blocks.remove(&granule);
            }
        }
    }

    /// An error for one of the suspects, if there is any. The caller knows that nothing has changed since the pass that
    /// looked for their names began: so they are damage.
    pub fn ensure_none(&self, att: &Attachment) -> Result<()> {
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

/// The error for the first of these blocks, which no slot names.
pub(super) fn unnamed_block(granule: u64, bits: [u64; 8]) -> Result<()> {
    let word = bits.iter().position(|word| *word != 0).unwrap_or(0);
    let block = word as u32 * 64 + bits[word].trailing_zeros();
    ensure!(false, 2, "block {block} of granule {granule}: in use true, named false");
    Ok(())
}

/// The error for a live span that no slot names.
pub(super) fn unnamed_span(granule: u64) -> Result<()> {
    ensure!(false, 2, "the span at granule {granule} is live, nobody names it");
    Ok(())
}

/// The error for a leaf that no word of a directory names.
pub(super) fn unnamed_leaf(att: &Attachment, granule: u64) -> Result<()> {
    let entry = att.arena().entry(granule)?;
    Err(Error::corrupt(format_args!("invariant 3: no directory names the leaf at granule {granule}: {entry:?}")))
}
