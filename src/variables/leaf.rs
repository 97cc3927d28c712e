//! The way from a hash to its leaf: root, directory, directory word; and the sizes of leaves.
//!
//! The layout is "Table" in docs/format.md; the way in and the comparison on the way out are steps R1 and R4 of
//! "Reading, without a lock" in docs/protocol.md. Slots are searched in `lookup.rs` and `place.rs`.

use crate::error::{Error, Result};
use crate::format::{
    DEPTH_MAX, LEAF_MAX, LeafHead, LeafWord, Root, SLOT, SLOTS_OF_GRANULE, SpanState, ZONE, granules_of,
};
use crate::os::object;
use crate::process::access::{Access, MappedAccess};
use crate::process::attachment::CHECK_RESIDENT_FROM;
use crate::sync::intent::LeafCounts;
use crate::variables::Variables;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Which of the two tables of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableOf {
    /// The table of the variables.
    Variables,
    /// The table of the names (of locks).
    Names,
}

impl TableOf {
    /// Returns the table in which a name is, or that of the variables.
    #[inline(always)]
    pub fn of(is_name: bool) -> Self {
        if is_name { TableOf::Names } else { TableOf::Variables }
    }
}

/// Private to the process: a leaf as it was found, with the path to it. Its bounds are checked.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// The root as it was loaded.
    pub root: Root,
    /// File offset of the directory's word that named the leaf.
    pub word_at: u64,
    /// The directory's word: granule, depth, size and generation.
    pub word: LeafWord,
    /// File offset of the leaf.
    pub base: u64,
    /// Number of slots of the leaf; they are numbered from 1.
    pub slots: u64,
}

/// Returns whether a leaf has to be replaced before another of its unused slots is taken: when 7/8 of its slots are not
/// empty.
pub fn is_full(fill: u64, slots: u64) -> bool {
    fill >= slots - slots / 8
}

/// Returns whether a leaf has to be replaced even if memory is short: all its slots but one are not empty. That one
/// ends the search for a name that is missing.
pub fn is_crowded(fill: u64, slots: u64) -> bool {
    fill + 1 >= slots
}

/// Returns the number of granules of a leaf for so many entries. They fill it to at most 0.7, so that at least a
/// quarter as many again fit.
pub fn size_for(entries: u64) -> u64 {
    (entries.saturating_mul(10).div_ceil(7) + 2).div_ceil(SLOTS_OF_GRANULE)
}

/// Returns the least number of granules of a leaf for so many entries, for when no longer run of free granules is
/// present. They fill it to 0.82.
pub fn min_size_for(entries: u64) -> u64 {
    (entries.saturating_mul(61).div_ceil(50) + 2).div_ceil(SLOTS_OF_GRANULE)
}

/// Returns whether a directory's word names granules that a leaf can have, in the first `zones` zones.
#[inline(always)]
pub(super) fn is_within(word: LeafWord, zones: u64) -> bool {
    word.size().wrapping_sub(1) < LEAF_MAX && word.granule() + word.size() <= zones.saturating_mul(ZONE)
}

/// Returns the number of the slot at which a search for this hash begins, in a leaf of so many slots.
#[inline(always)]
pub(super) fn home_of(hash: u64, slots: u64) -> u64 {
    1 + (((hash & u64::from(u32::MAX)) * slots) >> 32)
}

impl Leaf {
    /// Returns the file offset of a slot. `number` begins at 1.
    #[inline(always)]
    pub fn slot_at(&self, number: u64) -> u64 {
        self.base + number * SLOT
    }

    /// Returns the number of the slot at which a search for this hash begins.
    #[inline(always)]
    pub fn home(&self, hash: u64) -> u64 {
        home_of(hash, self.slots)
    }

    /// Returns the number of the slot behind this one; behind the last comes the first.
    #[inline(always)]
    pub fn after(&self, number: u64) -> u64 {
        if number == self.slots { 1 } else { number + 1 }
    }

    /// Returns whether a hash is in the range of the leaf, in which `own` is.
    #[inline(always)]
    pub fn has_range_of(&self, own: u64, hash: u64) -> bool {
        (own ^ hash) >> 1 >> (63 - self.word.depth()) == 0
    }

    /// Returns the number of the directory's word that named the leaf. `directory` is the file offset of the directory.
    pub fn word_number(&self, directory: u64) -> u64 {
        (self.word_at - directory) / 8
    }

    /// Returns which words of the directory name the leaf: the number of the first, and how many there are.
    pub fn words(&self, directory: u64) -> (u64, u64) {
        let count = 1_u64 << self.root.depth().saturating_sub(self.word.depth());
        (self.word_number(directory) & !(count - 1), count)
    }
}

/// Private to the process: the leaf of the hash that was looked for last. Who comes in the order of the hashes finds the leaf
/// of most of them here. It serves one acquisition of the writer lock, in which no leaf is replaced.
#[derive(Default)]
pub struct LastLeaf(Option<(u64, Leaf)>);

impl LastLeaf {
    /// Returns the leaf of a variable's hash.
    #[inline(always)]
    pub fn of(&mut self, att: &Variables, hash: u64) -> Result<Leaf> {
        if let Some((last, leaf)) = &self.0 {
            if leaf.has_range_of(*last, hash) {
                return Ok(*leaf);
            }
        }
        let leaf = att.leaf_of(hash, TableOf::Variables)?;
        self.0 = Some((hash, leaf));
        Ok(leaf)
    }

    /// Begins to load the slot at which the search for a hash will begin, if that is in the leaf of the last one.
    #[inline(always)]
    pub fn prefetch(&self, att: &Variables, hash: u64) {
        if let Some((last, leaf)) = &self.0 {
            if leaf.has_range_of(*last, hash) {
                att.mem.prefetch(leaf.slot_at(leaf.home(hash)));
            }
        }
    }
}

impl Variables {
    /// Returns the word of the state page that names a table.
    #[inline(always)]
    pub fn root_word(&self, table: TableOf) -> &AtomicU64 {
        match table {
            TableOf::Variables => &self.state().root,
            TableOf::Names => &self.state().names,
        }
    }

    /// Loads the root of a table and checks its bounds. The caller holds the writer lock, or does not follow the
    /// directory's words.
    #[inline(always)]
    pub fn root(&self, table: TableOf) -> Result<Root> {
        self.root_with(table, MappedAccess)
    }

    /// Loads the root of a table and checks its bounds, unless it is the root that was checked last.
    #[inline(always)]
    fn root_with(&self, table: TableOf, access: impl Access) -> Result<Root> {
        let root = Root(self.root_word(table).load(Ordering::Acquire));
        let sound = &self.table_hints.sound_roots[table as usize];
        if !root.is_same_table(sound.load(Ordering::Relaxed)) {
            self.check_root(root, table, access)?;
        }
        Ok(root)
    }

    /// Returns the file offset of a directory.
    #[inline(always)]
    pub fn directory_at(&self, root: Root) -> u64 {
        self.identity.geometry.granule_at(root.granule())
    }

    /// Finds the leaf of a hash. The caller holds the writer lock.
    #[inline(always)]
    pub fn leaf_of(&self, hash: u64, table: TableOf) -> Result<Leaf> {
        self.leaf_with(hash, table, MappedAccess)
    }

    /// Finds the leaf of a hash (step R1).
    #[inline(always)]
    pub fn leaf_with(&self, hash: u64, table: TableOf, access: impl Access) -> Result<Leaf> {
        let root = self.root_with(table, access)?;
        match self.leaf_of_word_with(root, root.word_of(hash), access)? {
            // The root is compared before the word is followed: so the word was loaded from a directory in force, and
            // not from whatever its memory serves by now.
            Some(leaf) if root.is_same_table(self.root_word(table).load(Ordering::Relaxed)) => Ok(leaf),
            _ => self.leaf_with_retries(hash, table, access),
        }
    }

    /// Loads a word of a directory and returns the leaf that it names. `None`: the word names no leaf. The caller holds
    /// the writer lock.
    #[inline(always)]
    pub fn leaf_of_word(&self, root: Root, number: u64) -> Result<Option<Leaf>> {
        self.leaf_of_word_with(root, number, MappedAccess)
    }

    /// Loads a word of a directory and returns the leaf that it names. `None`: the word names no leaf.
    #[inline(always)]
    fn leaf_of_word_with(&self, root: Root, number: u64, access: impl Access) -> Result<Option<Leaf>> {
        let word_at = self.directory_at(root) + number * 8;
        // SYNC: pairs with the release store of a commit: a thread that sees the word of a new leaf sees the slots in
        // it.
        let word = LeafWord(access.word(self, word_at)?);
        let zones = self.state().zones.load(Ordering::Relaxed);
        let base = self.identity.geometry.granule_at(word.granule());
        Ok(is_within(word, zones).then(|| Leaf { root, word_at, word, base, slots: word.slots() }))
    }

    /// Finds the leaf of a variable's hash where the root is the one that was checked last. `None`: something is
    /// unusual, so the caller goes the long way.
    #[inline(always)]
    pub fn leaf_fast(&self, hash: u64) -> Option<Leaf> {
        let root = Root(self.state().root.load(Ordering::Acquire));
        if !root.is_same_table(self.table_hints.sound_roots[TableOf::Variables as usize].load(Ordering::Relaxed)) {
            return None;
        }
        let leaf = self.leaf_of_word(root, root.word_of(hash)).ok()??;
        root.is_same_table(self.state().root.load(Ordering::Relaxed)).then_some(leaf)
    }

    /// Finds the leaf of a hash where the directory may have been replaced between two loads, and its memory serve
    /// something else.
    #[cold]
    fn leaf_with_retries(&self, hash: u64, table: TableOf, access: impl Access) -> Result<Leaf> {
        for _ in 0..1_000 {
            let root = self.root_with(table, access)?;
            let found = self.leaf_of_word_with(root, root.word_of(hash), access)?;
            fence(Ordering::Acquire);
            if root.is_same_table(self.root_word(table).load(Ordering::Relaxed)) {
                if let Some(leaf) = found {
                    return Ok(leaf);
                }
                let number = root.word_of(hash);
                return Err(Error::corrupt(format_args!("word {number} of the directory {:#x}", root.0)));
            }
        }
        Err(Error::corrupt("a root that was replaced in each of 1,000 attempts"))
    }

    /// Checks that a root which was not seen before names the span of a directory of just its length.
    #[cold]
    fn check_root(&self, root: Root, table: TableOf, access: impl Access) -> Result<()> {
        let (zones, len) = (self.arena().zones(), granules_of(8 << root.depth().min(DEPTH_MAX)));
        if root.depth() > DEPTH_MAX || !self.arena().fits(root.granule(), len, zones) {
            return Err(Error::corrupt(format_args!("root {:#x}", root.0)));
        }
        let entry = access.entry(self, root.granule())?;
        if entry.state() != SpanState::Directory || entry.len() != len {
            // The span of a table that is being replaced looks like this, too, until the new root is stored, and for as
            // long as the writer lock stays that of a dead writer. The root stands unchanged until that writer, or the
            // process that repairs, releases the lock.
            let area = self.mem.intent();
            let next = match table {
                TableOf::Variables => &area.root,
                TableOf::Names => &area.names,
            };
            let replaced = area.valid.load(Ordering::Acquire) != 0 && !root.is_same_table(next.load(Ordering::Relaxed));
            if replaced || !root.is_same_table(self.root_word(table).load(Ordering::Acquire)) {
                return Ok(());
            }
            return Err(Error::corrupt(format_args!("the directory's span: {entry:?}")));
        }
        // A process that may write can store any depth into the root. But all pages of a directory are obtained before
        // it is one, so a directory can be no longer than the memory that the object takes. That bounds what a pass
        // over it costs.
        let bytes = 8 << root.depth();
        if bytes >= CHECK_RESIDENT_FROM {
            let status = self.with_file(|fd| object::status(fd))?.map_err(|e| Error::system("fstat", e))?;
            if status.resident < bytes {
                let resident = status.resident;
                return Err(Error::corrupt(format_args!(
                    "a directory of {bytes} bytes in an object of which {resident} are present"
                )));
            }
        }
        self.table_hints.sound_roots[table as usize].store(root.0, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether a leaf and its directory are still in force. The caller holds the writer lock.
    #[inline(always)]
    pub fn is_in_force(&self, leaf: &Leaf, table: TableOf) -> Result<bool> {
        self.is_in_force_with(leaf, table, MappedAccess)
    }

    /// Returns whether a leaf and its directory are still in force.
    #[inline(always)]
    pub fn is_in_force_with(&self, leaf: &Leaf, table: TableOf, access: impl Access) -> Result<bool> {
        // SYNC: as in `Slot::unchanged`: nothing that was loaded before this fence is newer than what the next two
        // loads say.
        fence(Ordering::Acquire);
        self.still_names(leaf.root, leaf.word_at, leaf.word, table, access)
    }

    /// Returns whether the root (but for its rounds), and then the directory's word, are still what they were, without a
    /// fence. The order matters: the word is a directory's only while the root is the same.
    #[inline(always)]
    pub fn still_names(
        &self,
        root: Root,
        word_at: u64,
        word: LeafWord,
        table: TableOf,
        access: impl Access,
    ) -> Result<bool> {
        let same = root.is_same_table(self.root_word(table).load(Ordering::Acquire));
        Ok(same && access.word(self, word_at)? == word.0)
    }

    /// Returns the two counts in a leaf's head: slots that are not empty, and entries.
    #[inline]
    pub fn counts_of(&self, leaf: &Leaf) -> Result<LeafCounts> {
        Ok(LeafCounts::unpack(self.mem.at::<LeafHead>(leaf.base)?.counts.load(Ordering::Relaxed)))
    }

    /// Returns whether the span map agrees with what a directory's word says of a leaf. Passes over all leaves ask
    /// this; a search, which looks at one leaf, does not.
    pub fn leaf_is_sound(&self, leaf: &Leaf, access: impl Access) -> Result<bool> {
        let entry = access.entry(self, leaf.word.granule())?;
        let span = entry.state() == SpanState::Leaf && entry.len() == leaf.word.size();
        Ok(span && leaf.word.depth() <= leaf.root.depth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_that_was_full_has_room_afterwards_and_takes_at_most_50_bytes_for_each_entry() {
        for size in 1..=LEAF_MAX {
            let slots = size * SLOTS_OF_GRANULE - 1;
            let full = (0..slots).find(|fill| is_full(*fill, slots)).unwrap();
            let next = size_for(full + 1);
            assert!(next > size && !is_full(full + 1, next * SLOTS_OF_GRANULE - 1), "{size}");
            if size >= 9 {
                assert!(next * SLOTS_OF_GRANULE * SLOT * 10 <= full * 500, "{size} {next} {full}");
            }
            let least = min_size_for(full + 1).max(size + 1);
            assert!(least <= next && !is_full(full + 1, least * SLOTS_OF_GRANULE - 1), "{size}");
        }
    }
}
