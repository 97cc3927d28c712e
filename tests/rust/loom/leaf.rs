//! A leaf or a directory is replaced beside a reader, `get_many` and iteration (docs/protocol.md, "Replacing leaves"). The
//! table is a root, two directories of one word and two leaves of three slots; slots, words, roots and the intent are the
//! crate's own. What was replaced is filled with rubbish at once.
//!
//! The writer does not load what readers load; it knows the values. loom remembers only the last access to a place, so a load
//! before a store of the same thread would hide the reader's load from that store, and some interleavings with it.

use crate::{area, bounded, counters, slot};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use loom::thread;
use shmvar::format::{IntentArea, LeafWord, Root, Slot};
use shmvar::sync::intent::{Change, DirectoryWords};
use shmvar::sync::lock_word as lock;
use shmvar::sync::slot::Seqlock;
use shmvar::sync::slot::{BUSY, Content};

/// Three variables, by index.
const X: i64 = 1;
const Y: i64 = 2;
const Z: i64 = 3;
/// A version that no variable ever has.
const RUBBISH: u64 = 99;
/// Slots of a leaf. The last one is never used: a search ends there.
const SLOTS: usize = 3;

struct World {
    root: AtomicU64,
    directories: [AtomicU64; 2],
    leaves: [[Slot; SLOTS]; 2],
    lock: AtomicU32,
    area: IntentArea,
}

/// What a reader looks at again at the end, besides the slot.
#[derive(Clone, Copy)]
struct Checks {
    root: bool,
    word: bool,
}

const ALL: Checks = Checks { root: true, word: true };

/// What named a leaf.
#[derive(Clone, Copy)]
struct Leaf {
    root: Root,
    directory: usize,
    word: LeafWord,
}

struct Found {
    leaf: Leaf,
    slot: usize,
    /// The slot's word as it was seen.
    word: u64,
    content: Content,
    /// Of the change that it was read through.
    serial: Option<u64>,
}

enum Search {
    Found(Found),
    Missing,
}

/// An inline value that says the version.
fn at(index: i64, version: u64) -> Content {
    Content::inline(index, 0, &[version as u8]).with_version(version)
}

/// The version; [`RUBBISH`], too, where word and value are not of one change.
fn version(content: &Content) -> u64 {
    if u64::from(content.inline_bytes().0[2]) == content.version() { content.version() } else { RUBBISH }
}

fn offset(leaf: usize, slot: usize) -> u64 {
    (leaf as u64 + 1) * 4_096 + slot as u64 * 32
}

impl Leaf {
    fn number(&self) -> usize {
        self.word.granule() as usize & 1
    }
}

/// The writers of the table: one after the other, under the lock.
impl World {
    /// Leaf 0 holds these.
    fn holding(contents: &[Content]) -> Arc<Self> {
        let leaf = || [slot(), slot(), slot()];
        let words = [LeafWord::new(0, 0, 1, 1).0, 0].map(AtomicU64::new);
        let root = AtomicU64::new(Root::new(0, 0, 1).0);
        let world = World { root, directories: words, leaves: [leaf(), leaf()], lock: AtomicU32::new(0), area: area() };
        for (slot, content) in world.leaves[0].iter().zip(contents) {
            slot.write(content);
        }
        Arc::new(world)
    }

    fn locked(&self, what: impl FnOnce()) {
        assert!(lock::try_acquire(&self.lock, 0));
        fence(Release);
        what();
        let _ = lock::release(&self.lock);
    }

    /// One commit.
    fn commit(&self, root: Option<Root>, words: Option<DirectoryWords>, slot: Option<(u64, Content)>) {
        let mut change = Change::new(counters(1));
        change.counters.root = root.unwrap_or(Root(0));
        (change.words, change.slot) = (words, slot);
        change.describe(&self.area);
        if let Some(words) = change.words {
            self.directories[words.offset as usize].store(words.word[0].0, Release);
        }
        // Without another root the code stores the same one again, which is none here.
        if let Some(root) = root {
            self.root.store(root.0, Release);
        }
        if let Some((at, content)) = &change.slot {
            self.leaves[*at as usize / 4_096 - 1][*at as usize % 4_096 / 32].write(content);
        }
        Change::clear(&self.area);
    }

    fn put(&self, leaf: usize, slot: usize, content: Content) {
        self.locked(|| self.commit(None, None, Some((offset(leaf, slot), content))));
    }

    /// Leaf 1 takes the place of leaf 0, with these entries of it, in another order.
    fn replace_leaf(&self, directory: u64, entries: &[Content]) {
        self.locked(|| {
            for (to, content) in self.leaves[1].iter().zip(entries) {
                for (to, from) in to.rest.iter().zip(content.rest) {
                    to.store(from, Relaxed);
                }
                to.word.store(content.word, Relaxed);
            }
            self.commit(
                None,
                Some(DirectoryWords { offset: directory, count: 1, word: [LeafWord::new(1, 0, 1, 2); 2] }),
                None,
            );
        });
    }

    /// Directory 1 takes the place of directory 0, with the same word.
    fn replace_directory(&self) {
        self.locked(|| {
            self.directories[1].store(LeafWord::new(0, 0, 1, 1).0, Relaxed);
            self.commit(Some(Root::new(1, 0, 2)), None, None);
        });
    }

    /// The memory of leaf 0 serves something else: at its first slot that looks like X, at its second one like nothing.
    fn reuse_leaf(&self) {
        self.locked(|| {
            let [first, second, _] = &self.leaves[0];
            for (to, from) in first.rest.iter().zip(at(X, RUBBISH).rest) {
                to.store(from, Relaxed);
            }
            first.word.store(at(X, RUBBISH).word, Relaxed);
            second.rest[1].store(0, Relaxed);
            second.word.store(0, Relaxed);
        });
    }

    /// The memory of directory 0 serves something else: it looks like a word that names leaf 0.
    fn reuse_directory(&self) {
        self.locked(|| self.directories[0].store(LeafWord::new(0, 0, 1, 7).0, Relaxed));
    }
}

/// A reader. `None` always means: it must try again.
impl World {
    /// R1.
    fn leaf(&self, checks: Checks) -> Option<Leaf> {
        let root = Root(self.root.load(Acquire));
        let directory = root.granule() as usize;
        let word = LeafWord(self.directories[directory].load(Acquire));
        (!checks.root || self.root.load(Relaxed) == root.0).then_some(Leaf { root, directory, word })
    }

    /// The first two looks of R4, behind its fence: the root, then the directory's word.
    fn in_force(&self, leaf: &Leaf, checks: Checks) -> bool {
        (!checks.root || self.root.load(Acquire) == leaf.root.0)
            && (!checks.word || self.directories[leaf.directory].load(Acquire) == leaf.word.0)
    }

    /// R4.
    fn still(&self, found: &Found, checks: Checks) -> bool {
        fence(Acquire);
        if !self.in_force(&found.leaf, checks) {
            return false;
        }
        let pending = found.serial.is_none_or(|serial| Change::is_current(&self.area, serial));
        self.leaves[found.leaf.number()][found.slot].word.load(Acquire) == found.word && pending
    }

    /// R2: a slot, or what the change under way makes of it.
    fn slot(&self, leaf: Leaf, slot: usize) -> Option<Found> {
        let at = &self.leaves[leaf.number()][slot];
        let word = at.begin();
        if word & BUSY == 0 {
            return Some(Found { leaf, slot, word, content: Content { word, rest: at.rest() }, serial: None });
        }
        let (serial, content) = Change::pending_slot(&self.area, offset(leaf.number(), slot))?;
        Some(Found { leaf, slot, word, content, serial: Some(serial) })
    }

    fn search(&self, index: i64, checks: Checks) -> Option<Search> {
        let leaf = self.leaf(checks)?;
        for slot in 0..SLOTS {
            let found = self.slot(leaf, slot)?;
            if found.word == 0 {
                break;
            }
            let ours = found.content.rest[0] == index as u64 && found.content.is_entry();
            if ours || found.serial.is_some() {
                if !self.still(&found, checks) {
                    return None;
                }
                if ours {
                    return Some(Search::Found(found));
                }
            }
        }
        fence(Acquire);
        self.in_force(&leaf, checks).then_some(Search::Missing)
    }

    /// The version of a variable, 0 where it is missing.
    fn get(&self, index: i64, checks: Checks) -> Option<u64> {
        Some(match self.search(index, checks)? {
            Search::Found(found) => version(&found.content),
            Search::Missing => 0,
        })
    }

    /// `sum_of_path`, of which this is all that it sums up.
    fn path(&self) -> Option<Vec<u64>> {
        let leaf = self.leaf(ALL)?;
        let mut path = vec![leaf.root.0, leaf.word.0];
        for slot in &self.leaves[leaf.number()] {
            path.push(slot.word.load(Acquire));
            if path.last() == Some(&0) {
                break;
            }
        }
        fence(Acquire);
        Some(path)
    }

    /// Versions of two variables, as `get_many` finds them: `many` is left out, for there is no batch. The first pass looks at
    /// all that there is, the second one as told.
    fn get_many(&self, indexes: [i64; 2], second: Checks) -> Option<[u64; 2]> {
        self.get_many_by(indexes, second, true)
    }

    /// The same, with or without a second look at the paths of what is missing.
    fn get_many_by(&self, indexes: [i64; 2], second: Checks, sums: bool) -> Option<[u64; 2]> {
        let mut paths = [None, None];
        let mut looked = [None, None];
        for ((looked, path), index) in looked.iter_mut().zip(&mut paths).zip(indexes) {
            let seen = self.search(index, ALL)?;
            if matches!(seen, Search::Missing) {
                *path = Some(self.path()?);
                if !matches!(self.search(index, ALL)?, Search::Missing) {
                    return None;
                }
            }
            *looked = Some(seen);
        }
        let looked = looked.map(|seen| seen.expect("looked at"));
        let same = looked.iter().zip(&paths).all(|(seen, path)| match seen {
            Search::Found(found) => self.still(found, second),
            Search::Missing => !sums || self.path() == *path,
        });
        same.then(|| {
            looked.map(|seen| match seen {
                Search::Found(found) => version(&found.content),
                Search::Missing => 0,
            })
        })
    }

    /// The same as `get_many` finds them in its usual case, in one group: both words, the root again, then both searches, whose
    /// paths are the sums of what is missing. `sums`: these are made and compared once more.
    fn get_many_in_a_group(&self, indexes: [i64; 2], sums: bool) -> Option<[u64; 2]> {
        let root = Root(self.root.load(Acquire));
        let directory = root.granule() as usize;
        let words = indexes.map(|_| LeafWord(self.directories[directory].load(Acquire)));
        if self.root.load(Acquire) != root.0 {
            return None;
        }
        // Of each: the path, the slot where it was found, and its version.
        let mut seen = [(Vec::new(), None, 0), (Vec::new(), None, 0)];
        for (((path, found, value), index), word) in seen.iter_mut().zip(indexes).zip(words) {
            for slot in &self.leaves[Leaf { root, directory, word }.number()] {
                let (at, rest) = (slot.begin(), slot.rest());
                if at & BUSY == 1 {
                    return None;
                }
                let content = Content { word: at, rest };
                if at != 0 && rest[0] == index as u64 && content.is_entry() {
                    (*found, *value) = (Some((slot, at)), version(&content));
                    break;
                }
                path.push(at);
                if at == 0 {
                    break;
                }
            }
        }
        fence(Acquire);
        if self.root.load(Acquire) != root.0 {
            return None;
        }
        for ((path, found, _), word) in seen.iter().zip(words) {
            if self.directories[directory].load(Acquire) != word.0 {
                return None;
            }
            let slots = &self.leaves[Leaf { root, directory, word }.number()];
            let same = match found {
                Some((slot, at)) => slot.word.load(Acquire) == *at,
                None => !sums || path.iter().zip(slots).all(|(at, slot)| slot.word.load(Acquire) == *at),
            };
            if !same {
                return None;
            }
        }
        (self.root.load(Relaxed) == root.0).then(|| seen.map(|(.., version)| version))
    }

    /// Indexes in a leaf: every slot, each with R4, then root and directory's word again.
    fn pass(&self, checks: Checks) -> Option<Vec<i64>> {
        let leaf = self.leaf(checks)?;
        let mut seen = Vec::new();
        for slot in 0..SLOTS {
            let found = self.slot(leaf, slot)?;
            if !self.still(&found, checks) {
                return None;
            }
            if found.content.is_entry() {
                seen.push(found.content.rest[0] as i64);
            }
        }
        fence(Acquire);
        self.in_force(&leaf, checks).then_some(seen)
    }
}

/// Leaf 0, with X of version 1 and Y of version 2, is replaced; X becomes 3 and Y 4; and leaf 0 is used for something else.
fn replaced(world: &World) {
    world.replace_leaf(0, &[at(Y, 2), at(X, 1)]);
    world.put(1, 1, at(X, 3));
    world.put(1, 0, at(Y, 4));
    world.reuse_leaf();
}

fn beside_one_who_replaces_a_leaf(preemptions: usize, reader: impl Fn(&World) + Copy + Send + Sync + 'static) {
    bounded(preemptions, move || {
        let world = World::holding(&[at(X, 1), at(Y, 2)]);
        let writer = {
            let world = world.clone();
            thread::spawn(move || replaced(&world))
        };
        reader(&world);
        writer.join().unwrap();
        assert_eq!([X, Y].map(|index| world.get(index, ALL)), [Some(3), Some(4)]);
    });
}

/// Looks twice: a variable that was there all the time is found in a state that it had, never in an older one afterwards.
fn looks_twice(world: &World, index: i64, versions: [u64; 2], checks: Checks) {
    let mut last = 0;
    for _ in 0..2 {
        if let Some(seen) = world.get(index, checks) {
            assert!(versions.contains(&seen), "no version of it: {seen}");
            assert!(seen >= last, "{last}, then {seen}");
            last = seen;
        }
    }
}

#[test]
fn a_reader_beside_one_who_replaces_a_leaf_sees_what_was_there_and_never_goes_back() {
    beside_one_who_replaces_a_leaf(2, |world| looks_twice(world, X, [1, 3], ALL));
}

#[test]
fn a_reader_beside_one_who_replaces_a_leaf_finds_nothing_missing() {
    beside_one_who_replaces_a_leaf(3, |world| looks_twice(world, Y, [2, 4], ALL));
}

#[test]
#[should_panic(expected = "no version of it")]
fn the_slot_alone_does_not_tell_that_its_leaf_was_replaced() {
    beside_one_who_replaces_a_leaf(3, |world| looks_twice(world, X, [1, 3], Checks { word: false, ..ALL }));
}

#[test]
#[should_panic(expected = "no version of it")]
fn nor_does_an_empty_slot_tell_that_a_variable_is_missing() {
    beside_one_who_replaces_a_leaf(3, |world| looks_twice(world, Y, [2, 4], Checks { word: false, ..ALL }));
}

/// Directory 0 is replaced, and used for something else; then its leaf is, too.
fn beside_one_who_replaces_a_directory(checks: Checks) {
    bounded(3, move || {
        let world = World::holding(&[at(X, 1), at(Y, 2)]);
        let writer = {
            let world = world.clone();
            thread::spawn(move || {
                world.replace_directory();
                world.replace_leaf(1, &[at(Y, 2), at(X, 1)]);
                world.put(1, 1, at(X, 3));
                world.reuse_leaf();
                world.reuse_directory();
            })
        };
        looks_twice(&world, X, [1, 3], checks);
        writer.join().unwrap();
        assert_eq!(world.get(X, ALL), Some(3));
    });
}

#[test]
fn a_reader_beside_one_who_replaces_a_directory_sees_what_was_there_and_never_goes_back() {
    beside_one_who_replaces_a_directory(ALL);
}

#[test]
#[should_panic(expected = "no version of it")]
fn the_directorys_word_alone_does_not_tell_that_the_directory_was_replaced() {
    beside_one_who_replaces_a_directory(Checks { root: false, ..ALL });
}

fn sees_each_once(world: &World, checks: Checks) {
    // A pass over a leaf that was replaced meanwhile is repeated; here at most once.
    if let Some(mut seen) = world.pass(checks).or_else(|| world.pass(checks)) {
        seen.sort_unstable();
        assert_eq!(seen, [X, Y], "not each once");
    }
}

#[test]
fn a_pass_beside_one_who_replaces_the_leaf_sees_each_variable_once() {
    beside_one_who_replaces_a_leaf(2, |world| sees_each_once(world, ALL));
}

#[test]
#[should_panic(expected = "not each once")]
fn not_without_a_look_at_the_directorys_word() {
    beside_one_who_replaces_a_leaf(2, |world| sees_each_once(world, Checks { word: false, ..ALL }));
}

/// X was 3 before Y was 4.
fn sees_a_state_that_was(world: &World, second: Checks) {
    if let Some(seen) = world.get_many([X, Y], second) {
        assert!([[1, 2], [3, 2], [3, 4]].contains(&seen), "never was: {seen:?}");
    }
}

#[test]
fn who_reads_two_variables_beside_one_who_replaces_their_leaf_sees_a_state_that_was() {
    beside_one_who_replaces_a_leaf(3, |world| sees_a_state_that_was(world, ALL));
}

#[test]
#[should_panic(expected = "never was")]
fn not_if_the_second_pass_looks_at_the_slots_alone() {
    beside_one_who_replaces_a_leaf(3, |world| sees_a_state_that_was(world, Checks { word: false, ..ALL }));
}

#[test]
fn who_reads_two_variables_in_a_group_beside_one_who_replaces_their_leaf_sees_a_state_that_was() {
    beside_one_who_replaces_a_leaf(2, |world| {
        if let Some(seen) = world.get_many_in_a_group([X, Y], true) {
            assert!([[1, 2], [3, 2], [3, 4]].contains(&seen), "never was: {seen:?}");
        }
    });
}

/// Z comes with version 5 after the leaf was replaced, and only then X becomes 6: no reader sees that X without Z.
fn beside_one_who_adds_a_variable(
    preemptions: usize,
    get_many: impl Fn(&World) -> Option<[u64; 2]> + Copy + Send + Sync + 'static,
) {
    bounded(preemptions, move || {
        let world = World::holding(&[at(X, 1)]);
        let writer = {
            let world = world.clone();
            thread::spawn(move || {
                world.replace_leaf(0, &[at(X, 1)]);
                world.put(1, 1, at(Z, 5));
                world.put(1, 0, at(X, 6));
                world.reuse_leaf();
            })
        };
        if let Some(seen) = get_many(&world) {
            assert!([[0, 1], [5, 1], [5, 6]].contains(&seen), "never was: {seen:?}");
        }
        writer.join().unwrap();
        assert_eq!([X, Z].map(|index| world.get(index, ALL)), [Some(6), Some(5)]);
    });
}

#[test]
fn a_variable_that_is_missing_to_get_many_was_missing_when_the_others_were_so() {
    beside_one_who_adds_a_variable(1, |world| world.get_many_by([Z, X], ALL, true));
}

#[test]
#[should_panic(expected = "never was")]
fn not_without_a_second_look_at_the_path_of_what_is_missing() {
    beside_one_who_adds_a_variable(1, |world| world.get_many_by([Z, X], ALL, false));
}

#[test]
fn a_variable_that_is_missing_to_a_group_was_missing_when_the_others_were_so() {
    beside_one_who_adds_a_variable(2, |world| world.get_many_in_a_group([Z, X], true));
}

#[test]
#[should_panic(expected = "never was")]
fn not_without_a_second_look_at_the_path_of_what_is_missing_to_a_group() {
    beside_one_who_adds_a_variable(2, |world| world.get_many_in_a_group([Z, X], false));
}
