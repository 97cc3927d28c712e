//! The entries of a large batch: collected in the order of the caller, and then brought into the order in which they are
//! made.
//!
//! An entry is written once, as the list has it (`batch_list.rs`), so that what the caller gave can be let go at once, and
//! so that a batch of a million takes little private memory: the entries, the order, and the list.

use crate::error::Result;
use crate::fallible;
use crate::format::{CLASSES, SET_SLOTS, class_of};
use crate::key::{Index, Name};
use crate::sync::slot::{Content, Kind};
use crate::variables::batch_list::{BatchEntry, ENTRY_HEAD, HEAD, head_of};
use crate::variables::store_plan::{Placement, StorePlan};
use crate::variables::stored::Stored;

/// The name of the entries in the error for a lack of memory.
const ENTRIES: &str = "the values of a batch";
/// Bytes that are reserved for each entry that is expected: those of a number and its value.
const EXPECTED: usize = ENTRY_HEAD;

/// Private to the process: the entries of a batch in the order in which they came in.
pub struct BatchEntries {
    hash_key: [u64; 2],
    /// The entries, one behind the other, behind room for the head of the list.
    bytes: Vec<u8>,
    /// For each entry the hash of its index, and where it is in `bytes`.
    order: Vec<(u64, usize)>,
    /// Number of values that are not in `bytes`: their entries have this number in place of the granule.
    apart: usize,
    /// Bytes that the limit has to have room for besides, when the batch begins.
    pub besides: u64,
}

/// Private to the process: the list of a batch, as it is stored in its span, but for the granules of values that are to have
/// a span of their own. The entries are in the order of their hashes, or, if they are at most [`SET_SLOTS`], in that of the
/// caller; no two of them are for one index.
pub struct BatchList {
    bytes: Vec<u8>,
    /// For each entry the hash of its index, and where it is in `bytes`.
    order: Vec<(u64, usize)>,
    /// The entries of values that have a span: where they are in `bytes`, and the number of the value.
    spans: Vec<(usize, usize)>,
    /// Blocks that the records need, by class.
    pub blocks: [u64; CLASSES.len()],
    /// What the variables are charged.
    pub charge: u64,
    /// See [`BatchEntries::besides`].
    pub besides: u64,
}

impl BatchEntries {
    /// Begins a batch of so many entries, in the segment with this hash key.
    pub fn new(hash_key: [u64; 2], len: usize) -> Result<Self> {
        let mut bytes = fallible::with_room(HEAD + len.saturating_mul(EXPECTED), ENTRIES)?;
        bytes.resize(HEAD, 0);
        Ok(BatchEntries { hash_key, bytes, order: fallible::with_room(len, ENTRIES)?, apart: 0, besides: 0 })
    }

    /// Appends a value. Returns `false` if it was not copied, because it is to have a span of its own: its bytes are asked
    /// for when the batch is stored.
    #[inline]
    pub fn push(&mut self, index: &Index<'_>, stored: Stored<'_>) -> Result<bool> {
        index.check_length()?;
        let plan = StorePlan::new(Name::from(index), stored, self.hash_key)?;
        self.push_plan(&plan)
    }

    /// Appends a value of `len` bytes that is not copied, because it is to have a span of its own. `stored` says all but the
    /// bytes.
    pub fn push_apart(&mut self, index: &Index<'_>, stored: Stored<'_>, len: u64) -> Result<()> {
        index.check_length()?;
        let plan = StorePlan::new(Name::from(index), stored, self.hash_key)?;
        let record_len = plan.prefix.len() as u64 + len;
        self.push_plan(&StorePlan { record_len, placement: Placement::Span, ..plan }).map(drop)
    }

    /// Appends a value that was planned already, in the same way.
    #[inline(always)]
    pub fn push_plan(&mut self, plan: &StorePlan<'_>) -> Result<bool> {
        let at = self.bytes.len();
        fallible::push(&mut self.order, (plan.hash, at), ENTRIES)?;
        let mut head = |content: Content, len: usize| -> Result<()> {
            // For the most part the room was reserved before.
            if self.bytes.capacity() - at < ENTRY_HEAD + len + 8 {
                fallible::reserve(&mut self.bytes, ENTRY_HEAD + len + 8, ENTRIES)?;
            }
            self.bytes.extend_from_slice(&head_of(&content));
            Ok(())
        };
        match plan.placement {
            Placement::Inline => head(plan.inline(), 0)?,
            Placement::Block(_) => {
                head(plan.content(0, Some(0)), plan.record_len as usize)?;
                self.bytes.extend_from_slice(&plan.prefix);
                plan.stored.parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
                self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
            }
            Placement::Span => {
                head(plan.content(self.apart as u64, None), plan.prefix.len())?;
                self.bytes.extend_from_slice(&plan.prefix);
                self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
                self.apart += 1;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings the entries into the order of their hashes; of several for one index only the last is kept. At most
    /// [`SET_SLOTS`] stay in the order of the caller.
    ///
    /// So a batch comes to each leaf of the table once, and the leaf stays in the processor's cache meanwhile.
    pub fn sorted(mut self) -> Result<BatchList> {
        self.order.sort_unstable();
        self.keep_last();
        if self.order.len() <= SET_SLOTS {
            self.order.sort_unstable_by_key(|(_, at)| *at);
        }
        let mut list = BatchList {
            bytes: fallible::with_room(self.bytes.len(), ENTRIES)?,
            order: self.order,
            spans: Vec::new(),
            blocks: [0; CLASSES.len()],
            charge: 0,
            besides: self.besides,
        };
        list.bytes.resize(HEAD, 0);
        for (_, place) in &mut list.order {
            let at = std::mem::replace(place, list.bytes.len());
            let (content, _, len) = BatchEntry::parse(&self.bytes[at..]).expect("an entry that was just written");
            match content.kind() {
                Kind::Record => list.blocks[class_of(content.record_len())] += 1,
                Kind::Span => fallible::push(&mut list.spans, (list.bytes.len(), content.granule() as usize), ENTRIES)?,
                _ => {}
            }
            list.charge = list.charge.saturating_add(content.charge());
            list.bytes.extend_from_slice(&self.bytes[at..at + len]);
        }
        let words = [list.order.len() as u64, list.bytes.len() as u64];
        words.iter().zip(list.bytes.chunks_exact_mut(8)).for_each(|(word, to)| to.copy_from_slice(&word.to_le_bytes()));
        Ok(list)
    }

    /// Drops all but the last of several entries for one index. The entries are in the order of their hashes, and of one
    /// hash in the order in which they came.
    fn keep_last(&mut self) {
        if self.order.windows(2).all(|pair| pair[0].0 != pair[1].0) {
            return;
        }
        // From the end on: what stands from `kept` on counts.
        let (mut kept, order) = (self.order.len(), &mut self.order);
        let entry = |at: usize| BatchEntry::at(&self.bytes, at).expect("an entry that was just written");
        for number in (0..order.len()).rev() {
            let (hash, at) = order[number];
            let mut same_hash = order[kept..].iter().take_while(|later| later.0 == hash);
            if !same_hash.any(|later| entry(later.1).has_index_of(&entry(at))) {
                kept -= 1;
                order[kept] = (hash, at);
            }
        }
        order.drain(..kept);
    }
}

impl BatchList {
    /// Returns the bytes of the list.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Returns the hash of an entry's index.
    #[inline(always)]
    pub fn hash(&self, number: usize) -> Option<u64> {
        self.order.get(number).map(|(hash, _)| *hash)
    }

    /// Returns the hashes of all indexes, in order.
    pub fn hashes(&self) -> impl Iterator<Item = u64> + Clone {
        self.order.iter().map(|(hash, _)| *hash)
    }

    /// Returns whether an index of the batch has this hash.
    pub fn has_hash(&self, hash: u64) -> bool {
        match self.order.len() {
            ..=SET_SLOTS => self.hashes().any(|own| own == hash),
            _ => self.order.binary_search_by_key(&hash, |(hash, _)| *hash).is_ok(),
        }
    }

    /// Returns an entry.
    #[inline(always)]
    pub fn entry(&self, number: usize) -> Result<BatchEntry<'_>> {
        BatchEntry::at(&self.bytes, self.order[number].1)
    }

    /// Returns the number of values that have spans of their own.
    pub fn spans(&self) -> usize {
        self.spans.len()
    }

    /// Returns the entry of one of the values that have spans of their own, and the number of the value.
    pub fn span(&self, number: usize) -> Result<(BatchEntry<'_>, usize)> {
        let (at, value) = self.spans[number];
        Ok((BatchEntry::at(&self.bytes, at)?, value))
    }

    /// Returns the numbers of all values that have spans of their own.
    pub fn span_values(&self) -> impl Iterator<Item = usize> {
        self.spans.iter().map(|(_, value)| *value)
    }

    /// Says at which granule one of these values is.
    pub fn set_span(&mut self, number: usize, granule: u64) {
        let at = self.spans[number].0;
        self.bytes[at + 16..at + ENTRY_HEAD].copy_from_slice(&(granule << 16).to_le_bytes());
    }
}
