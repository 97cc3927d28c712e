//! A leaf of one of the three tables, named so that it can be found again in a later hold, in four bytes: one is kept
//! for each record (docs/protocol.md, "Check", *Named twice*). Also here: what is left of the doomed table ("Clear").

use crate::error::Result;
use crate::format::{DEPTH_MAX, Root};
use crate::process::attachment::Attachment;
use crate::variables::AsVariables;
use crate::variables::leaf::{Leaf, TableOf};
use std::sync::atomic::Ordering;

/// How often a walk over the doomed table begins again because another table has become the doomed one meanwhile.
pub(super) const DOOMED_RESTARTS: u32 = 3;

/// One of the three tables that a check walks over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckedTable {
    /// One of the two tables in use.
    Current(TableOf),
    /// What is left of a table of variables that was cleared.
    Doomed,
}

/// Which leaf named something when the check looked at it: the table, and the first bits of the leaf's hashes (in the
/// doomed table, the number of the leaf's first word). 0 is no leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeafId(u32);

/// The bits of a [`LeafId`] that say which leaf of its table it is: enough for the deepest directory.
const BITS: u32 = 30;
const _: () = assert!(BITS >= DEPTH_MAX);

impl LeafId {
    /// Names a leaf of a table whose directory is at this offset.
    pub fn new(of: CheckedTable, leaf: &Leaf, directory: u64) -> Self {
        let (first, _) = leaf.words(directory);
        let (table, bits) = match of {
            CheckedTable::Current(TableOf::Variables) => (1, first << (BITS - leaf.root.depth().min(BITS))),
            CheckedTable::Current(TableOf::Names) => (2, first << (BITS - leaf.root.depth().min(BITS))),
            CheckedTable::Doomed => (3, first),
        };
        LeafId(table << BITS | bits as u32 & ((1 << BITS) - 1))
    }

    /// Are both leaves of the same table?
    pub fn same_table(self, other: LeafId) -> bool {
        self.0 >> BITS == other.0 >> BITS
    }

    /// The leaf that serves this range of hashes now, and the number of its first slot that counts.
    pub fn leaf(self, att: &Attachment) -> Result<Option<(Leaf, u64)>> {
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

/// The leaf that a word of the doomed directory names, and the number of its first slot that is not taken apart yet.
fn doomed_leaf(att: &Attachment, number: u64) -> Result<Option<(Leaf, u64)>> {
    let (root, at) = doomed(att);
    if root.0 == 0 || root.depth() > DEPTH_MAX || number >= 1 << root.depth() {
        return Ok(None);
    }
    let Some(leaf) = att.variables().leaf_of_word(root, number)? else { return Ok(None) };
    // Perhaps another table was the doomed one when this word was noted. So it need not be the first word of this leaf.
    let (first, _) = leaf.words(att.variables().directory_at(root));
    Ok((first >= at >> 32).then(|| (leaf, first_remaining_slot(at, first))))
}

/// The root of the doomed table (0 if there is none), and how far it is taken apart: `doomed_at`, a word of the
/// directory in the upper 32 bits, a slot of its leaf in the lower ones.
pub(super) fn doomed(att: &Attachment) -> (Root, u64) {
    let state = att.state();
    (Root(state.doomed.load(Ordering::Relaxed)), state.doomed_at.load(Ordering::Relaxed))
}

/// The number of the first slot that is not taken apart yet, in the leaf of this word of the doomed directory.
pub(super) fn first_remaining_slot(at: u64, word: u64) -> u64 {
    if word == at >> 32 { (at & u64::from(u32::MAX)).max(1) } else { 1 }
}
