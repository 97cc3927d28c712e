//! Making a change under the writer lock: described in the intent first, then made. The protocol is "A change" in
//! `docs/protocol.md`.

use crate::error::{Error, Result};
use crate::format::{GRANULE, LeafHead, SLOT, Slot, SpanEntry, SpanState};
use crate::process::writer::Writer;
use crate::sync::intent::Change;
use crate::sync::slot::Seqlock;
use std::sync::atomic::{AtomicU64, Ordering};

impl Writer<'_> {
    /// Maps what a change touches, before it is begun.
    #[cold]
    fn map_for(&self, change: &Change) -> Result<()> {
        let geometry = &self.att.identity.geometry;
        let blocks = change.blocks[..change.block_count].iter().map(|edit| geometry.granule_at(edit.granule) + GRANULE);
        let slot = change.slot.iter().map(|(offset, _)| offset + SLOT);
        let leaf = change.leaf.iter().map(|(offset, _)| offset + SLOT);
        let words = change.words.iter().map(|words| words.offset + words.count * 8);
        blocks.chain(slot).chain(leaf).chain(words).try_for_each(|end| self.att.mem.map_up_to(end))
    }

    /// Makes a change.
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

    /// Keeps the count of what is retired. CRASH: whoever takes the lock over counts anew.
    fn count_retired(&self, change: &Change) {
        let retired = &self.att.state().retired;
        let len = |entry: SpanEntry| if entry.state() == SpanState::Retired { entry.len() } else { 0 };
        for edit in &change.spans {
            let now = retired.load(Ordering::Relaxed).saturating_add(len(edit.after)).saturating_sub(len(edit.before));
            retired.store(now, Ordering::Relaxed);
        }
    }

    /// Counts what is retired: a dead owner may have changed it and not said so.
    pub fn recount_retired(&self) -> Result<()> {
        let mut retired = 0_u64;
        for span in self.arena().spans() {
            let (_, entry) = span?;
            retired += if entry.state() == SpanState::Retired { entry.len() } else { 0 };
        }
        self.att.state().retired.store(retired, Ordering::Relaxed);
        Ok(())
    }

    /// Every store is of a stated result: twice is once.
    #[inline]
    pub fn apply(&self, change: &Change) -> Result<()> {
        let (state, counters) = (self.att.state(), &change.counters);
        // First: the entries of new zones are reached through it.
        state.zones.store(counters.zones, Ordering::Release);
        crash_point!("zones-stored");
        for edit in &change.spans {
            self.arena().apply_span(edit)?;
        }
        let blocks = &change.blocks[..change.block_count];
        for (number, edit) in blocks.iter().enumerate() {
            // Of two in one slab the last decides whether it has room.
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
            // SYNC: before the slot below, whose word is stored with release: with the last look of `get_many`.
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
                // SYNC: release, with the readers' acquire: who sees a new leaf sees what is in it.
                let word = words.word[usize::from(number >= words.count / 2)];
                self.att.mem.at::<AtomicU64>(words.offset + number * 8)?.store(word.0, Ordering::Release);
                // CRASH: a valid intent; some of the hashes are looked for in the new leaf, the others in the old one, which is
                // the same until then.
                crash_point!("word-stored");
            }
        }
        // SYNC: release, with the readers' acquire: who sees a new table sees what is in it.
        state.root.store(counters.root.0, Ordering::Release);
        crash_point!("root-stored");
        state.names.store(counters.names.0, Ordering::Release);
        crash_point!("names-stored");
        if let Some((offset, content)) = &change.slot {
            self.att.mem.at::<Slot>(*offset)?.write(content);
        }
        Ok(())
    }
}
