//! A change, described whole before it is made: whoever finds it makes it, once or twice, with the same result.

use crate::atomic::{Ordering, fence};
use crate::format::{BLOCK_EDITS, IntentArea, LeafWord, Root, SPAN_EDITS, SpanEntry, State};
use crate::sync::slot::Content;

/// One block of a slab becomes used or free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BlockEdit {
    /// The slab.
    pub granule: u64,
    /// Which block.
    pub block: u64,
    /// Used from now on.
    pub set: bool,
}

/// One span map entry changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanEdit {
    /// The head.
    pub granule: u64,
    /// Its entry now: what the bitmaps say of it ends.
    pub before: SpanEntry,
    /// Its entry afterwards.
    pub after: SpanEntry,
}

/// The counters that a change leaves, absolute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/format.md, state")]
pub struct Counters {
    pub root: Root,
    pub names: Root,
    pub zones: u64,
    pub version: u64,
    pub used: u64,
    pub count: u64,
    pub expiring: u64,
}

/// What a leaf counts, absolute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LeafCounts {
    /// Slots that are not empty.
    pub fill: u64,
    /// Those of them that hold something.
    pub entries: u64,
}

impl LeafCounts {
    /// As a leaf's head says.
    #[inline]
    pub fn unpack(word: u64) -> Self {
        LeafCounts { fill: word >> 32, entries: word & u64::from(u32::MAX) }
    }

    /// As a leaf's head says it.
    #[inline]
    pub fn pack(self) -> u64 {
        self.fill << 32 | self.entries
    }
}

/// Words of a directory that change, absolute: the first half of them to one leaf, the second to another, or the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/format.md, intent")]
pub struct Words {
    pub at: u64,
    pub count: u64,
    pub word: [LeafWord; 2],
}

/// A table whose variables were all removed, and where taking it apart goes on, absolute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Its root, or 0.
    pub root: u64,
    /// Number of the directory's word `<< 32 |` slot.
    pub at: u64,
}

/// How far a batch is, absolute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Odd while it is applied.
    pub many: u64,
    /// 0: none; `granule << 8 | 1`: the list there.
    pub batch: u64,
    /// Entries that are done.
    pub cursor: u64,
}

/// Of `counts`: they stay as they are.
const UNCHANGED: u64 = u64::MAX;
/// Of `lengths`: the change has a [`Progress`].
const MOVES_ON: u64 = 1 << 63;
/// Of `lengths`: it has [`Words`].
const HAS_WORDS: u64 = 1 << 62;
/// Of `lengths`: it has a [`Doomed`].
const HAS_DOOMED: u64 = 1 << 61;

impl Counters {
    /// As they are: the caller holds the lock.
    #[inline]
    pub fn read(state: &State) -> Self {
        Counters {
            root: Root(state.root.load(Ordering::Relaxed)),
            names: Root(state.names.load(Ordering::Relaxed)),
            zones: state.zones.load(Ordering::Relaxed),
            version: state.version.load(Ordering::Relaxed),
            used: state.used.load(Ordering::Relaxed),
            count: state.count.load(Ordering::Relaxed),
            expiring: state.expiring.load(Ordering::Relaxed),
        }
    }
}

/// One change, in private memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// File offset of the slot that changes, and what it becomes.
    pub slot: Option<(u64, Content)>,
    /// File offset of that slot's leaf, and what it counts then; `None`: as before.
    pub leaf: Option<(u64, Option<LeafCounts>)>,
    /// What the counters become.
    pub counters: Counters,
    /// The first `block_count` count.
    pub blocks: [BlockEdit; BLOCK_EDITS],
    /// At most 2.
    pub block_count: usize,
    /// At most 8.
    pub spans: Vec<SpanEdit>,
    /// Of a batch that is begun, goes on, or ends with this change.
    pub progress: Option<Progress>,
    /// Directory words.
    pub words: Option<Words>,
    /// Of a table that is taken apart.
    pub doomed: Option<Doomed>,
}

impl Change {
    /// Nothing yet: the counters stay.
    #[inline]
    pub fn new(counters: Counters) -> Self {
        // Not `Default::default()`: what it makes is copied from one place on the stack to the next.
        let blocks = [BlockEdit { granule: 0, block: 0, set: false }; BLOCK_EDITS];
        Change {
            slot: None,
            leaf: None,
            counters,
            blocks,
            block_count: 0,
            spans: Vec::new(),
            progress: None,
            words: None,
            doomed: None,
        }
    }

    /// Adds a block edit.
    #[inline]
    pub fn block(&mut self, granule: u64, block: u64, set: bool) {
        self.blocks[self.block_count] = BlockEdit { granule, block, set };
        self.block_count += 1;
    }

    /// Adds a span edit.
    pub fn span(&mut self, granule: u64, before: SpanEntry, after: SpanEntry) {
        self.spans.push(SpanEdit { granule, before, after });
    }

    /// Can it be described? From a sound span map nothing else is planned.
    #[inline]
    pub fn is_describable(&self) -> bool {
        let twice = |(i, edit): (usize, &SpanEdit)| self.spans[..i].iter().any(|other| other.granule == edit.granule);
        self.spans.len() <= SPAN_EDITS && !self.spans.iter().enumerate().any(twice)
    }

    /// Makes it the segment's intent. From here on it will happen, whoever dies. The caller holds the lock.
    #[inline]
    pub fn describe(&self, area: &IntentArea) {
        let relaxed = Ordering::Relaxed;
        // SYNC: with the acquire fence of `still`: who sees a field of this change sees the last one's mark cleared.
        fence(Ordering::Release);
        let serial = area.serial.load(relaxed).wrapping_add(1).max(1);
        area.serial.store(serial, relaxed);
        let (slot, content) = self.slot.unwrap_or_default();
        area.slot.store(slot, relaxed);
        area.content[0].store(content.word, relaxed);
        for (to, from) in area.content[1..].iter().zip(content.rest) {
            to.store(from, relaxed);
        }
        let (leaf, counts) = self.leaf.unwrap_or_default();
        area.leaf.store(leaf, relaxed);
        area.counts.store(counts.map_or(UNCHANGED, LeafCounts::pack), relaxed);
        let c = &self.counters;
        let fields = [&area.root, &area.names, &area.zones, &area.version, &area.used, &area.count, &area.expiring];
        let values = [c.root.0, c.names.0, c.zones, c.version, c.used, c.count, c.expiring];
        for (field, value) in fields.iter().zip(values) {
            field.store(value, relaxed);
        }
        let mut lengths = (self.block_count as u64) << 32 | self.spans.len() as u64;
        if let Some(progress) = &self.progress {
            lengths |= MOVES_ON;
            area.many.store(progress.many, relaxed);
            area.batch.store(progress.batch, relaxed);
            area.cursor.store(progress.cursor, relaxed);
        }
        if let Some(words) = &self.words {
            lengths |= HAS_WORDS;
            area.words_at.store(words.at, relaxed);
            area.words.store(words.count, relaxed);
            area.word[0].store(words.word[0].0, relaxed);
            area.word[1].store(words.word[1].0, relaxed);
        }
        if let Some(doomed) = &self.doomed {
            lengths |= HAS_DOOMED;
            area.doomed.store(doomed.root, relaxed);
            area.doomed_at.store(doomed.at, relaxed);
        }
        area.lengths.store(lengths, relaxed);
        for (to, edit) in area.blocks.iter().zip(&self.blocks[..self.block_count]) {
            to.store(edit.granule << 32 | u64::from(edit.set) << 31 | edit.block, relaxed);
        }
        for (to, edit) in area.spans.iter().zip(&self.spans) {
            to.granule.store(edit.granule, relaxed);
            to.before.store(edit.before.0, relaxed);
            to.after.store(edit.after.0, relaxed);
        }
        crash_point!("intent-described");
        // CRASH: before this store nothing happened; after it the change is decided.
        // SYNC: release, for whoever repairs or reads through the intent.
        area.valid.store(serial, Ordering::Release);
        // SYNC: nothing of the change itself is seen without the valid mark (arm64 would let later stores pass).
        fence(Ordering::Release);
        crash_point!("intent-valid");
    }

    /// The change under way, if there is one: copied out once, not yet believed.
    pub fn read(area: &IntentArea) -> Option<Self> {
        let relaxed = Ordering::Relaxed;
        if area.valid.load(Ordering::Acquire) == 0 {
            return None;
        }
        let lengths = area.lengths.load(relaxed);
        let block_count = ((lengths >> 32) as usize & 0xff).min(BLOCK_EDITS);
        let mut change = Change::new(Counters {
            root: Root(area.root.load(relaxed)),
            names: Root(area.names.load(relaxed)),
            zones: area.zones.load(relaxed),
            version: area.version.load(relaxed),
            used: area.used.load(relaxed),
            count: area.count.load(relaxed),
            expiring: area.expiring.load(relaxed),
        });
        change.progress = (lengths & MOVES_ON != 0).then(|| Progress {
            many: area.many.load(relaxed),
            batch: area.batch.load(relaxed),
            cursor: area.cursor.load(relaxed),
        });
        change.words = (lengths & HAS_WORDS != 0).then(|| Words {
            at: area.words_at.load(relaxed),
            count: area.words.load(relaxed),
            word: [LeafWord(area.word[0].load(relaxed)), LeafWord(area.word[1].load(relaxed))],
        });
        change.doomed = (lengths & HAS_DOOMED != 0)
            .then(|| Doomed { root: area.doomed.load(relaxed), at: area.doomed_at.load(relaxed) });
        let leaf = area.leaf.load(relaxed);
        if leaf != 0 {
            let counts = Some(area.counts.load(relaxed)).filter(|counts| *counts != UNCHANGED);
            change.leaf = Some((leaf, counts.map(LeafCounts::unpack)));
        }
        let slot = area.slot.load(relaxed);
        if slot != 0 {
            change.slot = Some((slot, Self::content(area)));
        }
        for packed in area.blocks[..block_count].iter().map(|b| b.load(relaxed)) {
            change.block(packed >> 32, packed & 0x7fff_ffff, packed >> 31 & 1 == 1);
        }
        for edit in &area.spans[..(lengths as u32 as usize).min(SPAN_EDITS)] {
            change.spans.push(SpanEdit {
                granule: edit.granule.load(relaxed),
                before: SpanEntry(edit.before.load(relaxed)),
                after: SpanEntry(edit.after.load(relaxed)),
            });
        }
        Some(change)
    }

    fn content(area: &IntentArea) -> Content {
        let word = |i: usize| area.content[i].load(Ordering::Relaxed);
        Content { word: word(0), rest: [word(1), word(2), word(3)] }
    }

    /// What the change under way makes of the slot at `offset`, with its serial: for readers that meet a busy slot.
    /// [`Change::still`] must say so before it is believed.
    pub fn pending(area: &IntentArea, offset: u64) -> Option<(u64, Content)> {
        let serial = area.valid.load(Ordering::Acquire);
        (serial != 0 && area.slot.load(Ordering::Relaxed) == offset).then(|| (serial, Self::content(area)))
    }

    /// Is the change of this serial still the one under way? Then what [`Change::pending`] gave, and the record it names,
    /// was read whole.
    pub fn still(area: &IntentArea, serial: u64) -> bool {
        // SYNC: with the release fences before the next change's description and before its record is written: a reader
        // that saw a byte of either sees here that `valid` was cleared.
        fence(Ordering::Acquire);
        area.valid.load(Ordering::Relaxed) == serial
    }

    /// The change is made.
    #[inline]
    pub fn clear(area: &IntentArea) {
        // SYNC: release: who sees no intent sees the change made.
        area.valid.store(0, Ordering::Release);
        // CRASH: the change is made, the lock is a dead owner's.
        crash_point!("intent-cleared");
    }
}
