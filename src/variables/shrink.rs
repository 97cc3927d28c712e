//! Making tables smaller for `trim`: smaller leaves, joined leaves, a shorter directory, and lower places for all of
//! them.
//!
//! The protocol is "Replacing leaves" in docs/protocol.md (*Shrinking*). It takes free memory only, and never makes
//! room itself.

use crate::error::{Error, Result};
use crate::format::{LeafWord, Root, SpanEntry, SpanState};
use crate::heap::reserve::OnFull;
use crate::process::access::MappedAccess;
use crate::process::lock_slices::YieldTimer;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::intent::DirectoryWords;
use crate::variables::growth::Successors;
use crate::variables::leaf::{Leaf, TableOf, size_for};
use crate::variables::{AsVariables, Variables, VariablesWriter};

/// Two leaves are joined only where a leaf of this many granules holds both, so that there is room to grow.
const JOINED_MAX: u64 = 12;

impl Variables {
    /// Replaces leaves that are larger than their entries need, joins pairs of leaves that fit one, and gives the
    /// directory the depth of its deepest leaf.
    pub fn shrink_table(&self, table: TableOf, policy: &dyn WaitPolicy) -> Result<()> {
        let (mut hash, mut deepest, mut yielding) = (Some(0), 0, YieldTimer::new());
        while let Some(from) = hash {
            let writer = self.write(policy)?;
            let leaf = self.leaf_of(from, table)?;
            if !self.leaf_is_sound(&leaf, MappedAccess)? {
                return Err(Error::corrupt(format_args!("the leaf {:#x} that a directory names", leaf.word.0)));
            }
            let size = size_for(self.counts_of(&leaf)?.entries);
            let other = writer.join_candidate(&leaf, from, table)?;
            yielding.release(writer.into(), policy);
            match other {
                Some(other) if self.join_leaves(&leaf, &other, table, policy)? => {}
                _ => {
                    if size < leaf.word.size() {
                        self.replace_leaf(
                            &leaf,
                            table,
                            Successors { sizes: [size, 0], min_sizes: [size, 0], when_full: OnFull::Fail },
                            0,
                            policy,
                        )?;
                    }
                    deepest = deepest.max(leaf.word.depth());
                    hash = leaf.end(from);
                }
            }
            policy.interrupted()?;
        }
        let root = self.root_under_lock(table, policy)?;
        if deepest < root.depth() {
            // If a leaf was split meanwhile, the directory stays.
            self.replace_directory(root, deepest, table, OnFull::Fail, policy)?;
        }
        Ok(())
    }

    /// Returns the root of a table. A root that was not seen before is compared with the span map, whose pages stay
    /// while the writer lock is held.
    fn root_under_lock(&self, table: TableOf, policy: &dyn WaitPolicy) -> Result<Root> {
        let _writer = self.write(policy)?;
        self.root(table)
    }

    /// Joins two leaves that are the halves of one range. Returns `false` if they were not joined because something
    /// changed meanwhile.
    fn join_leaves(&self, leaf: &Leaf, other: &Leaf, table: TableOf, policy: &dyn WaitPolicy) -> Result<bool> {
        let depth = leaf.word.depth();
        let writer = self.write(policy)?;
        if !self.is_in_force(leaf, table)? || !self.is_in_force(other, table)? {
            return Ok(false);
        }
        let size = size_for(self.counts_of(leaf)?.entries.saturating_add(self.counts_of(other)?.entries));
        drop(writer);
        let span = self.reserve_zeroed_span(size..=size, OnFull::Fail, policy)?;
        let mut writer = self.write(policy)?;
        if !self.is_in_force(leaf, table)? || !self.is_in_force(other, table)? || !writer.owns(span.granule)? {
            return Ok(false);
        }
        let generation = leaf.word.generation().max(other.word.generation()) + 1;
        let word = LeafWord::new(span.granule, depth - 1, size, generation);
        let base = self.identity.geometry.granule_at(span.granule);
        let new = Leaf { word, base, slots: word.slots(), ..*leaf };
        for from in [leaf, other] {
            if writer.copy_leaf(from, &[new])?.is_none() {
                return Ok(false);
            }
        }
        let mut change = writer.change();
        change.edit_span(span.granule, self.arena().entry(span.granule)?, SpanEntry::new(SpanState::Leaf, size));
        writer.plan_free_leaf(leaf, &mut change)?;
        writer.plan_free_leaf(other, &mut change)?;
        let directory = self.directory_at(leaf.root);
        let (first, count) = leaf.words(directory);
        let (second, _) = other.words(directory);
        change.words =
            Some(DirectoryWords { offset: directory + first.min(second) * 8, count: count * 2, word: [word; 2] });
        writer.commit(&change)?;
        span.published();
        Ok(true)
    }

    /// Replaces the leaves and the directory that lie at granule `from` or behind it by copies at lower places.
    pub fn move_table_down(&self, table: TableOf, from: u64, policy: &dyn WaitPolicy) -> Result<()> {
        let mut hash = Some(0);
        while let Some(at) = hash {
            let leaf = {
                let _writer = self.write(policy)?;
                self.leaf_of(at, table)?
            };
            if leaf.word.granule() >= from {
                let size = leaf.word.size();
                let successors = Successors { sizes: [size, 0], min_sizes: [size, 0], when_full: OnFull::Fail };
                self.replace_leaf(&leaf, table, successors, 0, policy)?;
            }
            hash = leaf.end(at);
            policy.interrupted()?;
        }
        let root = self.root_under_lock(table, policy)?;
        if root.granule() >= from {
            self.replace_directory(root, root.depth(), table, OnFull::Fail, policy)
        } else {
            Ok(())
        }
    }
}

impl VariablesWriter<'_> {
    /// Returns the leaf of the other half of a range, if the two leaves are to be joined.
    fn join_candidate(&self, leaf: &Leaf, hash: u64, table: TableOf) -> Result<Option<Leaf>> {
        let (att, depth) = (self.att, leaf.word.depth());
        if depth == 0 {
            return Ok(None);
        }
        let other = att.variables().leaf_of(hash ^ 1 << (64 - depth), table)?;
        if other.word.depth() != depth || !other.root.is_same_table(leaf.root.0) {
            return Ok(None);
        }
        let entries =
            att.variables().counts_of(leaf)?.entries.saturating_add(att.variables().counts_of(&other)?.entries);
        Ok((size_for(entries) <= JOINED_MAX).then_some(other))
    }
}
