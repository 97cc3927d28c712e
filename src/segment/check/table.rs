//! The table: each variable once, where probing finds it, its record where the slot says.

use super::{NAMED, Named, Report, hold};
use crate::codec::buffers;
use crate::error::{Error, Result};
use crate::intent::LeafCounts;
use crate::key::{INDEX_MAX, IndexBuf, Name};
use crate::layout::{CLASSES, DEPTH_MAX, Root, Slot, SpanState, VERSION_MAX, blocks_of, granules_of};
use crate::segment::attachment::Attachment;
use crate::segment::leaf::{Leaf, TableOf};
use crate::segment::look::Mapped;
use crate::segment::table::Token;
use crate::slot::{BUSY, Content, Kind, LET_GO};
use crate::spare;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Bit 7 of a tag means nothing yet.
const TAG_UNUSED: u64 = 0b1000_0000;

/// What is counted of the variables.
#[derive(Default)]
struct Sums {
    expiring: u64,
    /// By name or index: is it a name?
    indexes: HashSet<(bool, IndexBuf)>,
}

impl Attachment {
    pub(super) fn check_tables(&self, report: &mut Report) -> Result<Named> {
        let state = self.state();
        let (mut named, mut sums) = (Named::default(), Sums::default());
        for of in [TableOf::Variables, TableOf::Names] {
            let root = self.root(of)?;
            spare::insert(&mut named.directories, root.granule(), granules_of(8 << root.depth()), NAMED)?;
            let mut number = 0;
            while number < 1 << root.depth() {
                let leaf = self.check_word(root, number, &mut named)?;
                self.check_leaf(&leaf, of, &mut named, &mut sums, report)?;
                number += leaf.words(self.directory_at(root)).1;
            }
        }
        self.check_doomed(&mut named)?;
        let (count, used) = (state.count.load(Ordering::Relaxed), state.used.load(Ordering::Relaxed));
        let limit = state.limit.load(Ordering::Relaxed);
        hold!(report.variables == count, 1, "count is {count}, there are {} variables", report.variables);
        hold!(report.used == used, 1, "used is {used}, {} bytes are charged", report.used);
        let (expires, expiring) = (state.expiring.load(Ordering::Relaxed), sums.expiring);
        hold!(expiring == expires, 1, "expiring is {expires}, {expiring} variables expire");
        hold!(used <= limit, 1, "{used} bytes are used, the limit is {limit}");
        Ok(named)
    }

    /// A word of a directory: the leaf, and all words that it serves.
    fn check_word(&self, root: Root, number: u64, named: &mut Named) -> Result<Leaf> {
        let leaf = self.leaf_number(root, number)?;
        let leaf = leaf.ok_or_else(|| Error::corrupt(format_args!("invariant 3: word {number} of a directory")))?;
        let (depth, directory) = (leaf.word.depth(), self.directory_at(root));
        hold!(depth <= root.depth(), 3, "word {number} says depth {depth}, its directory has {}", root.depth());
        let (first, count) = leaf.words(directory);
        hold!(first == number, 3, "word {number} names a leaf of depth {depth}");
        for other in first..first + count {
            let word = self.leaf_number(root, other)?.map(|leaf| leaf.word);
            hold!(word == Some(leaf.word), 3, "words {number} and {other} should name one leaf");
        }
        let (granule, size) = (leaf.word.granule(), leaf.word.size());
        let twice = spare::insert(&mut named.leaves, granule, size, NAMED)?;
        hold!(twice.is_none(), 3, "the leaf at granule {granule} is named twice");
        let entry = self.arena().entry(granule)?;
        let span = entry.state() == SpanState::Leaf && entry.len() == size;
        hold!(span, 3, "word {number} names {entry:?} at granule {granule} as a leaf of {size}");
        let present = self.arena().is_present(granule, size)?;
        hold!(present, 12, "the leaf at granule {granule} is not said to be present");
        Ok(leaf)
    }

    /// What is left of a table whose variables were all removed.
    fn check_doomed(&self, named: &mut Named) -> Result<()> {
        let (state, at) = (self.state(), self.state().doomed_at.load(Ordering::Relaxed));
        let root = Root(state.doomed.load(Ordering::Relaxed));
        if root.0 == 0 {
            return Ok(());
        }
        let fits =
            self.arena().fits(root.granule(), granules_of(8 << root.depth().min(DEPTH_MAX)), self.arena().zones());
        hold!(root.depth() <= DEPTH_MAX && fits, 3, "the doomed table is {:#x}", root.0);
        spare::insert(&mut named.directories, root.granule(), granules_of(8 << root.depth()), NAMED)?;
        let (mut number, mut slot) = (at >> 32, at & u64::from(u32::MAX));
        while number < 1 << root.depth() {
            let leaf = self.check_word(root, number, named)?;
            for slot in slot.max(1)..=leaf.slots {
                let content = self.slot_content(leaf.slot_at(slot))?;
                match content.kind() {
                    Kind::Record => self.check_block(slot, &content, named)?,
                    Kind::Span => self.check_span(slot, &content, named)?,
                    _ => {}
                }
            }
            slot = 0;
            number += leaf.words(self.directory_at(root)).1;
        }
        Ok(())
    }

    fn check_leaf(
        &self,
        leaf: &Leaf,
        of: TableOf,
        named: &mut Named,
        sums: &mut Sums,
        report: &mut Report,
    ) -> Result<()> {
        report.slots += leaf.slots;
        let last_version = self.state().version.load(Ordering::Relaxed);
        hold!(last_version < VERSION_MAX, 9, "the last version is {last_version}");
        let (mut counts, mut run) = (LeafCounts::default(), self.run_before_first(leaf)?);
        for number in 1..=leaf.slots {
            let content = self.slot_content(leaf.slot_at(number))?;
            hold!(content.word & BUSY == 0, 6, "slot {number} is busy and no change is under way");
            hold!(content.kind() != Kind::Bad, 10, "slot {number} has kind {}", content.rest[1] & 7);
            hold!((content.word == 0) == (content.kind() == Kind::Empty), 8, "slot {number}: word and kind disagree");
            if content.word == 0 {
                hold!(content.rest == [0; 3], 8, "slot {number} was never used and is not zero");
                run = 0;
                continue;
            }
            counts.fill += 1;
            let version = content.version();
            hold!((1..=last_version).contains(&version), 9, "slot {number} has version {version} of {last_version}");
            if !content.is_entry() {
                let empty = content.rest == Content::tombstone().rest;
                let left = content.rest[1] == LET_GO && of == TableOf::Names;
                hold!(empty || left, 8, "slot {number}: a tombstone that is not empty");
                let index = content.rest[0] as i64;
                let once = empty || spare::replace(&mut sums.indexes, (true, IndexBuf::Int(index)), NAMED)?.is_none();
                hold!(once, 7, "the lock {index} stands twice, let go in slot {number}");
                counts.entries += u64::from(!empty);
                report.tombstones += 1;
                run += 1;
                continue;
            }
            counts.entries += 1;
            self.check_entry(number, leaf, &content, of, named, sums, report, run)?;
            run += 1;
        }
        let says = self.counts_of(leaf)?;
        hold!(says == counts, 1, "the leaf at {} says {says:?}, it has {counts:?}", leaf.word.granule());
        Ok(())
    }

    /// A slot that holds a variable, or a lock.
    #[allow(clippy::too_many_arguments, reason = "one loop's body")]
    fn check_entry(
        &self,
        number: u64,
        leaf: &Leaf,
        content: &Content,
        of: TableOf,
        named: &mut Named,
        sums: &mut Sums,
        report: &mut Report,
        run: u64,
    ) -> Result<()> {
        let lock = content.is_lock();
        hold!(lock == (of == TableOf::Names), 10, "slot {number}: a name among variables, or a variable among names");
        hold!(!lock || content.kind() != Kind::Span, 10, "slot {number}: a lock in a span");
        report.locks += u64::from(lock);
        report.variables += u64::from(!lock);
        sums.expiring += u64::from(content.expires());
        report.used = report.used.saturating_add(content.charge());
        hold!(content.rest[1] & TAG_UNUSED == 0, 10, "slot {number} has tag {:#x}", content.rest[1] & 0xff);
        match content.kind() {
            Kind::Inline => self.check_inline(number, content)?,
            Kind::Record => self.check_block(number, content, named)?,
            _ => self.check_span(number, content, named)?,
        }
        let index = self.check_index(number, leaf, *content)?;
        let hash = Name { index: index.as_index(), lock }.hash(self.identity.hash_key);
        hold!(!content.is_text() || content.rest[0] == hash, 8, "slot {number} does not hold its index's hash");
        let serves = leaf.words(self.directory_at(leaf.root));
        let word = leaf.root.word_of(hash);
        hold!(word >= serves.0 && word - serves.0 < serves.1, 8, "slot {number}: its hash is another leaf's");
        let distance = (number + leaf.slots - leaf.home(hash)) % leaf.slots;
        hold!(distance <= run, 8, "slot {number}: an empty slot keeps index {} from being found", index.as_index());
        if let Some((_, index)) = spare::replace(&mut sums.indexes, (lock, index), NAMED)? {
            hold!(false, 7, "index {} stands twice", index.as_index());
        }
        if lock {
            self.check_lock(number, content, named)?;
        }
        Ok(())
    }

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

    fn check_inline(&self, number: u64, content: &Content) -> Result<()> {
        let flags = content.is_text() || content.expires() || content.has_buffers();
        hold!(!flags, 10, "slot {number}: inline, with a text index, an expiry or buffers");
        let len = content.rest[1] >> 8 & 0xff;
        hold!(len <= crate::layout::INLINE_MAX as u64, 10, "slot {number}: {len} bytes inline");
        Ok(())
    }

    fn check_block(&self, number: u64, content: &Content, named: &mut Named) -> Result<()> {
        let (granule, block) = (content.granule(), content.block());
        let entry = self.arena().entry(granule)?;
        hold!(entry.state() == SpanState::Slab, 2, "slot {number} names a block of {entry:?} at granule {granule}");
        let class = entry.class();
        hold!(class < CLASSES.len(), 2, "slot {number} names a slab of class {class}");
        hold!(block < blocks_of(class), 2, "slot {number} names block {block} of class {class}");
        spare::room_in_map(&mut named.blocks, NAMED)?;
        let blocks = named.blocks.entry(granule).or_default();
        let (word, bit) = (&mut blocks[(block / 64) as usize], 1 << (block % 64));
        hold!(*word & bit == 0, 2, "block {block} of granule {granule} is named twice, by slot {number}");
        *word |= bit;
        let (len, room) = (content.record_len(), u64::from(CLASSES[class]));
        hold!(len <= room, 10, "slot {number}: a record of {len} bytes in a block of {room}");
        hold!(!content.has_buffers(), 10, "slot {number}: buffers in a slab");
        hold!(content.prefix_len() <= len, 10, "slot {number}: a record of {len} bytes is shorter than its key");
        let present = self.arena().block_is_present(granule, class, block)?;
        hold!(present, 12, "slot {number}: block {block} of granule {granule} is not said to be present");
        Ok(())
    }

    fn check_span(&self, number: u64, content: &Content, named: &mut Named) -> Result<()> {
        let (granule, block) = (content.granule(), content.block());
        let entry = self.arena().entry(granule)?;
        hold!(entry.state() == SpanState::Live, 2, "slot {number} names the span at {granule}, which is {entry:?}");
        let once = spare::replace(&mut named.spans, granule, NAMED)?.is_none();
        hold!(once, 2, "the span at granule {granule} is named twice, by slot {number}");
        hold!(block == 0, 10, "slot {number}: block {block} of a span");
        let len = content.lead().saturating_add(content.record_len());
        hold!(granules_of(len) == entry.len(), 10, "slot {number}: {len} bytes in {entry:?}");
        let present = self.arena().is_present(granule, entry.len())?;
        hold!(present, 12, "slot {number}: the span at {granule} is not said to be present");
        hold!(content.prefix_len() <= content.record_len(), 10, "slot {number}: a record shorter than its key");
        if content.has_buffers() {
            self.check_buffers(number, content)?;
        }
        Ok(())
    }

    fn check_buffers(&self, number: u64, content: &Content) -> Result<()> {
        let (prefix, mut start) = (content.prefix_len(), [0; 16]);
        let total = content.record_len() - prefix;
        hold!(total >= 16, 10, "slot {number}: {total} bytes have no table of buffers");
        self.read_span(content, prefix, &mut start)?;
        let len = buffers::head_len(start).filter(|len| *len <= total).unwrap_or(0);
        let mut head = spare::zeros(len as usize, NAMED)?;
        self.read_span(content, prefix, &mut head)?;
        hold!(buffers::parse(&head, total)?.is_some(), 10, "slot {number}: the table of its buffers");
        Ok(())
    }

    fn check_lock(&self, number: u64, content: &Content, named: &mut Named) -> Result<()> {
        let lock = self.lock_of(content)?;
        hold!(lock.is_some(), 10, "slot {number}: a lock that says nothing of its owner");
        if let Some(owner) = lock.and_then(|lock| lock.owner()) {
            spare::insert(&mut named.owners, owner, number, NAMED)?;
        }
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
        let found = leaf.found(leaf.slot_at(number), content, Token::Stable);
        self.index_by(&found, Mapped)?.ok_or_else(|| Error::corrupt(format_args!("slot {number} does not stand still")))
    }

    /// The first bytes of a record.
    fn read_prefix(&self, content: &Content, to: &mut [u8]) -> Result<()> {
        if content.kind() == Kind::Span {
            return self.read_span(content, 0, to);
        }
        match crate::segment::table::record_at(self, content)? {
            Some(at) => self.mem.copy_to(at, to),
            None => Err(Error::corrupt("a record's place")),
        }
    }
}
