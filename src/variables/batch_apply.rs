//! Making a batch that has begun, to its end: by its writer, or by the process that acquires the lock next.
//!
//! The protocol is "Batches" in docs/protocol.md, steps 3 to 5. What has to be there before is obtained in `batch.rs`.

use crate::error::{Error, Result};
use crate::format::{GRANULE, RECORD_MAX, Slot, SpanEntry, SpanState, class_of, granules_of};
use crate::heap::AsHeap;
use crate::key::Name;
use crate::os::mem::Scratch;
use crate::sync::intent::{BatchProgress, Change};
use crate::sync::slot::{BUSY, Content, Kind, Seqlock};
use crate::variables::batch_entries::BatchList;
use crate::variables::batch_list::{BatchEntry, BatchReader};
use crate::variables::leaf::{LastLeaf, Leaf};
use crate::variables::place::{SlotPlace, Spot};
use crate::variables::record::record_at;
use crate::variables::{AsVariables, VariablesWriter};
use std::collections::HashSet;
use std::sync::atomic::{Ordering, fence};

/// The low byte of the state's word `batch`: the list is in the span at granule `batch >> 8`.
pub(super) const LIST: u64 = 1;
/// How many slots a batch may look at for each of its entries: those of a leaf. Only a table that no writer would have
/// left needs more.
pub(super) const PROBES_PER_ENTRY: u64 = 2_048;
/// How many slots a batch may look at besides, so that one long search does not end it.
pub(super) const PROBES_AT_FIRST: u64 = 4_096;
/// So many entries ahead of the one that is made, slots are fetched into the processor's cache.
pub(super) const PREFETCHED: usize = 4;

/// Private to the process: where the entries of a batch come from, in the order in which they are made.
pub(super) trait Entries {
    /// Returns the next entry, and what is known of it. `None`: there are no more.
    fn next(&mut self, hash_key: [u64; 2]) -> Result<Option<(BatchEntry<'_>, Known)>>;
}

/// Private to the process: what is known of an entry before it is made.
pub(super) struct Known {
    /// The hash of its index.
    hash: u64,
    /// Where the entry goes.
    place: Option<NotedPlace>,
    /// The place of an entry that comes a little later.
    ahead: Option<NotedPlace>,
}

/// Private to the process: where an entry goes, as it was found under the same acquisition of the writer lock: the file
/// offset of a slot, and in the lowest bits what was in it. Until the entry is made, only entries for other indexes are made.
#[derive(Clone, Copy)]
pub(super) struct NotedPlace(u64);

impl NotedPlace {
    const OCCUPIED: u64 = 1;
    const TOMBSTONE: u64 = 2;
    const UNUSED: u64 = 3;

    /// Notes a place.
    #[inline(always)]
    pub(super) fn of(spot: &Spot) -> Self {
        NotedPlace(match spot {
            Spot::Occupied(offset, _) => offset | Self::OCCUPIED,
            Spot::Tombstone(offset) => offset | Self::TOMBSTONE,
            Spot::Unused(offset) => offset | Self::UNUSED,
            Spot::LeafFull => 0,
        })
    }

    #[inline(always)]
    fn offset(self) -> u64 {
        self.0 & !3
    }

    /// Returns what is in the slot now, if the entry for an index with this word in its slot still goes there. `None`: it is
    /// searched for again, since another entry of the batch has taken the slot.
    ///
    /// A slot that was free then and is free now is still the first free one on the index's path: no entry makes a slot free.
    #[inline(always)]
    fn spot(self, writer: &VariablesWriter<'_>, index_word: u64) -> Result<Option<Spot>> {
        let offset = self.offset();
        if offset == 0 {
            return Ok(None);
        }
        let slot = writer.att.mem.at::<Slot>(offset)?;
        let content = Content { word: slot.begin(), rest: slot.rest() };
        if content.word & BUSY == 1 {
            return Ok(None);
        }
        Ok(match self.0 & 3 {
            Self::OCCUPIED if content.is_entry() && content.rest[0] == index_word => {
                Some(Spot::Occupied(offset, content))
            }
            Self::TOMBSTONE if content.word != 0 && !content.is_entry() => Some(Spot::Tombstone(offset)),
            Self::UNUSED if content.word == 0 => Some(Spot::Unused(offset)),
            _ => None,
        })
    }
}

/// The entries of a list that another process left.
impl<F: Fn(u64, &mut [u8]) -> Result<()>> Entries for BatchReader<F> {
    fn next(&mut self, hash_key: [u64; 2]) -> Result<Option<(BatchEntry<'_>, Known)>> {
        let Some(entry) = BatchReader::next(self)? else { return Ok(None) };
        let hash = Name::from(&entry.index()?).hash(hash_key);
        Ok(Some((entry, Known { hash, place: None, ahead: None })))
    }
}

/// Private to the process: the entries of a list of this process's own.
pub(super) struct OwnEntries<'a> {
    /// The list.
    pub list: &'a BatchList,
    /// Where its entries go.
    pub places: &'a [NotedPlace],
    /// The number of the next entry.
    pub next: usize,
}

impl Entries for OwnEntries<'_> {
    #[inline(always)]
    fn next(&mut self, _: [u64; 2]) -> Result<Option<(BatchEntry<'_>, Known)>> {
        let Some(hash) = self.list.hash(self.next) else { return Ok(None) };
        let number = self.next;
        self.next += 1;
        let place = |number: usize| self.places.get(number).copied();
        Ok(Some((self.list.entry(number)?, Known { hash, place: place(number), ahead: place(number + PREFETCHED) })))
    }
}

impl VariablesWriter<'_> {
    /// Takes a run of free granules whose pages are present and mapped, writes the list of a batch there, and plans that the
    /// run becomes a span that is filling in this process's name. Returns its granule. `None`: there is no such run.
    pub(super) fn put_list_in_warm_span(&self, list: &[u8], change: &mut Change) -> Result<Option<u64>> {
        let (att, len) = (self.att, granules_of(list.len() as u64));
        if att.state().doomed.load(Ordering::Relaxed) != 0 {
            return Ok(None);
        }
        let filling = SpanEntry::new(SpanState::Filling, len).with_owner(self.number);
        let Some(granule) = self.arena().plan_reserve_present(len, filling, change)? else { return Ok(None) };
        if !att.heap().has_filled(granule, len) {
            change.spans.clear();
            return Ok(None);
        }
        self.mark_spans();
        // SYNC: as in `write_record`: a reader may still look at what these granules held.
        fence(Ordering::Release);
        att.mem.write_unpublished(att.identity.geometry.granule_at(granule), list)?;
        // CRASH: bytes in granules that are free.
        crash_point!("warm-list-written");
        Ok(Some(granule))
    }

    /// Commits the beginning of a batch, together with what `change` has to take for it. From here on the batch will be
    /// made, whichever process dies.
    pub(super) fn begin_batch(&mut self, batch: u64, mut change: Change) -> Result<()> {
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
    pub(super) fn apply_entries(&mut self, scratch: &mut Scratch, rest: &mut impl Entries) -> Result<()> {
        let (mut emptied, mut probes_left, mut last_leaf) = (HashSet::new(), PROBES_AT_FIRST, LastLeaf::default());
        while let Some((entry, known)) = rest.next(self.att.identity.hash_key)? {
            let cursor = self.progress().cursor.saturating_add(1);
            probes_left += PROBES_PER_ENTRY;
            let leaf = last_leaf.of(self.att.variables(), known.hash)?;
            if let Some(ahead) = known.ahead {
                self.att.mem.prefetch(ahead.offset());
            }
            let old = self.apply_entry(&entry, &known, leaf, cursor, scratch, &mut probes_left)?;
            if let Some(old) = old.filter(|old| old.kind() == Kind::Record) {
                // If there is no memory to remember the slab, it stays empty: it is used again, or `trim` frees it.
                if self.arena().slab_is_empty(old.granule())? && emptied.try_reserve(1).is_ok() {
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
    #[inline(always)]
    fn apply_entry(
        &mut self,
        entry: &BatchEntry<'_>,
        known: &Known,
        leaf: Leaf,
        cursor: u64,
        scratch: &mut Scratch,
        probes_left: &mut u64,
    ) -> Result<Option<Content>> {
        let content = entry.content;
        let noted = match known.place {
            Some(place) => place.spot(self, content.rest[0])?,
            None => None,
        };
        let place = match noted {
            Some(spot) => SlotPlace { leaf, spot },
            None => self.find_place_in(leaf, &Name::from(&entry.index()?), known.hash, scratch, probes_left)?,
        };
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
