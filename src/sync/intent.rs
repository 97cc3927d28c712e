//! The intent: a change that is described as a whole before it is made. Any process that finds it can make the change,
//! once or twice, with the same result.
//!
//! This file writes and reads the description. The protocol is "A change" in `docs/protocol.md`, the bytes are "Intent"
//! in `docs/format.md`. Making the change is in `process/commit.rs`, the checks of an intent that a dead process left
//! are in `process/repair_intent.rs`. All structs here are private to the process.

use crate::atomic::{Ordering, fence};
use crate::format::{BLOCK_EDITS, IntentArea, LeafWord, Root, SPAN_EDITS, SpanEntry, State};
use crate::sync::edits::UNCHANGED;
pub use crate::sync::edits::{BlockEdit, LeafCounts};
use crate::sync::slot::Content;
use crate::sync::slot_set::SlotSet;

/// Private to the process: one entry of the span map changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanEdit {
    /// The head of the span.
    pub granule: u64,
    /// Its entry before the change. The bitmaps still describe this entry.
    pub before: SpanEntry,
    /// Its entry after the change.
    pub after: SpanEntry,
}

/// Private to the process: the values of the state's roots and counters after a change. They are absolute, not
/// differences.
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

/// Private to the process: a row of directory words that change. The first half of them gets one value, the second half
/// another or the same. (When a leaf is split, each of the two new leaves gets half of the words.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryWords {
    /// File offset of the first word.
    pub offset: u64,
    /// Number of words.
    pub count: u64,
    /// The new value of the first half, and of the second half.
    pub word: [LeafWord; 2],
}

/// Private to the process: the doomed table after a change, and how far it is taken apart. A doomed table is one whose
/// variables were all removed by `clear`, and whose memory is being taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoomedTable {
    /// The root of the table, or 0 if there is none.
    pub root: u64,
    /// The place at which the work goes on: number of the directory word `<< 32 |` slot in its leaf.
    pub position: u64,
}

/// Private to the process: how far the batch is after a change. The values are absolute, not differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchProgress {
    /// Odd while a batch is applied.
    pub many: u64,
    /// 0 if no batch is applied, else `granule << 8 | 1`: the span with the list of the batch.
    pub batch: u64,
    /// Number of entries that are done.
    pub cursor: u64,
}

/// Set in [`IntentArea::lengths`] if the change has a [`BatchProgress`].
const HAS_PROGRESS: u64 = 1 << 63;
/// Set in [`IntentArea::lengths`] if the change has [`DirectoryWords`].
const HAS_WORDS: u64 = 1 << 62;
/// Set in [`IntentArea::lengths`] if the change has a [`DoomedTable`].
const HAS_DOOMED: u64 = 1 << 61;
/// Set in [`IntentArea::lengths`] if the record of the slot gets another expiry.
const HAS_EXPIRY: u64 = 1 << 60;

impl Counters {
    /// Loads the present values. The caller holds the writer lock.
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

/// Private to the process: one change. It has a field for everything that one change can touch, as [`IntentArea`] has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The slot that changes: its file offset, and its new content.
    pub slot: Option<(u64, Content)>,
    /// The leaf with that slot: its file offset, and its new counts (`None` if the counts stay as they are).
    pub leaf: Option<(u64, Option<LeafCounts>)>,
    /// The new roots and counters.
    pub counters: Counters,
    /// The block edits, of which the first `block_count` are valid.
    pub blocks: [BlockEdit; BLOCK_EDITS],
    /// Number of block edits, at most [`BLOCK_EDITS`].
    pub block_count: usize,
    /// The edits of the span map, at most [`SPAN_EDITS`].
    pub spans: Vec<SpanEdit>,
    /// The new state of a batch that begins, goes on, or ends with this change.
    pub progress: Option<BatchProgress>,
    /// The directory words that change.
    pub words: Option<DirectoryWords>,
    /// The new state of the doomed table.
    pub doomed: Option<DoomedTable>,
    /// The expiry that is stored into the record of the slot, where that record lies already: the file offset, and the
    /// expiry.
    pub expiry: Option<(u64, u64)>,
}

impl Change {
    /// Makes a change that changes nothing yet. `counters` are the present ones; the caller changes them in place.
    #[inline]
    pub fn new(counters: Counters) -> Self {
        // `Default::default()` is not used, because its result would be copied from one place on the stack to another.
        let blocks = [BlockEdit { granule: 0, block: 0, used: false }; BLOCK_EDITS];
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
            expiry: None,
        }
    }

    /// Adds an edit: this block becomes used, or free. The caller adds at most [`BLOCK_EDITS`].
    #[inline]
    pub fn edit_block(&mut self, granule: u64, block: u64, used: bool) {
        self.blocks[self.block_count] = BlockEdit { granule, block, used };
        self.block_count += 1;
    }

    /// Adds an edit: the entry of this span changes from `before` to `after`.
    pub fn edit_span(&mut self, granule: u64, before: SpanEntry, after: SpanEntry) {
        self.spans.push(SpanEdit { granule, before, after });
    }

    /// Returns `true` if the change fits into an intent. A change that was planned from a sound span map does.
    #[inline]
    pub fn is_describable(&self) -> bool {
        let is_repeated =
            |(i, edit): (usize, &SpanEdit)| self.spans[..i].iter().any(|other| other.granule == edit.granule);
        self.spans.len() <= SPAN_EDITS && !self.spans.iter().enumerate().any(is_repeated)
    }

    /// Describes the change in the intent and makes the intent valid. From then on the change is decided: it will be
    /// made, whichever process dies. The caller holds the writer lock.
    #[inline]
    pub fn describe(&self, area: &IntentArea) {
        self.describe_with(area, None);
    }

    /// Describes the change and the set that belongs to it, in the same way.
    pub fn describe_set(&self, area: &IntentArea, set: &SlotSet) {
        self.describe_with(area, Some(set));
    }

    #[inline(always)]
    fn describe_with(&self, area: &IntentArea, set: Option<&SlotSet>) {
        let relaxed = Ordering::Relaxed;
        // SYNC: release, paired with the acquire fence of `is_current`: a reader that saw a field of this change sees
        // that `valid` of the last change was cleared.
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
        let new = &self.counters;
        let fields = [&area.root, &area.names, &area.zones, &area.version, &area.used, &area.count, &area.expiring];
        let values = [new.root.0, new.names.0, new.zones, new.version, new.used, new.count, new.expiring];
        for (field, value) in fields.iter().zip(values) {
            field.store(value, relaxed);
        }
        let mut lengths = (self.block_count as u64) << 32 | self.spans.len() as u64;
        if let Some(progress) = &self.progress {
            lengths |= HAS_PROGRESS;
            area.many.store(progress.many, relaxed);
            area.batch.store(progress.batch, relaxed);
            area.cursor.store(progress.cursor, relaxed);
        }
        if let Some(words) = &self.words {
            lengths |= HAS_WORDS;
            area.words_at.store(words.offset, relaxed);
            area.words.store(words.count, relaxed);
            area.word[0].store(words.word[0].0, relaxed);
            area.word[1].store(words.word[1].0, relaxed);
        }
        if let Some(doomed) = &self.doomed {
            lengths |= HAS_DOOMED;
            area.doomed.store(doomed.root, relaxed);
            area.doomed_at.store(doomed.position, relaxed);
        }
        if let Some((offset, expiry)) = self.expiry {
            lengths |= HAS_EXPIRY;
            area.expiry_at.store(offset, relaxed);
            area.expiry.store(expiry, relaxed);
        }
        if let Some(set) = set {
            lengths |= set.describe(area);
        }
        area.lengths.store(lengths, relaxed);
        for (to, edit) in area.blocks.iter().zip(&self.blocks[..self.block_count]) {
            to.store(edit.pack(), relaxed);
        }
        for (to, edit) in area.spans.iter().zip(&self.spans) {
            to.granule.store(edit.granule, relaxed);
            to.before.store(edit.before.0, relaxed);
            to.after.store(edit.after.0, relaxed);
        }
        crash_point!("intent-described");
        // CRASH: before this store, nothing has happened. After it, the change is decided.
        // SYNC: release, paired with the acquire loads of `valid` by a process that repairs and by a reader that reads
        // through the intent.
        area.valid.store(serial, Ordering::Release);
        // SYNC: release: no store of the change itself is seen before `valid` (arm64 would let later stores pass it).
        fence(Ordering::Release);
        crash_point!("intent-valid");
    }

    /// Copies the change under way out of the intent, or returns `None` if there is none. Nothing in the copy was
    /// checked: a hostile process may have written it.
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
        change.progress = (lengths & HAS_PROGRESS != 0).then(|| BatchProgress {
            many: area.many.load(relaxed),
            batch: area.batch.load(relaxed),
            cursor: area.cursor.load(relaxed),
        });
        change.words = (lengths & HAS_WORDS != 0).then(|| DirectoryWords {
            offset: area.words_at.load(relaxed),
            count: area.words.load(relaxed),
            word: [LeafWord(area.word[0].load(relaxed)), LeafWord(area.word[1].load(relaxed))],
        });
        change.doomed = (lengths & HAS_DOOMED != 0)
            .then(|| DoomedTable { root: area.doomed.load(relaxed), position: area.doomed_at.load(relaxed) });
        change.expiry = (lengths & HAS_EXPIRY != 0).then(|| (area.expiry_at.load(relaxed), area.expiry.load(relaxed)));
        let leaf = area.leaf.load(relaxed);
        if leaf != 0 {
            let counts = Some(area.counts.load(relaxed)).filter(|counts| *counts != UNCHANGED);
            change.leaf = Some((leaf, counts.map(LeafCounts::unpack)));
        }
        let slot = area.slot.load(relaxed);
        if slot != 0 {
            change.slot = Some((slot, Self::slot_content(area)));
        }
        for packed in area.blocks[..block_count].iter().map(|b| b.load(relaxed)) {
            let edit = BlockEdit::unpack(packed);
            change.edit_block(edit.granule, edit.block, edit.used);
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

    /// Copies the content of the slot out of the intent.
    fn slot_content(area: &IntentArea) -> Content {
        let word = |i: usize| area.content[i].load(Ordering::Relaxed);
        Content { word: word(0), rest: [word(1), word(2), word(3)] }
    }

    /// Returns the content that the change under way gives to the slot at `offset`, with the serial number of the
    /// change. A reader that meets a busy slot calls this. It may use the content only if [`Change::is_current`]
    /// returns `true` afterwards.
    ///
    /// Returns `None` if no change is under way, or if the change is one of another slot.
    pub fn pending_slot(area: &IntentArea, offset: u64) -> Option<(u64, Content)> {
        let serial = area.valid.load(Ordering::Acquire);
        if serial == 0 {
            return None;
        }
        let content = match area.slot.load(Ordering::Relaxed) == offset {
            true => Self::slot_content(area),
            false => SlotSet::content_of(area, offset)?,
        };
        Some((serial, content))
    }

    /// Returns the expiry that the change under way stores into the record of its slot. A reader whose content is that of
    /// [`Change::pending_slot`] calls this: in the record, the expiry may be half stored. It may be used only if
    /// [`Change::is_current`] returns `true` afterwards.
    pub fn pending_expiry(area: &IntentArea) -> Option<u64> {
        let has_expiry = area.lengths.load(Ordering::Relaxed) & HAS_EXPIRY != 0;
        has_expiry.then(|| area.expiry.load(Ordering::Relaxed))
    }

    /// Returns `true` if the change with this serial number is still under way. Then the content that
    /// [`Change::pending_slot`] returned, and the record that it names, were read consistently.
    pub fn is_current(area: &IntentArea, serial: u64) -> bool {
        // SYNC: acquire, paired with the release fences before the next change is described and before its record is
        // written: a reader that saw a byte of either sees here that `valid` was cleared.
        fence(Ordering::Acquire);
        area.valid.load(Ordering::Relaxed) == serial
    }

    /// Marks the intent as done. The caller has made the change.
    #[inline]
    pub fn clear(area: &IntentArea) {
        // SYNC: release: a process that finds no intent sees everything that the change stored.
        area.valid.store(0, Ordering::Release);
        // CRASH: the change is made; the writer lock names a dead owner.
        crash_point!("intent-cleared");
    }
}
