//! Suspects.

use super::invariant::{LISTS, hold};
use crate::error::{Error, Result};
use crate::fallible;
use crate::process::attachment::Attachment;
use crate::sync::slot::Kind;
use std::collections::{HashMap, HashSet};

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
        fallible::insert(&mut self.blocks, granule, bits, LISTS).map(drop)
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
