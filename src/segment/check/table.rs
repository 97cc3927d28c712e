//! The table: each variable once, where probing finds it, its record where the slot says.

use super::named::{By, Of, Place, doomed};
use super::slices::{Check, DOOMED_TURNS};
use super::{NAMED, hold};
use crate::codec::buffers;
use crate::coordination::AsCoordination;
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::slot_flags::LET_GO;
use crate::format::{CLASSES, DEPTH_MAX, Root, Slot, SpanState, VERSION_MAX, blocks_of, granules_of};
use crate::key::{INDEX_MAX, IndexBuf, Name};
use crate::process::access::MappedAccess;
use crate::process::attachment::Attachment;
use crate::segment::check::in_use;
use crate::sync::intent::LeafCounts;
use crate::sync::slot::Seqlock;
use crate::sync::slot::{BUSY, Content, Kind};
use crate::variables::AsVariables;
use crate::variables::found::ContentSource;
use crate::variables::leaf::{Leaf, TableOf};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Bit 7 of a tag means nothing yet.
const TAG_UNUSED: u64 = 0b1000_0000;

/// What is counted of the variables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub variables: u64,
    pub used: u64,
    pub expiring: u64,
}

impl Sums {
    pub fn add(&mut self, content: &Content) {
        self.variables += 1;
        self.used = self.used.saturating_add(content.charge());
        self.expiring += u64::from(content.expires());
    }
}

/// Where a slot stands, and what was met before it in its leaf.
struct Within<'l> {
    leaf: &'l Leaf,
    of: TableOf,
    place: Place,
    /// Slots in use just before it, one after the other.
    run: u64,
    /// By name or index: is it a name? A leaf holds all of a hash, so nothing stands twice in the table that does not in its leaf.
    indexes: HashSet<(bool, IndexBuf)>,
}

impl Check<'_> {
    /// The leaf of a hash, and all that is in it. The next hash.
    pub(super) fn check_leaf_of(&mut self, of: TableOf, hash: u64) -> Result<Option<u64>> {
        let root = self.att.variables().root(of)?;
        let leaf = self.check_word(root, root.word_of(hash), Of::Table(of))?;
        self.check_leaf(&leaf, of)?;
        Ok(leaf.end(hash))
    }

    /// A word of a directory: the leaf, and all words that it serves.
    fn check_word(&mut self, root: Root, number: u64, of: Of) -> Result<Leaf> {
        let leaf = self.att.variables().leaf_of_word(root, number)?;
        let leaf = leaf.ok_or_else(|| Error::corrupt(format_args!("invariant 3: word {number} of a directory")))?;
        let (depth, directory) = (leaf.word.depth(), self.att.variables().directory_at(root));
        hold!(depth <= root.depth(), 3, "word {number} says depth {depth}, its directory has {}", root.depth());
        let (first, count) = leaf.words(directory);
        for other in first..first + count {
            let word = self.att.variables().leaf_of_word(root, other)?.map(|leaf| leaf.word);
            hold!(word == Some(leaf.word), 3, "words {number} and {other} should name one leaf");
        }
        self.named.leaf(self.att, &leaf, Place::new(of, &leaf, directory))?;
        let (granule, size) = (leaf.word.granule(), leaf.word.size());
        let entry = self.att.arena().entry(granule)?;
        let span = entry.state() == SpanState::Leaf && entry.len() == size;
        hold!(span, 3, "word {number} names {entry:?} at granule {granule} as a leaf of {size}");
        let present = self.att.arena().is_present(granule, size)?;
        hold!(present, 12, "the leaf at granule {granule} is not said to be present");
        Ok(leaf)
    }

    /// A leaf of what is left of a table whose variables were all removed. The next word, and how often the table was another one.
    pub(super) fn check_doomed(&mut self, number: u64, turns: u32) -> Result<Option<(u64, u32)>> {
        let (root, at) = doomed(self.att);
        if root.0 == 0 || turns > DOOMED_TURNS {
            return Ok(None);
        }
        let len = granules_of(8 << root.depth().min(DEPTH_MAX));
        let arena = self.att.arena();
        let fits = arena.fits(root.granule(), len, arena.zones());
        hold!(root.depth() <= DEPTH_MAX && fits, 3, "the doomed table is {:#x}", root.0);
        let entry = arena.entry(root.granule())?;
        let directory = entry.state() == SpanState::Directory && entry.len() == len;
        hold!(directory, 3, "the doomed table is {:#x}, its directory {entry:?}", root.0);
        if std::mem::replace(&mut self.doomed, root.0) != root.0 {
            return Ok(Some((0, turns + 1)));
        }
        let number = number.max(at >> 32);
        if number >= 1 << root.depth() {
            return Ok(None);
        }
        let leaf = self.check_word(root, number, Of::Doomed)?;
        let place = Place::new(Of::Doomed, &leaf, self.att.variables().directory_at(root));
        let first = if number == at >> 32 { (at & u64::from(u32::MAX)).max(1) } else { 1 };
        for number in first..=leaf.slots {
            let (offset, content) = (leaf.slot_at(number), self.att.slot_content(leaf.slot_at(number))?);
            let by = By { place, number, offset, content: &content };
            match content.kind() {
                Kind::Record => self.check_block(&by)?,
                Kind::Span => self.check_span(&by)?,
                _ => {}
            }
        }
        let (first, count) = leaf.words(self.att.variables().directory_at(root));
        Ok(Some((first + count, turns)))
    }

    fn check_leaf(&mut self, leaf: &Leaf, of: TableOf) -> Result<()> {
        self.report.slots += leaf.slots;
        let last_version = self.att.state().version.load(Ordering::Relaxed);
        hold!(last_version < VERSION_MAX, 9, "the last version is {last_version}");
        let mut counts = LeafCounts::default();
        let place = Place::new(Of::Table(of), leaf, self.att.variables().directory_at(leaf.root));
        let run = self.att.run_before_first(leaf)?;
        let mut within = Within { leaf, of, place, run, indexes: HashSet::new() };
        for number in 1..=leaf.slots {
            let content = self.att.slot_content(leaf.slot_at(number))?;
            hold!(content.word & BUSY == 0, 6, "slot {number} is busy and no change is under way");
            hold!(content.kind() != Kind::Bad, 10, "slot {number} has kind {}", content.rest[1] & 7);
            hold!((content.word == 0) == (content.kind() == Kind::Empty), 8, "slot {number}: word and kind disagree");
            if content.word == 0 {
                hold!(content.rest == [0; 3], 8, "slot {number} was never used and is not zero");
                within.run = 0;
                continue;
            }
            counts.fill += 1;
            let version = content.version();
            hold!((1..=last_version).contains(&version), 9, "slot {number} has version {version} of {last_version}");
            if !content.is_entry() {
                let empty = content.rest == Content::tombstone().rest;
                let left = content.rest[1] == LET_GO && of == TableOf::Names;
                hold!(empty || left, 8, "slot {number}: a tombstone that is not empty");
                if !empty {
                    self.check_let_go(number, &content, &mut within)?;
                }
                counts.entries += u64::from(!empty);
                self.report.tombstones += 1;
                within.run += 1;
                continue;
            }
            counts.entries += 1;
            self.check_entry(number, &content, &mut within)?;
            within.run += 1;
        }
        let says = self.att.variables().counts_of(leaf)?;
        hold!(says == counts, 1, "the leaf at {} says {says:?}, it has {counts:?}", leaf.word.granule());
        Ok(())
    }

    /// What a lock of an integer name left.
    fn check_let_go(&mut self, number: u64, content: &Content, within: &mut Within<'_>) -> Result<()> {
        let index = IndexBuf::Int(content.rest[0] as i64);
        let hash = Name { index: index.as_index(), lock: true }.hash(self.att.identity.hash_key);
        self.check_serves(number, hash, within.leaf)?;
        if let Some((_, index)) = fallible::replace(&mut within.indexes, (true, index), NAMED)? {
            hold!(false, 7, "the lock {} stands twice, let go in slot {number}", index.as_index());
        }
        Ok(())
    }

    fn check_serves(&self, number: u64, hash: u64, leaf: &Leaf) -> Result<()> {
        let serves = leaf.words(self.att.variables().directory_at(leaf.root));
        let word = leaf.root.word_of(hash);
        hold!(word >= serves.0 && word - serves.0 < serves.1, 8, "slot {number}: its hash is another leaf's");
        Ok(())
    }

    /// A slot that holds a variable, or a lock.
    fn check_entry(&mut self, number: u64, content: &Content, within: &mut Within<'_>) -> Result<()> {
        let (lock, leaf) = (content.is_lock(), within.leaf);
        let right = lock == (within.of == TableOf::Names);
        hold!(right, 10, "slot {number}: a name among variables, or a variable among names");
        hold!(!lock || content.kind() != Kind::Span, 10, "slot {number}: a lock in a span");
        if lock {
            self.report.locks += 1;
        } else {
            self.sums.add(content);
            (self.report.variables, self.report.used) = (self.sums.variables, self.sums.used);
        }
        hold!(content.rest[1] & TAG_UNUSED == 0, 10, "slot {number} has tag {:#x}", content.rest[1] & 0xff);
        let by = By { place: within.place, number, offset: leaf.slot_at(number), content };
        match content.kind() {
            Kind::Inline => check_inline(number, content)?,
            Kind::Record => self.check_block(&by)?,
            _ => self.check_span(&by)?,
        }
        let index = self.att.check_index(number, leaf, *content)?;
        let hash = Name { index: index.as_index(), lock }.hash(self.att.identity.hash_key);
        hold!(!content.is_text() || content.rest[0] == hash, 8, "slot {number} does not hold its index's hash");
        self.check_serves(number, hash, leaf)?;
        let distance = (number + leaf.slots - leaf.home(hash)) % leaf.slots;
        hold!(
            distance <= within.run,
            8,
            "slot {number}: an empty slot keeps index {} from being found",
            index.as_index()
        );
        if let Some((_, index)) = fallible::replace(&mut within.indexes, (lock, index), NAMED)? {
            hold!(false, 7, "index {} stands twice", index.as_index());
        }
        if lock {
            self.check_lock(number, content)?;
        }
        Ok(())
    }

    fn check_block(&mut self, by: &By<'_>) -> Result<()> {
        let (number, content, arena) = (by.number, by.content, self.att.arena());
        let (granule, block) = (content.granule(), content.block());
        let entry = arena.entry(granule)?;
        hold!(entry.state() == SpanState::Slab, 2, "slot {number} names a block of {entry:?} at granule {granule}");
        let class = entry.class();
        hold!(class < CLASSES.len(), 2, "slot {number} names a slab of class {class}");
        hold!(block < blocks_of(class), 2, "slot {number} names block {block} of class {class}");
        self.named.block(self.att, by, class)?;
        let set = arena.block_used(granule, block)?;
        hold!(set, 2, "block {block} of granule {granule}: in use false, named true");
        let (len, room) = (content.record_len(), u64::from(CLASSES[class]));
        hold!(len <= room, 10, "slot {number}: a record of {len} bytes in a block of {room}");
        hold!(!content.has_buffers(), 10, "slot {number}: buffers in a slab");
        hold!(content.prefix_len() <= len, 10, "slot {number}: a record of {len} bytes is shorter than its key");
        let present = arena.block_is_present(granule, class, block)?;
        hold!(present, 12, "slot {number}: block {block} of granule {granule} is not said to be present");
        Ok(())
    }

    fn check_span(&mut self, by: &By<'_>) -> Result<()> {
        let (number, content, arena) = (by.number, by.content, self.att.arena());
        let (granule, block) = (content.granule(), content.block());
        let entry = arena.entry(granule)?;
        hold!(entry.state() == SpanState::Live, 2, "slot {number} names the span at {granule}, which is {entry:?}");
        self.named.span(self.att, by)?;
        hold!(block == 0, 10, "slot {number}: block {block} of a span");
        let len = content.lead().saturating_add(content.record_len());
        hold!(granules_of(len) == entry.len(), 10, "slot {number}: {len} bytes in {entry:?}");
        let present = arena.is_present(granule, entry.len())?;
        hold!(present, 12, "slot {number}: the span at {granule} is not said to be present");
        hold!(content.prefix_len() <= content.record_len(), 10, "slot {number}: a record shorter than its key");
        if content.has_buffers() {
            self.att.check_buffers(number, content)?;
        }
        Ok(())
    }

    fn check_lock(&self, number: u64, content: &Content) -> Result<()> {
        let lock = self.att.coordination().lock_state_of(content)?;
        hold!(lock.is_some(), 10, "slot {number}: a lock that says nothing of its owner");
        if let Some(holder) = lock.and_then(|lock| lock.owner()) {
            let holds = in_use(self.live, holder).is_some_and(|record| record.locks.load(Ordering::Relaxed) == 1);
            hold!(holds, 14, "slot {number}: the lock is participant {holder}'s, who says he has taken none");
        }
        Ok(())
    }
}

fn check_inline(number: u64, content: &Content) -> Result<()> {
    let flags = content.is_text() || content.expires() || content.has_buffers();
    hold!(!flags, 10, "slot {number}: inline, with a text index, an expiry or buffers");
    let len = content.rest[1] >> 8 & 0xff;
    hold!(len <= crate::format::INLINE_MAX as u64, 10, "slot {number}: {len} bytes inline");
    Ok(())
}

impl Attachment {
    fn slot_content(&self, offset: u64) -> Result<Content> {
        let slot = self.mem.at::<Slot>(offset)?;
        Ok(Content { word: slot.begin(), rest: slot.rest() })
    }

    /// Probing goes round: slots in use at the end of the leaf, one after the other up to its last.
    fn run_before_first(&self, leaf: &Leaf) -> Result<u64> {
        for back in 0..leaf.slots {
            if self.slot_content(leaf.slot_at(leaf.slots - back))?.word == 0 {
                return Ok(back);
            }
        }
        Ok(leaf.slots)
    }

    fn check_buffers(&self, number: u64, content: &Content) -> Result<()> {
        let (prefix, mut start) = (content.prefix_len(), [0; 16]);
        let total = content.record_len() - prefix;
        hold!(total >= 16, 10, "slot {number}: {total} bytes have no table of buffers");
        self.variables().read_span(content, prefix, &mut start)?;
        let len = buffers::head_len(start).filter(|len| *len <= total).unwrap_or(0);
        let mut head = fallible::zeros(len as usize, NAMED)?;
        self.variables().read_span(content, prefix, &mut head)?;
        hold!(buffers::parse(&head, total)?.is_some(), 10, "slot {number}: the table of its buffers");
        Ok(())
    }

    fn check_index(&self, number: u64, leaf: &Leaf, content: Content) -> Result<IndexBuf> {
        let len = content.key_len();
        let inline = content.kind() == Kind::Inline;
        hold!(inline || content.is_text() || len == 0, 10, "slot {number}: an integer index with a key of {len} bytes");
        hold!(inline || len <= INDEX_MAX as u64, 10, "slot {number}: a text index of {len} bytes");
        if content.expires() && !inline {
            let mut expiry = [0; 8];
            self.read_prefix(&content, &mut expiry)?;
            let expiry = u64::from_ne_bytes(expiry);
            hold!((1..1 << 63).contains(&expiry), 10, "slot {number} expires at {expiry}");
        }
        let found = leaf.found(leaf.slot_at(number), content, ContentSource::Slot);
        self.variables()
            .index_with(&found, MappedAccess)?
            .ok_or_else(|| Error::corrupt(format_args!("slot {number} does not stand still")))
    }

    /// The first bytes of a record.
    fn read_prefix(&self, content: &Content, to: &mut [u8]) -> Result<()> {
        if content.kind() == Kind::Span {
            return self.variables().read_span(content, 0, to);
        }
        match crate::variables::record::record_at(self.variables(), content)? {
            Some(at) => self.mem.copy_to(at, to),
            None => Err(Error::corrupt("a record's place")),
        }
    }
}
