//! Reading several variables as of one instant, in the usual case: each is missing, in its slot, or in a block of a
//! slab that is wholly present, and nothing changes meanwhile.
//!
//! The protocol is "Batches" in docs/protocol.md (**get_many**). Here its first pass finds the variables in groups, so
//! that the processor fetches the slots of a group, and then its records, at the same time. Everything else is left to
//! `snapshot.rs`.

use crate::fallible;
use crate::format::slot_flags::{LOCK, TEXT};
use crate::format::{LeafWord, RECORD_MAX, Root, SLOT, Slot, slab_has_all_pages};
use crate::key::{Index, Name};
use crate::process::access::MappedAccess;
use crate::sync::slot::{BUSY, Content, Kind, Seqlock};
use crate::variables::Variables;
use crate::variables::expiry::expiry_in;
use crate::variables::leaf::{TableOf, home_of, is_within};
use crate::variables::record::{place_of_record, prefetch_record};
use crate::variables::snapshot::{Snapshot, SnapshotValue, VALUES};
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// How many variables are looked at within one read section.
const GROUP: usize = 16;

/// Private to the process: what the second pass compares of one variable. The root is the same for all.
#[derive(Clone, Copy)]
struct Seen {
    /// The directory's word.
    leaf_word: LeafWord,
    /// The word of the slot; of a missing variable, the sum over the words on its probe path. Before the search, the
    /// second word of its slot.
    word: u64,
    /// The number of the directory's word.
    word_number: u32,
    /// The number of the slot. Of a missing variable, that at which the search began, with the bit [`MISSING`]. Before
    /// the search, that at which it begins.
    slot: u32,
}

impl Seen {
    const NOTHING: Self = Seen { leaf_word: LeafWord(0), word: 0, word_number: 0, slot: 0 };
}

/// Set in [`Seen::slot`] of a variable that is missing.
const MISSING: u32 = 1 << 31;

/// Adds the word of a slot to the sum over a probe path.
#[inline(always)]
fn add_to_sum(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

/// Returns the sum over the words on the probe path of a missing variable, which begins at slot `number`. `None`: no
/// slot is unused.
#[cold]
fn path_sum(slots: &[Slot], mut number: usize) -> Option<u64> {
    let mut sum = 0;
    for _ in 1..slots.len() {
        match slots.get(number)?.word.load(Ordering::Acquire) {
            0 => return Some(sum),
            word => sum = add_to_sum(sum, word),
        }
        number = if number == slots.len() - 1 { 1 } else { number + 1 };
    }
    None
}

impl Variables {
    /// Reads the values of several variables as of one instant. Returns `false` if something is not usual; then the
    /// snapshot means nothing.
    #[inline]
    pub(super) fn snapshot_fast(&self, indexes: &[Index<'_>], snapshot: &mut Snapshot<'_>) -> bool {
        let many = self.state().many.load(Ordering::Acquire);
        if !many.is_multiple_of(2) {
            return false;
        }
        let root = Root(self.state().root.load(Ordering::Acquire));
        if !root.is_same_table(self.table_hints.sound_roots[TableOf::Variables as usize].load(Ordering::Relaxed)) {
            return false;
        }
        snapshot.values.clear();
        let (mut few, mut many_seen) = ([Seen::NOTHING; GROUP], Vec::new());
        let Ok(seen) = fallible::few_or_many(&mut few, &mut many_seen, indexes.len(), Seen::NOTHING, VALUES) else {
            return false;
        };
        if fallible::reserve(&mut snapshot.values, indexes.len(), VALUES).is_err() {
            return false;
        }
        let mut groups = indexes.chunks(GROUP).zip(seen.chunks_mut(GROUP));
        let looked = groups.all(|(group, seen)| self.look_at_group(root, group, seen, snapshot).is_some());
        if !looked {
            return false;
        }
        snapshot.expire();
        if !seen.chunks(GROUP).all(|group| self.group_is_unchanged(root, group).is_some()) {
            return false;
        }
        // SYNC: as in `Variables::get_many`.
        fence(Ordering::Acquire);
        self.state().many.load(Ordering::Relaxed) == many
    }

    /// Returns the words of the directory of a root that was checked.
    #[inline(always)]
    fn words_of(&self, root: Root) -> Option<&[AtomicU64]> {
        self.mem.words(self.directory_at(root), 1 << root.depth()).ok()
    }

    /// Returns the slots of a leaf, behind its head.
    #[inline(always)]
    fn slots_of(&self, word: LeafWord) -> Option<&[Slot]> {
        self.mem.slots(self.identity.geometry.granule_at(word.granule()), word.slots() + 1).ok()
    }

    /// Makes the first pass over a group of variables. `None`: something is not usual.
    #[inline]
    fn look_at_group(
        &self,
        root: Root,
        group: &[Index<'_>],
        seen: &mut [Seen],
        snapshot: &mut Snapshot<'_>,
    ) -> Option<()> {
        let _section = self.read_section()?;
        let (words, zones) = (self.words_of(root)?, self.state().zones.load(Ordering::Relaxed));
        let hash_key = self.identity.hash_key;
        for (index, seen) in group.iter().zip(&mut *seen) {
            let name = Name::from(index);
            let hash = name.hash(hash_key);
            let number = root.word_of(hash);
            // SYNC: as in `leaf_of_word_with`.
            let leaf_word = LeafWord(words.get(number as usize)?.load(Ordering::Acquire));
            if !is_within(leaf_word, zones) {
                return None;
            }
            let home = home_of(hash, leaf_word.slots());
            // A prefetch does no harm if the word was not a directory's any more, which is seen below.
            self.mem.prefetch(self.identity.geometry.granule_at(leaf_word.granule()) + home * SLOT);
            *seen = Seen { leaf_word, word: name.index_word(hash), word_number: number as u32, slot: home as u32 };
        }
        // The root is compared before the words are followed: so they were loaded from a directory in force.
        if !root.is_same_table(self.state().root.load(Ordering::Acquire)) {
            return None;
        }
        let (start, mut record_bytes, mut records) = (snapshot.values.len(), 0, false);
        for (index, seen) in group.iter().zip(seen) {
            let content = self.search_in_group(index, seen)?;
            snapshot.values.push(match content.kind() {
                Kind::Inline => {
                    let (bytes, len) = content.inline_bytes();
                    SnapshotValue::Inline(bytes, len as u8)
                }
                Kind::Record => {
                    prefetch_record(self, &content);
                    records = true;
                    record_bytes += content.record_len().min(RECORD_MAX) as usize;
                    // The last two words of the slot, until the record is copied.
                    SnapshotValue::Small(content.rest[1] as usize, content.rest[2] as usize)
                }
                Kind::Empty => SnapshotValue::Missing,
                _ => return None,
            });
        }
        if !records {
            return Some(());
        }
        fallible::reserve(&mut snapshot.bytes, record_bytes, VALUES).ok()?;
        for (number, index) in (start..).zip(group) {
            if let SnapshotValue::Small(tag, place) = snapshot.values[number] {
                let content = Content { word: 0, rest: [0, tag as u64, place as u64] };
                self.copy_in_group(index, &content, number, snapshot)?;
            }
        }
        Some(())
    }

    /// Searches for a variable in its leaf. Returns what was found, of kind `Empty` for a missing variable, and says in
    /// `seen` what the second pass compares. `None`: something is not usual.
    #[inline(always)]
    fn search_in_group(&self, index: &Index<'_>, seen: &mut Seen) -> Option<Content> {
        let Seen { leaf_word, word: first, slot: home, .. } = *seen;
        let (slots, flags) = (self.slots_of(leaf_word)?, Name::from(index).flags());
        let (mut number, mut sum) = (home as usize, 0);
        for _ in 1..slots.len() {
            let slot = slots.get(number)?;
            let word = slot.begin();
            if word == 0 {
                // If the second pass finds the same sum, each slot on the path was the same all the time, and so was
                // what was passed over.
                (seen.word, seen.slot) = (sum, home | MISSING);
                return Some(Content { word, rest: [0; 3] });
            }
            let tag = slot.rest[1].load(Ordering::Relaxed);
            if word & BUSY == 1 {
                return None;
            }
            // A tombstone, whose kind is 1, has the second word of index 0.
            if slot.rest[0].load(Ordering::Relaxed) == first && tag & (TEXT | LOCK) == flags && tag & 7 >= 2 {
                let content = Content { word, rest: [first, tag, slot.rest[2].load(Ordering::Relaxed)] };
                (seen.word, seen.slot) = (word, number as u32);
                return Some(content);
            }
            sum = add_to_sum(sum, word);
            number = if number == slots.len() - 1 { 1 } else { number + 1 };
        }
        None
    }

    /// Copies the record of variable `number`, whose slot was found. `None`: something is not usual.
    #[inline]
    fn copy_in_group(
        &self,
        index: &Index<'_>,
        content: &Content,
        number: usize,
        snapshot: &mut Snapshot<'_>,
    ) -> Option<()> {
        let (at, class) = place_of_record(self, content, MappedAccess).ok()??;
        if !slab_has_all_pages(class) {
            return None;
        }
        let start = snapshot.bytes.len();
        self.mem.append(at, content.record_len() as usize, &mut snapshot.bytes).ok()?;
        let key_len = content.key_len() as usize;
        let (prefix, value) = snapshot.bytes[start..].split_at_checked(content.prefix_len() as usize)?;
        if content.is_text() && prefix[prefix.len() - key_len..] != *index.record_key() {
            return None;
        }
        if content.expires() {
            fallible::push(&mut snapshot.expiries, (number, expiry_in(prefix)?), VALUES).ok()?;
        }
        snapshot.values[number] = SnapshotValue::Small(start + prefix.len(), value.len());
        Some(())
    }

    /// Makes the second pass over a group. `None`: something has changed, or is not usual.
    #[inline]
    fn group_is_unchanged(&self, root: Root, group: &[Seen]) -> Option<()> {
        let _section = self.read_section()?;
        // SYNC: as in `is_unchanged_with`: these are its comparisons, in its order. The root is compared before any
        // word of its directory is looked at, and a leaf's word before any slot of the leaf.
        fence(Ordering::Acquire);
        if self.state().root.load(Ordering::Acquire) != root.0 {
            return None;
        }
        let words = self.words_of(root)?;
        for seen in group {
            if words.get(seen.word_number as usize)?.load(Ordering::Acquire) != seen.leaf_word.0 {
                return None;
            }
            let slots = self.slots_of(seen.leaf_word)?;
            let word = match seen.slot & MISSING {
                0 => slots.get(seen.slot as usize)?.word.load(Ordering::Acquire),
                _ => path_sum(slots, (seen.slot & !MISSING) as usize)?,
            };
            if word != seen.word {
                return None;
            }
        }
        // Once more: so each word was loaded from the directory in force, whatever its memory serves next. With the
        // rounds, because records are compared by their slots' words alone.
        (self.state().root.load(Ordering::Relaxed) == root.0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::AsVariables;

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn whatever_is_in_slots_and_small_blocks_or_missing_is_usual() {
        let key = crate::key::Key::text(&format!("snapshot-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        for index in 0..6_000 {
            let pickle = [b'x'; 300];
            let pickle = &pickle[..if index % 2 == 0 { 5 } else { 1 + index as usize % 300 }];
            segment.put_pickle(&Index::Int(index), &[pickle], crate::Condition::Always, &crate::Blocking).unwrap();
        }
        (0..6_000).filter(|index| index % 7 == 0).for_each(|index| assert!(segment.remove(index).unwrap()));
        let att = segment.attachment().unwrap();
        for index in -1_000..7_000 {
            let mut snapshot = Snapshot::default();
            assert!(att.variables().snapshot_fast(&[Index::Int(index)], &mut snapshot), "{index}");
            let there = (0..6_000).contains(&index) && index % 7 != 0;
            assert_eq!(matches!(snapshot.values[0], SnapshotValue::Missing), !there, "{index}");
        }
        segment.destroy().unwrap();
    }
}
