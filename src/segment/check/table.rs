//! One leaf of a table: the directory words that name it, its counts, and each of its slots (docs/format.md, "Table",
//! "Slot"; invariants 1, 3 and 6 to 10). What a slot's record says is verified in `records`. All of it is seen in one
//! hold, so it needs no second look (docs/protocol.md, "Check", *About a leaf*).

use super::checker::Checker;
use super::invariant::{LISTS, ensure};
use super::leaf_id::{CheckedTable, DOOMED_RESTARTS, LeafId, doomed, first_remaining_slot};
use super::records::{check_index, check_inline, slot_content};
use super::references::NamingSlot;
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::slot_flags::RELEASED_LOCK;
use crate::format::{DEPTH_MAX, Root, SpanState, VERSION_MAX, granules_of};
use crate::key::{IndexBuf, Name, NameOf};
use crate::process::attachment::Attachment;
use crate::sync::intent::LeafCounts;
use crate::sync::slot::{BUSY, Content, Kind};
use crate::variables::AsVariables;
use crate::variables::leaf::{Leaf, TableOf};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// A walk over the slots of a leaf: which leaf it is, and what the slots before the present one were.
struct LeafWalk<'l> {
    leaf: &'l Leaf,
    of: TableOf,
    id: LeafId,
    /// Slots in use directly before the present one, without a gap.
    run: u64,
    /// The names and indexes so far. A leaf holds all slots of a hash: what stands twice in a table stands twice in one
    /// leaf.
    indexes: HashSet<(NameOf, IndexBuf)>,
}

impl Checker<'_> {
    /// Verifies the leaf of a hash and all that is in it. Returns the first hash of the next leaf.
    pub(super) fn check_leaf_of(&mut self, of: TableOf, hash: u64) -> Result<Option<u64>> {
        let root = self.att.variables().root(of)?;
        let leaf = self.check_word(root, root.word_of(hash), CheckedTable::Current(of))?;
        self.check_leaf(&leaf, of)?;
        Ok(leaf.end(hash))
    }

    /// Verifies a word of a directory: all words of its leaf name it, and the leaf's span is one. Returns the leaf.
    fn check_word(&mut self, root: Root, number: u64, of: CheckedTable) -> Result<Leaf> {
        let leaf = self.att.variables().leaf_of_word(root, number)?;
        let leaf = leaf
            .ok_or_else(|| Error::corrupt(format_args!("invariant 3: word {number} of a directory names no leaf")))?;
        let (depth, directory) = (leaf.word.depth(), self.att.variables().directory_at(root));
        ensure!(depth <= root.depth(), 3, "word {number} says depth {depth}, its directory has {}", root.depth());
        let (first, count) = leaf.words(directory);
        for other in first..first + count {
            let word = self.att.variables().leaf_of_word(root, other)?.map(|leaf| leaf.word);
            ensure!(word == Some(leaf.word), 3, "words {number} and {other} should name one leaf");
        }
        self.references.leaf(self.att, &leaf, LeafId::new(of, &leaf, directory))?;
        let (granule, size) = (leaf.word.granule(), leaf.word.size());
        let entry = self.att.arena().entry(granule)?;
        let span = entry.state() == SpanState::Leaf && entry.len() == size;
        ensure!(span, 3, "word {number} names {entry:?} at granule {granule} as a leaf of {size}");
        let present = self.att.arena().is_present(granule, size)?;
        ensure!(present, 12, "the leaf at granule {granule} is not said to be present");
        Ok(leaf)
    }

    /// Verifies one leaf of the doomed table, which was cleared and is being taken apart. Returns the next leaf's first
    /// word, and how often the walk has begun again because another table had become the doomed one. `None` at the end.
    pub(super) fn check_doomed(&mut self, number: u64, restarts: u32) -> Result<Option<(u64, u32)>> {
        let (root, at) = doomed(self.att);
        if root.0 == 0 || restarts > DOOMED_RESTARTS {
            return Ok(None);
        }
        let len = granules_of(8 << root.depth().min(DEPTH_MAX));
        let arena = self.att.arena();
        let fits = arena.fits(root.granule(), len, arena.zones());
        ensure!(root.depth() <= DEPTH_MAX && fits, 3, "the doomed table is {:#x}", root.0);
        let entry = arena.entry(root.granule())?;
        let directory = entry.state() == SpanState::Directory && entry.len() == len;
        ensure!(directory, 3, "the doomed table is {:#x}, its directory {entry:?}", root.0);
        if std::mem::replace(&mut self.doomed, root.0) != root.0 {
            return Ok(Some((0, restarts + 1)));
        }
        let number = number.max(at >> 32);
        if number >= 1 << root.depth() {
            return Ok(None);
        }
        let leaf = self.check_word(root, number, CheckedTable::Doomed)?;
        let id = LeafId::new(CheckedTable::Doomed, &leaf, self.att.variables().directory_at(root));
        let first = first_remaining_slot(at, number);
        for number in first..=leaf.slots {
            let (offset, content) = (leaf.slot_at(number), slot_content(self.att, leaf.slot_at(number))?);
            let by = NamingSlot { leaf: id, number, offset, content: &content };
            match content.kind() {
                Kind::Record => self.check_block(&by)?,
                Kind::Span => self.check_span(&by)?,
                _ => {}
            }
        }
        let (first, count) = leaf.words(self.att.variables().directory_at(root));
        Ok(Some((first + count, restarts)))
    }

    /// Verifies the slots of a leaf, and its counts.
    fn check_leaf(&mut self, leaf: &Leaf, of: TableOf) -> Result<()> {
        self.report.slots += leaf.slots;
        let last_version = self.att.state().version.load(Ordering::Relaxed);
        ensure!(last_version < VERSION_MAX, 9, "the last version is {last_version}");
        let mut counts = LeafCounts::default();
        let id = LeafId::new(CheckedTable::Current(of), leaf, self.att.variables().directory_at(leaf.root));
        let run = run_before_first(self.att, leaf)?;
        let mut walk = LeafWalk { leaf, of, id, run, indexes: HashSet::new() };
        for number in 1..=leaf.slots {
            let content = slot_content(self.att, leaf.slot_at(number))?;
            ensure!(content.word & BUSY == 0, 6, "slot {number} is busy and no change is under way");
            ensure!(content.kind() != Kind::Damaged, 10, "slot {number} has kind {}", content.rest[1] & 7);
            ensure!((content.word == 0) == (content.kind() == Kind::Empty), 8, "slot {number}: word and kind disagree");
            if content.word == 0 {
                ensure!(content.rest == [0; 3], 8, "slot {number} was never used and is not zero");
                walk.run = 0;
                continue;
            }
            counts.fill += 1;
            let version = content.version();
            ensure!((1..=last_version).contains(&version), 9, "slot {number} has version {version} of {last_version}");
            if !content.is_entry() {
                let empty = content.rest == Content::tombstone().rest;
                let left = content.rest[1] == RELEASED_LOCK && of == TableOf::Names;
                ensure!(empty || left, 8, "slot {number}: a tombstone that is not empty");
                if !empty {
                    self.check_released_lock(number, &content, &mut walk)?;
                }
                counts.entries += u64::from(!empty);
                self.report.tombstones += 1;
                walk.run += 1;
                continue;
            }
            counts.entries += 1;
            self.check_entry(number, &content, &mut walk)?;
            walk.run += 1;
        }
        let says = self.att.variables().counts_of(leaf)?;
        ensure!(says == counts, 1, "the leaf at {} says {says:?}, it has {counts:?}", leaf.word.granule());
        Ok(())
    }

    /// Verifies the tombstone that a lock of an integer name left when it was released.
    fn check_released_lock(&mut self, number: u64, content: &Content, walk: &mut LeafWalk<'_>) -> Result<()> {
        let index = IndexBuf::Int(content.rest[0] as i64);
        let hash = Name::of_lock(&index.as_index()).hash(self.att.identity.hash_key);
        self.check_serves(number, hash, walk.leaf)?;
        if let Some((_, index)) = fallible::replace(&mut walk.indexes, (NameOf::Lock, index), LISTS)? {
            ensure!(false, 7, "the lock {} stands twice, let go in slot {number}", index.as_index());
        }
        Ok(())
    }

    /// Verifies that a leaf is the one that serves a hash.
    fn check_serves(&self, number: u64, hash: u64, leaf: &Leaf) -> Result<()> {
        let serves = leaf.words(self.att.variables().directory_at(leaf.root));
        let word = leaf.root.word_of(hash);
        ensure!(word >= serves.0 && word - serves.0 < serves.1, 8, "slot {number}: its hash is another leaf's");
        Ok(())
    }

    /// Verifies a slot that holds a variable or a lock.
    fn check_entry(&mut self, number: u64, content: &Content, walk: &mut LeafWalk<'_>) -> Result<()> {
        let (of, leaf) = (content.name_of(), walk.leaf);
        let name = of != NameOf::Variable;
        let right = name == (walk.of == TableOf::Names);
        ensure!(right, 10, "slot {number}: a name among variables, or a variable among names");
        ensure!(of != NameOf::Lock || content.kind() != Kind::Span, 10, "slot {number}: a lock in a span");
        ensure!(of != NameOf::Queue || content.kind() == Kind::Record, 10, "slot {number}: a queue without a record");
        ensure!(of != NameOf::Lock || !content.expires(), 10, "slot {number} has tag {:#x}", content.rest[1] & 0xff);
        self.report.locks += u64::from(of == NameOf::Lock);
        self.totals.variables.add(content);
        (self.report.variables, self.report.used) = (self.totals.variables.variables, self.totals.variables.used);
        let by = NamingSlot { leaf: walk.id, number, offset: leaf.slot_at(number), content };
        match content.kind() {
            Kind::Inline => check_inline(number, content)?,
            Kind::Record => self.check_block(&by)?,
            _ => self.check_span(&by)?,
        }
        let index = check_index(self.att, number, leaf, *content)?;
        let hash = Name { index: index.as_index(), of }.hash(self.att.identity.hash_key);
        ensure!(!content.is_text() || content.rest[0] == hash, 8, "slot {number} does not hold its index's hash");
        self.check_serves(number, hash, leaf)?;
        let distance = (number + leaf.slots - leaf.home(hash)) % leaf.slots;
        ensure!(
            distance <= walk.run,
            8,
            "slot {number}: an empty slot keeps index {} from being found",
            index.as_index()
        );
        match of {
            NameOf::Variable => {}
            NameOf::Lock => self.check_lock(number, content)?,
            NameOf::Queue => self.check_queue(number, content)?,
            NameOf::Item => self.check_item(number, content, &index)?,
        }
        if let Some((_, index)) = fallible::replace(&mut walk.indexes, (of, index), LISTS)? {
            ensure!(false, 7, "index {} stands twice", index.as_index());
        }
        Ok(())
    }
}

/// How many slots at the end of a leaf are in use without a gap: probing goes on from the last slot to the first.
fn run_before_first(att: &Attachment, leaf: &Leaf) -> Result<u64> {
    for back in 0..leaf.slots {
        if slot_content(att, leaf.slot_at(leaf.slots - back))?.word == 0 {
            return Ok(back);
        }
    }
    Ok(leaf.slots)
}
