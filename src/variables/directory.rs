//! Replacing a directory by one that is longer, shorter, or at another place.
//!
//! The protocol is "Replacing leaves" in docs/protocol.md (*Directories*).

use crate::error::{Error, Result};
use crate::format::{LeafWord, Root, SpanEntry, SpanState, granules_of};
use crate::heap::reserve::OnFull;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::intent::Change;
use crate::variables::leaf::TableOf;
use crate::variables::{Variables, VariablesWriter};
use std::sync::atomic::{AtomicU64, Ordering};

impl Variables {
    /// Replaces a directory by one that is twice as long: each word comes twice.
    pub(super) fn double_directory(&self, root: Root, table: TableOf, policy: &dyn WaitPolicy) -> Result<()> {
        self.replace_directory(root, root.depth() + 1, table, OnFull::Reclaim, policy)
    }

    /// Replaces a directory by one of another depth with the same leaves. Does nothing if one of the leaves is deeper
    /// than that, or if the directory was replaced meanwhile.
    pub(super) fn replace_directory(
        &self,
        root: Root,
        depth: u32,
        table: TableOf,
        when_full: OnFull,
        policy: &dyn WaitPolicy,
    ) -> Result<()> {
        let span = {
            let len = granules_of(8 << depth);
            self.reserve_zeroed_span(len..=len, when_full, policy)?
        };
        let mut writer = self.write(policy)?;
        if !root.is_same_table(self.root_word(table).load(Ordering::Relaxed)) || !writer.owns(span.granule)? {
            return Ok(());
        }
        let (from, to) = (self.directory_at(root), self.identity.geometry.granule_at(span.granule));
        for number in 0..1_u64 << depth {
            let copied = match depth > root.depth() {
                true => number >> (depth - root.depth()),
                false => number << (root.depth() - depth),
            };
            let word = self.mem.at::<AtomicU64>(from + copied * 8)?.load(Ordering::Relaxed);
            if LeafWord(word).depth() > depth {
                return Ok(());
            }
            self.mem.at::<AtomicU64>(to + number * 8)?.store(word, Ordering::Relaxed);
        }
        crash_point!("directory-copied");
        let mut change = writer.change();
        let new = Root::new(span.granule, depth, root.generation().wrapping_add(1));
        match table {
            TableOf::Variables => change.counters.root = new,
            TableOf::Names => change.counters.names = new,
        }
        let filling = self.arena().entry(span.granule)?;
        change.edit_span(span.granule, filling, SpanEntry::new(SpanState::Directory, granules_of(8 << depth)));
        writer.plan_free_directory(root, &mut change)?;
        writer.commit(&change)?;
        span.published();
        Ok(())
    }
}

impl VariablesWriter<'_> {
    /// Plans that the span of a directory is free: nothing names the directory after the change.
    pub fn plan_free_directory(&self, root: Root, change: &mut Change) -> Result<()> {
        let before = self.arena().entry(root.granule())?;
        if before.state() != SpanState::Directory || before.len() != granules_of(8 << root.depth()) {
            return Err(Error::corrupt(format_args!("the directory's span: {before:?}")));
        }
        self.arena().plan_free(root.granule(), before, change);
        Ok(())
    }
}
