//! Making a batch that has begun, to its end: by its writer, or by the process that acquires the lock next.
//!
//! The protocol is "Batches" in docs/protocol.md, steps 3 to 5. What has to be there before is obtained in `batch.rs`.

use crate::error::{Error, Result};
use crate::format::{GRANULE, RECORD_MAX, SpanState, class_of, granules_of};
use crate::key::{Index, Name};
use crate::os::mem::Scratch;
use crate::sync::intent::BatchProgress;
use crate::sync::slot::{Content, Kind};
use crate::variables::batch_list::{BatchEntry, BatchReader};
use crate::variables::place::Spot;
use crate::variables::record::record_at;
use crate::variables::{AsVariables, VariablesWriter};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// The low byte of the state's word `batch`: the list is in the span at granule `batch >> 8`.
pub(super) const LIST: u64 = 1;
/// How many slots a batch may look at for each of its entries: those of a leaf. Only a table that no writer would have
/// left needs more.
pub(super) const PROBES_PER_ENTRY: u64 = 2_048;
/// How many slots a batch may look at besides, so that one long search does not end it.
pub(super) const PROBES_AT_FIRST: u64 = 4_096;

impl VariablesWriter<'_> {
    /// Commits the beginning of a batch. From here on the batch will be made, whichever process dies.
    pub(super) fn begin_batch(&mut self, batch: u64) -> Result<()> {
        let mut change = self.change();
        let many = self.att.state().many.load(Ordering::Relaxed) | 1;
        change.progress = Some(BatchProgress { many, batch, cursor: 0 });
        self.commit(&change)?;
        crash_point!("batch-begun");
        Ok(())
    }

    /// Returns how far the batch is.
    fn progress(&self) -> BatchProgress {
        let state = self.att.state();
        BatchProgress {
            many: state.many.load(Ordering::Relaxed),
            batch: state.batch.load(Ordering::Relaxed),
            cursor: state.cursor.load(Ordering::Relaxed),
        }
    }

    /// Makes the rest of a batch that a dead writer began. This comes after the intent was repaired and before any
    /// participant is reaped.
    #[cold]
    pub fn finish_batch(&mut self) -> Result<()> {
        let outcome = self.apply_rest_of_list();
        self.att.after_release.due.store(true, Ordering::Relaxed);
        self.drop_if_corrupt(outcome)
    }

    /// Ends a batch whose contents no process that keeps to the protocol could have written, so that the next call can
    /// go on. Returns the outcome. After any other error, which is this process's own, the batch is left to the next
    /// process.
    pub(super) fn drop_if_corrupt(&mut self, outcome: Result<()>) -> Result<()> {
        if matches!(outcome, Err(Error::Corrupt(_))) && self.progress().batch != 0 {
            self.end_batch(false)?;
        }
        outcome
    }

    /// Makes the entries of a list that another process left.
    fn apply_rest_of_list(&mut self) -> Result<()> {
        let damaged = || Error::corrupt("the list of the batch under way");
        let BatchProgress { batch, cursor, .. } = self.progress();
        let granule = batch >> 8;
        let span = self.arena().entry(granule)?;
        let fits = self.arena().fits(granule, span.len(), self.arena().zones());
        if batch & 0xff != LIST || span.state() != SpanState::Filling || !fits {
            return Err(damaged());
        }
        let att = self.att;
        let most = GRANULE * span.len();
        let mut reader = BatchReader::new(most, move |at, to: &mut [u8]| att.variables().read_arena(granule, at, to))?
            .ok_or_else(damaged)?;
        for _ in 0..cursor {
            reader.next()?.ok_or_else(damaged)?;
        }
        let mut scratch = Scratch::new();
        scratch.reserve(RECORD_MAX as usize)?;
        self.apply_entries(&mut scratch, &mut reader)
    }

    /// Makes the entries that are not made yet, and ends the batch.
    pub(super) fn apply_entries<F: Fn(u64, &mut [u8]) -> Result<()>>(
        &mut self,
        scratch: &mut Scratch,
        rest: &mut BatchReader<F>,
    ) -> Result<()> {
        let (mut emptied, mut probes_left) = (HashSet::new(), PROBES_AT_FIRST);
        while let Some(entry) = rest.next()? {
            let cursor = self.progress().cursor.saturating_add(1);
            probes_left += PROBES_PER_ENTRY;
            if let Some(old) =
                self.apply_entry(&entry, cursor, scratch, &mut probes_left)?.filter(|old| old.kind() == Kind::Record)
            {
                // If there is no memory to remember the slab, it stays empty: it is used again, or `trim` frees it.
                if emptied.try_reserve(1).is_ok() {
                    emptied.insert(old.granule());
                }
            }
            crash_point!("batch-step");
        }
        self.end_batch(true)?;
        // Empty slabs go only now: their blocks had been counted on when the batch began.
        for granule in emptied {
            let _ = self.free_slab_if_spare(granule);
        }
        Ok(())
    }

    /// Makes one entry, and takes the slots that it looked at from `probes_left`. Returns what the entry replaced.
    fn apply_entry(
        &mut self,
        entry: &BatchEntry<'_>,
        cursor: u64,
        scratch: &mut Scratch,
        probes_left: &mut u64,
    ) -> Result<Option<Content>> {
        let content = entry.content;
        let index = match content.is_text() {
            false => Index::Int(content.rest[0] as i64),
            true => Index::Text(std::str::from_utf8(entry.key()).map_err(|_| Error::corrupt("an index of the batch"))?),
        };
        let name = Name::from(&index);
        let place = self.find_place_within(&name, name.hash(self.att.identity.hash_key), scratch, probes_left)?;
        let old = place.occupant().copied();
        let mut change = self.change();
        change.progress = Some(BatchProgress { cursor, ..self.progress() });
        if matches!(place.spot, Spot::LeafFull) {
            return Err(Error::corrupt("a leaf without room for a batch that has begun"));
        }
        let content = match content.kind() {
            Kind::Inline => content,
            Kind::Record => {
                let class = class_of(content.record_len());
                let Some((granule, block)) = self.find_block(class)? else {
                    return Err(Error::corrupt("slabs without a free block for a batch that has begun"));
                };
                let content = Content { rest: [content.rest[0], content.rest[1], granule << 16 | block], ..content };
                let at = record_at(self.att, &content)?;
                self.write_record(at.ok_or_else(|| Error::corrupt("the place of a free block"))?, &[], &[entry.bytes])?;
                change.edit_block(granule, block, true);
                content
            }
            _ => {
                let granule = content.granule();
                let before = self.arena().entry(granule)?;
                let len = content.lead().saturating_add(content.record_len());
                let fits = self.arena().fits(granule, before.len(), self.arena().zones());
                if before.state() != SpanState::Filling || !fits || granules_of(len) != before.len() {
                    return Err(Error::corrupt(format_args!("a span of a batch: {before:?}")));
                }
                self.plan_live(granule, &mut change)?;
                content
            }
        };
        self.replace_keeping_slab(&place, content, &mut change)?;
        Ok(old)
    }

    /// Commits the end of a batch, which was made or is dropped. If it was made, the span of its list becomes free.
    fn end_batch(&mut self, made: bool) -> Result<()> {
        let mut change = self.change();
        let many = self.att.state().many.load(Ordering::Relaxed);
        let granule = self.progress().batch >> 8;
        change.progress = Some(BatchProgress { many: (many | 1).wrapping_add(1), batch: 0, cursor: 0 });
        if made {
            let entry = self.arena().entry(granule)?;
            if entry.state() == SpanState::Filling {
                // All pages of the span are present, because the process that filled it wrote all of them.
                if self.arena().fits(granule, entry.len(), self.arena().zones()) {
                    self.arena().set_present(granule, entry.len(), true)?;
                }
                self.arena().plan_free(granule, entry, &mut change);
            }
        }
        self.commit(&change)?;
        crash_point!("batch-ended");
        Ok(())
    }
}
