//! Leaf id.

use crate::error::Result;
use crate::format::{DEPTH_MAX, Root};
use crate::process::attachment::Attachment;
use crate::variables::AsVariables;
use crate::variables::leaf::{Leaf, TableOf};
use std::sync::atomic::Ordering;

/// The doomed table is looked at anew so often where it became another meanwhile.
pub(super) const DOOMED_TURNS: u32 = 3;

/// A table, the doomed one among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckedTable {
    Current(TableOf),
    /// What is left of it.
    Doomed,
}

/// Which leaf named something when it was looked at, by its table and the first bits of its hashes; of the doomed table, by the
/// number of its first word. 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeafId(u32);

/// Bits of a place that say which leaf: enough for any directory.
const BITS: u32 = 30;
const _: () = assert!(BITS >= DEPTH_MAX);

impl LeafId {
    pub fn new(of: CheckedTable, leaf: &Leaf, directory: u64) -> Self {
        let (first, _) = leaf.words(directory);
        let (table, bits) = match of {
            CheckedTable::Current(TableOf::Variables) => (1, first << (BITS - leaf.root.depth().min(BITS))),
            CheckedTable::Current(TableOf::Names) => (2, first << (BITS - leaf.root.depth().min(BITS))),
            CheckedTable::Doomed => (3, first),
        };
        LeafId(table << BITS | bits as u32 & ((1 << BITS) - 1))
    }

    /// Is it of the same table?
    pub fn same_table(self, other: LeafId) -> bool {
        self.0 >> BITS == other.0 >> BITS
    }

    /// The leaf that is there now, and the first slot of it that counts.
    pub fn leaf(self, att: &Attachment) -> Result<Option<(Leaf, u64)>> {
        let bits = u64::from(self.0 & ((1 << BITS) - 1));
        let of = match self.0 >> BITS {
            1 => TableOf::Variables,
            2 => TableOf::Names,
            3 => return doomed_leaf(att, bits),
            _ => return Ok(None),
        };
        let root = att.variables().root(of)?;
        let leaf = att.variables().leaf_number(root, bits >> (BITS - root.depth().min(BITS)))?;
        Ok(leaf.map(|leaf| (leaf, 1)))
    }
}

/// The leaf of a word of the doomed table, and the first slot of it that is not taken apart.
fn doomed_leaf(att: &Attachment, number: u64) -> Result<Option<(Leaf, u64)>> {
    let (root, at) = doomed(att);
    if root.0 == 0 || root.depth() > DEPTH_MAX || number >= 1 << root.depth() {
        return Ok(None);
    }
    let Some(leaf) = att.variables().leaf_number(root, number)? else { return Ok(None) };
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
