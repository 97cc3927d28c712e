//! Making a change under the writer lock. The change is described in the intent first, and then applied. What is
//! stored, and in which order, is the protocol "A change" in `docs/protocol.md`. Applying the intent of a dead owner
//! stands in `repair_intent.rs`.

use crate::error::{Error, Result};
use crate::format::{GRANULE, LeafHead, SLOT, Slot, SpanEntry, SpanState};
use crate::process::writer::Writer;
use crate::sync::intent::Change;
use crate::sync::slot::Seqlock;
use crate::sync::slot_set::SlotSet;
use std::sync::atomic::{AtomicU64, Ordering, fence};

impl Writer<'_> {
    /// Maps what a change touches, before the change begins.
    #[cold]
    fn map_for(&self, change: &Change) -> Result<()> {
        let geometry = &self.att.identity.geometry;
        let blocks = change.blocks[..change.block_count].iter().map(|edit| geometry.granule_at(edit.granule) + GRANULE);
        let slot = change.slot.iter().map(|(offset, _)| offset + SLOT);
        let leaf = change.leaf.iter().map(|(offset, _)| offset + SLOT);
        let words = change.words.iter().map(|words| words.offset + words.count * 8);
        let expiry = change.expiry.iter().map(|(offset, _)| offset + 8);
        blocks.chain(slot).chain(leaf).chain(words).chain(expiry).try_for_each(|end| self.att.mem.map_up_to(end))
    }

    /// Makes a change: describes it in the intent, applies it, and clears the intent.
    ///
    /// An error before the description means that nothing has changed. (An edit that no sound segment needs is such an
    /// error.)
    #[inline]
    pub fn commit(&mut self, change: &Change) -> Result<()> {
        let zones = change.counters.zones.max(self.arena().zones());
        let sound = |edit| self.arena().edit_is_sound(edit, zones);
        if !change.is_describable() || !change.spans.iter().all(sound) {
            return Err(Error::corrupt(format_args!("the span map: {:?}", change.spans)));
        }
        if !self.mapped {
            self.map_for(change)?;
        }
        let area = self.att.mem.intent();
        change.describe(area);
        let applied = self.apply(change);
        Change::clear(area);
        if !change.spans.is_empty() {
            self.count_retired(change);
        }
        applied
    }

    /// Makes a change that is a set of slots. It has no slot of its own, and only a set of names has span edits.
    ///
    /// An error before the description means that nothing has changed.
    pub fn commit_set(&mut self, change: &Change, set: &SlotSet) -> Result<()> {
        debug_assert!(change.slot.is_none() && change.progress.is_none());
        debug_assert!(change.spans.is_empty() || set.is_of_names());
        let sound = |edit| self.arena().edit_is_sound(edit, change.counters.zones);
        if !change.is_describable() || !change.spans.iter().all(sound) {
            return Err(Error::corrupt(format_args!("the span map: {:?}", change.spans)));
        }
        if !self.mapped {
            self.att.map_zones()?;
        }
        let area = self.att.mem.intent();
        change.describe_set(area, set);
        let applied = self.apply_set(change, set);
        if applied.is_err() {
            self.make_many_even();
        }
        Change::clear(area);
        if !change.spans.is_empty() {
            self.count_retired(change);
        }
        applied
    }

    /// Makes `many` even after a set that could not be made to its end, because somebody has damaged what it names:
    /// else each `get_many` would wait for the rest of it. The intent is cleared after that.
    /// CRASH: between the two, the set is still described, and whoever repairs fails in the same place and comes here.
    pub fn make_many_even(&self) {
        let state = self.att.state();
        let many = state.many.load(Ordering::Relaxed);
        if !many.is_multiple_of(2) && state.batch.load(Ordering::Relaxed) == 0 {
            // SYNC: release, with the acquire load with which `get_many` begins.
            state.many.store(many.wrapping_add(1), Ordering::Release);
        }
    }

    /// Makes every store of a change that is a set. As in [`Writer::apply`], applying it twice is applying it once.
    pub fn apply_set(&self, change: &Change, set: &SlotSet) -> Result<()> {
        self.apply_again(change)?;
        let mut blocks = set.blocks().peekable();
        while let Some(edit) = blocks.next() {
            let last = blocks.peek().is_none_or(|next| next.granule != edit.granule);
            self.arena().apply_block(edit.granule, edit.block, edit.used, last)?;
        }
        // SYNC: as in `apply`: a `get_many` that sees one of the slots finds at its last look that `many` has changed.
        let many = &self.att.state().many;
        if set.is_of_names() {
            self.att.state().queued.store(set.queued, Ordering::Relaxed);
        } else {
            many.store(set.many, Ordering::Relaxed);
        }
        // SYNC: release fence, paired with the acquire fence of `get_many`: who saw a slot of the set busy, and read
        // its new contents in the intent, sees this number. (A release store would not order the busy word behind it.)
        fence(Ordering::Release);
        crash_point!("set-begun");
        for slot in set.slots() {
            if let Some(counts) = slot.counts() {
                self.att.mem.at::<LeafHead>(slot.leaf)?.counts.store(counts.pack(), Ordering::Relaxed);
                crash_point!("counts-stored");
            }
            self.att.mem.at::<Slot>(slot.offset)?.write(&slot.content);
        }
        // SYNC: release: a `get_many` that finds this number sees all of the slots.
        if !set.is_of_names() {
            many.store(set.many.wrapping_add(1), Ordering::Release);
        }
        crash_point!("set-made");
        Ok(())
    }

    /// Adds to the count of retired granules what a change has retired, and subtracts what it has freed.
    /// CRASH: the count is wrong until the process that takes the lock over has counted anew.
    fn count_retired(&self, change: &Change) {
        let retired = &self.att.state().retired;
        let len = |entry: SpanEntry| if entry.state() == SpanState::Retired { entry.len() } else { 0 };
        for edit in &change.spans {
            let before = retired.load(Ordering::Relaxed);
            let now = before.saturating_add(len(edit.after)).saturating_sub(len(edit.before));
            // Readers load the clock of the stamps from the same line.
            if now != before {
                retired.store(now, Ordering::Relaxed);
            }
        }
    }

    /// Counts the retired granules anew: a dead owner of the lock may have made a change and not counted it.
    pub fn recount_retired(&self) -> Result<()> {
        let mut retired = 0_u64;
        for span in self.arena().spans() {
            let (_, entry) = span?;
            retired += if entry.state() == SpanState::Retired { entry.len() } else { 0 };
        }
        self.att.state().retired.store(retired, Ordering::Relaxed);
        Ok(())
    }

    /// Makes every store of a change, for callers that are not in a hurry.
    #[inline(never)]
    pub fn apply_again(&self, change: &Change) -> Result<()> {
        self.apply(change)
    }

    /// Makes every store of a change. Each store is of a stated result, so applying a change twice is applying it once.
    #[inline(always)]
    fn apply(&self, change: &Change) -> Result<()> {
        let (state, counters) = (self.att.state(), &change.counters);
        // `zones` comes first: the entries of new zones are reached through it.
        state.zones.store(counters.zones, Ordering::Release);
        crash_point!("zones-stored");
        for edit in &change.spans {
            self.arena().apply_span(edit)?;
        }
        let blocks = &change.blocks[..change.block_count];
        for (number, edit) in blocks.iter().enumerate() {
            // Of two edits in one slab, only after the last one is it known whether the slab has a free block.
            let last = blocks.get(number + 1).is_none_or(|next| next.granule != edit.granule);
            self.arena().apply_block(edit.granule, edit.block, edit.used, last)?;
        }
        if let Some((leaf, Some(counts))) = &change.leaf {
            self.att.mem.at::<LeafHead>(*leaf)?.counts.store(counts.pack(), Ordering::Relaxed);
            crash_point!("counts-stored");
        }
        state.version.store(counters.version, Ordering::Relaxed);
        crash_point!("version-stored");
        state.used.store(counters.used, Ordering::Relaxed);
        crash_point!("used-stored");
        state.count.store(counters.count, Ordering::Relaxed);
        crash_point!("count-stored");
        state.expiring.store(counters.expiring, Ordering::Relaxed);
        crash_point!("expiring-stored");
        if let Some(progress) = &change.progress {
            state.batch.store(progress.batch, Ordering::Relaxed);
            crash_point!("batch-stored");
            state.cursor.store(progress.cursor, Ordering::Relaxed);
            crash_point!("cursor-stored");
            // SYNC: this store comes before that of the slot below, whose word is stored with release. A `get_many`
            // that sees the new slot finds at its last look that `many` has changed.
            state.many.store(progress.many, Ordering::Release);
            crash_point!("many-stored");
        }
        if let Some(doomed) = &change.doomed {
            state.doomed.store(doomed.root, Ordering::Relaxed);
            crash_point!("doomed-stored");
            state.doomed_at.store(doomed.position, Ordering::Relaxed);
            crash_point!("doomed-at-stored");
        }
        if let Some(words) = &change.words {
            for number in 0..words.count {
                // SYNC: release, with the readers' acquire: a reader that finds a new leaf sees its contents.
                let word = words.word[usize::from(number >= words.count / 2)];
                self.att.mem.at::<AtomicU64>(words.offset + number * 8)?.store(word.0, Ordering::Release);
                // CRASH: a valid intent. Some hashes are looked up in the new leaf, the others in the old one, which
                // has the same contents until the repair.
                crash_point!("word-stored");
            }
        }
        // SYNC: release, with the readers' acquire: a reader that finds a new table sees its contents.
        state.root.store(counters.root.0, Ordering::Release);
        crash_point!("root-stored");
        state.names.store(counters.names.0, Ordering::Release);
        crash_point!("names-stored");
        if let Some((offset, content)) = &change.slot {
            // SYNC: release, with the acquire load of the slot's word: a reader that sees the slot busy and reads the
            // new contents in the intent finds the span that they name in the span map.
            fence(Ordering::Release);
            let slot = self.att.mem.at::<Slot>(*offset)?;
            match change.expiry {
                None => slot.write(content),
                Some((at, expiry)) => {
                    let mut stored = Ok(());
                    // SYNC: the slot is busy meanwhile: who has copied the record with half of the expiry finds that
                    // the slot has changed. Who reads the slot through the intent takes the expiry from there, too.
                    slot.write_with(content, || {
                        stored = self.att.mem.copy_in(at, &[&expiry.to_ne_bytes()]);
                        crash_point!("expiry-stored");
                    });
                    stored?;
                }
            }
        }
        Ok(())
    }
}
