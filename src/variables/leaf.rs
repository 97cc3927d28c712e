//! The table as directory and leaves: where the slots of a hash are.

use crate::error::{Error, Result};
use crate::format::{
    DEPTH_MAX, LEAF_MAX, LeafHead, LeafWord, Root, SLOT, SLOTS_OF_GRANULE, SpanState, ZONE, granules_of,
};
use crate::os::object;
use crate::process::access::{Access, MappedAccess};
use crate::process::attachment::ASK_THE_KERNEL;
use crate::sync::intent::LeafCounts;
use crate::variables::Variables;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableOf {
    /// Of the variables.
    Variables,
    /// Of the names.
    Names,
}

impl TableOf {
    /// Where a name is, or an index.
    #[inline(always)]
    pub fn of(is_name: bool) -> Self {
        if is_name { TableOf::Names } else { TableOf::Variables }
    }
}

/// A leaf, as it was found: bounds checked.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// The root as loaded.
    pub root: Root,
    /// File offset of the directory word that named it.
    pub word_at: u64,
    /// That word.
    pub word: LeafWord,
    /// File offset of the leaf.
    pub base: u64,
    /// Its slots.
    pub slots: u64,
}

/// A leaf is this full at most: 7/8.
pub fn is_full(fill: u64, slots: u64) -> bool {
    fill >= slots - slots / 8
}

/// Where no memory is left for another leaf: all but one, with which a search for what is not there ends.
pub fn is_crowded(fill: u64, slots: u64) -> bool {
    fill + 1 >= slots
}

/// Granules of a leaf for so many entries: at most 0.7 full, so that it takes a quarter as many again at least.
pub fn size_for(entries: u64) -> u64 {
    (entries.saturating_mul(10).div_ceil(7) + 2).div_ceil(SLOTS_OF_GRANULE)
}

/// Where memory that is free and present has no room for that many: so many do, 0.82 full.
pub fn min_size_for(entries: u64) -> u64 {
    (entries.saturating_mul(61).div_ceil(50) + 2).div_ceil(SLOTS_OF_GRANULE)
}

impl Leaf {
    /// File offset of a slot, by its number: 1 and up.
    #[inline(always)]
    pub fn slot_at(&self, number: u64) -> u64 {
        self.base + number * SLOT
    }

    /// Where a search for this hash begins.
    #[inline(always)]
    pub fn home(&self, hash: u64) -> u64 {
        1 + (((hash & u64::from(u32::MAX)) * self.slots) >> 32)
    }

    /// The slot after this one, round.
    #[inline(always)]
    pub fn after(&self, number: u64) -> u64 {
        if number == self.slots { 1 } else { number + 1 }
    }

    /// Number of the directory's word that named it.
    pub fn word_number(&self, directory: u64) -> u64 {
        (self.word_at - directory) / 8
    }

    /// How many words of the directory name it: the first of them, and how many.
    pub fn words(&self, directory: u64) -> (u64, u64) {
        let count = 1_u64 << self.root.depth().saturating_sub(self.word.depth());
        (self.word_number(directory) & !(count - 1), count)
    }
}

impl Variables {
    /// The word of the state that names a table.
    #[inline(always)]
    pub fn root_word(&self, table: TableOf) -> &AtomicU64 {
        match table {
            TableOf::Variables => &self.state().root,
            TableOf::Names => &self.state().names,
        }
    }

    /// The table in force. The writer lock is held, or its words are not followed.
    #[inline(always)]
    pub fn root(&self, table: TableOf) -> Result<Root> {
        self.root_with(table, MappedAccess)
    }

    #[inline(always)]
    fn root_with(&self, table: TableOf, access: impl Access) -> Result<Root> {
        let root = Root(self.root_word(table).load(Ordering::Acquire));
        let sound = &self.table_hints.sound_roots[table as usize];
        if root.0 != sound.load(Ordering::Relaxed) {
            self.check_root(root, table, access)?;
        }
        Ok(root)
    }

    /// File offset of a directory.
    #[inline(always)]
    pub fn directory_at(&self, root: Root) -> u64 {
        self.identity.geometry.granule_at(root.granule())
    }

    /// The leaf of a hash. The writer lock is held.
    #[inline(always)]
    pub fn leaf_of(&self, hash: u64, table: TableOf) -> Result<Leaf> {
        self.leaf_with(hash, table, MappedAccess)
    }

    /// The leaf of a hash.
    #[inline(always)]
    pub fn leaf_with(&self, hash: u64, table: TableOf, access: impl Access) -> Result<Leaf> {
        let root = self.root_with(table, access)?;
        match self.leaf_of_word_with(root, root.word_of(hash), access)? {
            // Before the word is followed: it was loaded from a directory that was in force, not from what its memory serves now.
            Some(leaf) if self.root_word(table).load(Ordering::Relaxed) == root.0 => Ok(leaf),
            _ => self.leaf_with_retries(hash, table, access),
        }
    }

    /// What a directory's word names. `None`: no leaf. The writer lock is held.
    #[inline(always)]
    pub fn leaf_of_word(&self, root: Root, number: u64) -> Result<Option<Leaf>> {
        self.leaf_of_word_with(root, number, MappedAccess)
    }

    #[inline(always)]
    fn leaf_of_word_with(&self, root: Root, number: u64, access: impl Access) -> Result<Option<Leaf>> {
        let word_at = self.directory_at(root) + number * 8;
        // SYNC: with the release store of a commit: who sees a new leaf sees what is in it.
        let word = LeafWord(access.word(self, word_at)?);
        let zones = self.state().zones.load(Ordering::Relaxed);
        let sound =
            word.size().wrapping_sub(1) < LEAF_MAX && word.granule() + word.size() <= zones.saturating_mul(ZONE);
        let base = self.identity.geometry.granule_at(word.granule());
        Ok(sound.then(|| Leaf { root, word_at, word, base, slots: word.slots() }))
    }

    /// The leaf of a variable's hash, where all is as it was at the last look. `None`: look more closely.
    #[inline(always)]
    pub fn leaf_fast(&self, hash: u64) -> Option<Leaf> {
        let root = Root(self.state().root.load(Ordering::Acquire));
        if root.0 != self.table_hints.sound_roots[TableOf::Variables as usize].load(Ordering::Relaxed) {
            return None;
        }
        let leaf = self.leaf_of_word(root, root.word_of(hash)).ok()??;
        (self.state().root.load(Ordering::Relaxed) == root.0).then_some(leaf)
    }

    /// The directory may have been replaced between two looks, and its memory be something else's.
    #[cold]
    fn leaf_with_retries(&self, hash: u64, table: TableOf, access: impl Access) -> Result<Leaf> {
        for _ in 0..1_000 {
            let root = self.root_with(table, access)?;
            let found = self.leaf_of_word_with(root, root.word_of(hash), access)?;
            fence(Ordering::Acquire);
            if self.root_word(table).load(Ordering::Relaxed) == root.0 {
                if let Some(leaf) = found {
                    return Ok(leaf);
                }
                let number = root.word_of(hash);
                return Err(Error::corrupt(format_args!("word {number} of the directory {:#x}", root.0)));
            }
        }
        Err(Error::corrupt("the directory was replaced at each look"))
    }

    #[cold]
    fn check_root(&self, root: Root, table: TableOf, access: impl Access) -> Result<()> {
        let (zones, len) = (self.arena().zones(), granules_of(8 << root.depth().min(DEPTH_MAX)));
        if root.depth() > DEPTH_MAX || !self.arena().fits(root.granule(), len, zones) {
            return Err(Error::corrupt(format_args!("root {:#x}", root.0)));
        }
        let entry = access.entry(self, root.granule())?;
        if entry.state() != SpanState::Directory || entry.len() != len {
            // A table that is being replaced looks so too, until the root is stored: for ever, if its writer died. It stands
            // unchanged until he, or whoever repairs, lets the lock go.
            let area = self.mem.intent();
            let next = match table {
                TableOf::Variables => &area.root,
                TableOf::Names => &area.names,
            };
            let replaced = area.valid.load(Ordering::Acquire) != 0 && next.load(Ordering::Relaxed) != root.0;
            if replaced || self.root_word(table).load(Ordering::Acquire) != root.0 {
                return Ok(());
            }
            return Err(Error::corrupt(format_args!("the directory's span: {entry:?}")));
        }
        // All pages of a directory were obtained before it was one: whoever may write may claim any length, but memory that is
        // not there is none. So what a pass over it costs is bounded by what the segment takes.
        let bytes = 8 << root.depth();
        if bytes >= ASK_THE_KERNEL {
            let status = self.with_file(|fd| object::status(fd))?.map_err(|e| Error::system("fstat", e))?;
            if status.resident < bytes {
                let resident = status.resident;
                return Err(Error::corrupt(format_args!(
                    "a directory of {bytes} bytes in an object that takes {resident}"
                )));
            }
        }
        self.table_hints.sound_roots[table as usize].store(root.0, Ordering::Relaxed);
        Ok(())
    }

    /// Is a leaf still the one in force, and its directory? The writer lock is held.
    #[inline(always)]
    pub fn is_in_force(&self, leaf: &Leaf, table: TableOf) -> Result<bool> {
        self.is_in_force_with(leaf, table, MappedAccess)
    }

    /// Is a leaf still the one in force, and its directory?
    #[inline(always)]
    pub fn is_in_force_with(&self, leaf: &Leaf, table: TableOf, access: impl Access) -> Result<bool> {
        // SYNC: as in `Slot::unchanged`: nothing that was loaded before is of later memory than these two say.
        fence(Ordering::Acquire);
        self.still_names(leaf.root, leaf.word_at, leaf.word, table, access)
    }

    /// The same without the fence: the root first, then the directory's word, which is one only while the root is that.
    #[inline(always)]
    pub fn still_names(
        &self,
        root: Root,
        word_at: u64,
        word: LeafWord,
        table: TableOf,
        access: impl Access,
    ) -> Result<bool> {
        Ok(self.root_word(table).load(Ordering::Acquire) == root.0 && access.word(self, word_at)? == word.0)
    }

    /// What a leaf counts.
    #[inline]
    pub fn counts_of(&self, leaf: &Leaf) -> Result<LeafCounts> {
        Ok(LeafCounts::unpack(self.mem.at::<LeafHead>(leaf.base)?.counts.load(Ordering::Relaxed)))
    }

    /// Is a leaf what the span map says it is? For passes over all of them: a search looks at one.
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
