//! Replacing a leaf by one of another size, or by two.
//!
//! The protocol is "Replacing leaves" in docs/protocol.md. Directories are replaced in `directory.rs`; `shrink.rs`
//! decides which leaves become smaller.

use crate::error::{Error, Result};
use crate::format::{DEPTH_MAX, GRANULE, LEAF_MAX, LeafHead, LeafWord, SLOTS_OF_GRANULE, Slot, SpanEntry, SpanState};
use crate::heap::reserve::{OnFull, ReservedSpan};
use crate::key::{Index, Name};
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::intent::{Change, DirectoryWords, LeafCounts};
use crate::sync::slot::{Content, Seqlock};
use crate::variables::leaf::{Leaf, TableOf, is_full, min_size_for, size_for};
use crate::variables::{AsVariables, Variables, VariablesWriter};
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

/// Private to the process: what a leaf is replaced by: one leaf, or one for each half of its hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Successors {
    /// Granules of each leaf. The second is 0 where there is only one.
    pub sizes: [u64; 2],
    /// The least granules of each leaf, for when no longer run of free granules is present.
    pub min_sizes: [u64; 2],
    /// What happens if no memory is free for them.
    pub when_full: OnFull,
}

impl Variables {
    /// Returns the hash of what is in a slot.
    pub fn hash_of(&self, content: &Content) -> u64 {
        match content.is_text() {
            true => content.rest[0],
            false => {
                let index = Index::Int(content.rest[0] as i64);
                Name { index, of: content.name_of() }.hash(self.identity.hash_key)
            }
        }
    }

    /// Replaces the leaf of a hash so that `more` entries fit. Does nothing if the leaf was replaced since the caller
    /// looked at `old`.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no memory for the new leaf.
    pub fn grow(&self, old: &Leaf, hash: u64, table: TableOf, more: u64, policy: &dyn WaitPolicy) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let mut writer = self.write(policy)?;
            let leaf = self.leaf_of(hash, table)?;
            if leaf.word != old.word {
                return Ok(());
            }
            if table == TableOf::Variables && self.state().expiring.load(Ordering::Relaxed) != 0 {
                writer.collect_leaf(&leaf)?;
            }
            let halves = writer.count_halves(&leaf)?;
            let all = halves[0].saturating_add(halves[1]).saturating_add(more);
            let (sizes, min_sizes) = if size_for(all) <= LEAF_MAX || leaf.word.depth() >= DEPTH_MAX {
                ([size_for(all).min(LEAF_MAX), 0], [min_size_for(all).min(LEAF_MAX), 0])
            } else if leaf.word.depth() == leaf.root.depth() {
                drop(writer);
                self.double_directory(leaf.root, table, policy)?;
                continue;
            } else {
                let size_halves =
                    |size: fn(u64) -> u64| halves.map(|half| size(half.saturating_add(more)).min(LEAF_MAX));
                (size_halves(size_for), size_halves(min_size_for))
            };
            let parts = if sizes[1] == 0 { [halves[0].saturating_add(halves[1]), 0] } else { halves };
            if parts.iter().zip(sizes).any(|(part, size)| size > 0 && !takes_one_more(size, *part)) {
                // Hashes that are spread never come to this, and another turn would end here as well.
                return Err(Error::corrupt(format_args!(
                    "a leaf of {parts:?} entries whose hashes begin with the same bits"
                )));
            }
            drop(writer);
            if self.replace_leaf(
                &leaf,
                table,
                Successors { sizes, min_sizes, when_full: OnFull::Reclaim },
                more,
                policy,
            )? {
                return Ok(());
            }
        }
    }

    /// Replaces a leaf. Returns `false` if it was replaced meanwhile, or has more entries by now than fit.
    pub(super) fn replace_leaf(
        &self,
        leaf: &Leaf,
        table: TableOf,
        successors: Successors,
        more: u64,
        policy: &dyn WaitPolicy,
    ) -> Result<bool> {
        let mut spans = Vec::with_capacity(2);
        for (size, min_size) in successors.sizes.into_iter().zip(successors.min_sizes).filter(|(size, _)| *size > 0) {
            spans.push(self.reserve_zeroed_span(min_size..=size, successors.when_full, policy)?);
        }
        let mut writer = self.write(policy)?;
        // Nothing of the leaf or its directory is loaded before this: while the spans were reserved, both may have been
        // freed, and given back to the system.
        if !self.is_in_force(leaf, table)? {
            return Ok(false);
        }
        for span in &spans {
            if !writer.owns(span.granule)? {
                return Ok(false);
            }
        }
        let depth = leaf.word.depth() + (spans.len() as u32 - 1);
        let generation = leaf.word.generation() + 1;
        let new: Vec<Leaf> = spans
            .iter()
            .map(|span| {
                let word = LeafWord::new(span.granule, depth, span.len, generation);
                Leaf { word, base: self.identity.geometry.granule_at(span.granule), slots: word.slots(), ..*leaf }
            })
            .collect();
        let Some(counts) = writer.copy_leaf(leaf, &new)? else { return Ok(false) };
        if new.len() == 1 && more > 0 && is_full(counts[0].saturating_add(1), new[0].slots) {
            return Ok(false);
        }
        let mut change = writer.change();
        for (span, new) in spans.iter().zip(&new) {
            change.edit_span(
                span.granule,
                self.arena().entry(span.granule)?,
                SpanEntry::new(SpanState::Leaf, new.word.size()),
            );
        }
        writer.plan_free_leaf(leaf, &mut change)?;
        let (first, count) = leaf.words(self.directory_at(leaf.root));
        let word = [new[0].word, new.last().map_or(new[0].word, |last| last.word)];
        change.words = Some(DirectoryWords { offset: self.directory_at(leaf.root) + first * 8, count, word });
        writer.commit(&change)?;
        spans.into_iter().for_each(ReservedSpan::published);
        Ok(true)
    }

    /// Reserves a span of zeros, all of it present. It has the greatest of these lengths, in granules, unless a shorter
    /// run is free and present already.
    pub fn reserve_zeroed_span(
        &self,
        lens: RangeInclusive<u64>,
        when_full: OnFull,
        policy: &dyn WaitPolicy,
    ) -> Result<ReservedSpan<'_>> {
        let span = self.reserve_span_between(lens, when_full, policy)?;
        let len = span.len;
        let offset = self.identity.geometry.granule_at(span.granule);
        if !self.arena().is_present(span.granule, len)? {
            match when_full {
                OnFull::Reclaim => self.obtain_or_reclaim(offset, len * GRANULE, policy)?,
                OnFull::Fail => self.obtain_pages(offset, len * GRANULE)?,
            }
        }
        let mut cleared = Ok(());
        policy.allow_threads(&mut || cleared = self.mem.zero(offset, (len * GRANULE) as usize));
        cleared?;
        crash_point!("leaf-cleared");
        Ok(span)
    }
}

impl VariablesWriter<'_> {
    /// Plans that the span of a leaf is free: nothing names the leaf after the change.
    pub fn plan_free_leaf(&self, leaf: &Leaf, change: &mut Change) -> Result<()> {
        let before = self.arena().entry(leaf.word.granule())?;
        if before.state() != SpanState::Leaf || before.len() != leaf.word.size() {
            return Err(Error::corrupt(format_args!("the leaf's span: {before:?}")));
        }
        self.arena().plan_free(leaf.word.granule(), before, change);
        Ok(())
    }

    /// Counts the entries of a leaf by the next bit of their hashes.
    fn count_halves(&self, leaf: &Leaf) -> Result<[u64; 2]> {
        let mut halves = [0; 2];
        for number in 1..=leaf.slots {
            let slot = self.att.mem.at::<Slot>(leaf.slot_at(number))?;
            let content = Content { word: slot.word.load(Ordering::Relaxed), rest: slot.rest() };
            if content.is_entry() {
                halves[half_of(self.att.variables().hash_of(&content), leaf.word.depth())] += 1;
            }
        }
        Ok(halves)
    }

    /// Copies every entry of a leaf to new leaves that no reader sees yet. Returns how many entries each new leaf has
    /// then. `None`: they do not fit.
    pub(super) fn copy_leaf(&self, old: &Leaf, new: &[Leaf]) -> Result<Option<[u64; 2]>> {
        let mut counts = [0; 2];
        for (count, leaf) in counts.iter_mut().zip(new) {
            *count = self.att.variables().counts_of(leaf)?.fill;
        }
        for number in 1..=old.slots {
            let slot = self.att.mem.at::<Slot>(old.slot_at(number))?;
            let content = Content { word: slot.word.load(Ordering::Relaxed), rest: slot.rest() };
            if !content.is_entry() {
                continue;
            }
            let hash = self.att.variables().hash_of(&content);
            let half = if new.len() == 1 { 0 } else { half_of(hash, old.word.depth()) };
            let leaf = &new[half];
            if is_full(counts[half], leaf.slots) {
                return Ok(None);
            }
            let (mut to, mut steps) = (leaf.home(hash), 0);
            let mut slot = self.att.mem.at::<Slot>(leaf.slot_at(to))?;
            while slot.word.load(Ordering::Relaxed) != 0 {
                to = leaf.after(to);
                slot = self.att.mem.at::<Slot>(leaf.slot_at(to))?;
                steps += 1;
                // An eighth of the slots is unused, unless a process does not keep to the protocol.
                if steps > leaf.slots {
                    return Err(Error::corrupt("a new leaf that is full"));
                }
            }
            for (to, from) in slot.rest.iter().zip(content.rest) {
                to.store(from, Ordering::Relaxed);
            }
            slot.word.store(content.word, Ordering::Relaxed);
            // CRASH: until the commit the new leaf is a span that is filling in the name of this process.
            crash_point!("slot-copied");
            counts[half] += 1;
        }
        for (count, leaf) in counts.iter().zip(new) {
            let packed = LeafCounts { fill: *count, entries: *count }.pack();
            self.att.mem.at::<LeafHead>(leaf.base)?.counts.store(packed, Ordering::Relaxed);
        }
        Ok(Some(counts))
    }
}

/// Returns whether a leaf of `size` granules takes `entries` entries and one more.
fn takes_one_more(size: u64, entries: u64) -> bool {
    !is_full(entries.saturating_add(1), size * SLOTS_OF_GRANULE - 1)
}

/// Returns in which half of a leaf's hashes a hash is. `depth` is that of the leaf.
fn half_of(hash: u64, depth: u32) -> usize {
    (hash >> (63 - depth.min(63)) & 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::wait_policy::Blocking;

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn a_directory_that_was_given_back_is_not_looked_at() {
        let key = crate::key::Key::text(&format!("given-back-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        segment.put(1, &"a value").unwrap();
        let attachment = segment.attachment().unwrap();
        let att = attachment.variables();
        let leaf = {
            let _writer = att.write(&Blocking).unwrap();
            att.leaf_of(0, TableOf::Variables).unwrap()
        };
        // As another process may do it while a caller obtains memory for a larger leaf.
        att.clear(&Blocking).unwrap();
        att.trim(&Blocking).unwrap();
        assert_ne!(att.state().root.load(Ordering::Relaxed), leaf.root.0);
        // So many granules do not fit where the directory was, which is a hole now. A page that is loaded from comes
        // into being, or, where the memory file system is full, is a signal.
        let successors = Successors { sizes: [8, 0], min_sizes: [8, 0], when_full: OnFull::Reclaim };
        let before = att.resident().unwrap();
        assert!(!att.replace_leaf(&leaf, TableOf::Variables, successors, 0, &Blocking).unwrap());
        assert_eq!(att.resident().unwrap(), before + 8 * GRANULE);
        segment.destroy().unwrap();
    }
}
