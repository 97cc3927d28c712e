//! The list of a batch: its entries, and how they are read back from a span. `batch_entries.rs` makes it.
//!
//! The bytes are "Batch" in docs/format.md. A list may have been written by a hostile process, so each number is
//! checked.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{RECORD_MAX, SLOT};
use crate::key::Index;
use crate::sync::slot::{Content, Kind};

/// Bytes before the first entry.
pub(super) const HEAD: usize = 16;
/// Bytes of an entry before its record.
pub(super) const ENTRY_HEAD: usize = 24;
/// The name of a list in the error for a lack of memory.
const ENTRY: &str = "the list of a batch";

/// Private to the process: one change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchEntry<'a> {
    /// The contents of the slot to be. For a record in a block they are without the place, which is found later.
    pub content: Content,
    /// The record, if it goes into a block; the prefix alone, if the record is in a span; nothing, if the value is in
    /// the slot.
    pub bytes: &'a [u8],
}

/// Returns the head of an entry: the words of the slot to be, but the first.
#[inline(always)]
pub(super) fn head_of(content: &Content) -> [u8; ENTRY_HEAD] {
    let mut head = [0; ENTRY_HEAD];
    head.chunks_exact_mut(8).zip(content.rest).for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
    head
}

impl<'a> BatchEntry<'a> {
    /// Reads an entry back: its contents, its record, and the bytes that it takes. `None`: nobody who keeps to the format
    /// writes such an entry.
    #[inline(always)]
    pub(super) fn parse(bytes: &'a [u8]) -> Option<(Content, &'a [u8], usize)> {
        let (head, tail) = bytes.split_at_checked(ENTRY_HEAD)?;
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let content = Content { word: 0, rest: [word(0), word(8), word(16)] };
        let named_or_in_place = content.is_name() || content.is_in_place();
        let sound = content.prefix_len() <= content.record_len() && !content.is_name();
        let len = match content.kind() {
            Kind::Inline if !content.is_text() && !content.expires() && !named_or_in_place => 0,
            Kind::Record
                if sound && content.record_len() <= RECORD_MAX && !content.has_buffers() && !named_or_in_place =>
            {
                content.record_len()
            }
            Kind::Span
                if sound && content.prefix_len() <= RECORD_MAX && (content.has_buffers() || !content.is_in_place()) =>
            {
                content.prefix_len()
            }
            _ => return None,
        } as usize;
        let padded = len.next_multiple_of(8);
        Some((content, &tail.get(..padded)?[..len], ENTRY_HEAD + padded))
    }

    /// Reads the entry back that begins at this byte of a list in this process's own memory.
    #[inline(always)]
    pub(super) fn at(list: &'a [u8], at: usize) -> Result<Self> {
        let entry = list.get(at..).and_then(Self::parse);
        let (content, bytes, _) = entry.ok_or_else(|| Error::corrupt("a list that this process has made"))?;
        Ok(BatchEntry { content, bytes })
    }

    /// Returns the key, which is in `bytes` behind an expiry.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        let prefix = self.content.prefix_len() as usize;
        &self.bytes[prefix - self.content.key_len() as usize..prefix]
    }

    /// Returns the index.
    #[inline(always)]
    pub fn index(&self) -> Result<Index<'a>> {
        Ok(match self.content.is_text() {
            false => Index::Int(self.content.rest[0] as i64),
            true => Index::Text(std::str::from_utf8(self.key()).map_err(|_| Error::corrupt("an index of the batch"))?),
        })
    }

    /// Returns whether two entries are for one index. A number is in the second word of the slot, and a text's hash.
    pub fn has_index_of(&self, other: &BatchEntry<'_>) -> bool {
        let (one, two) = (&self.content, &other.content);
        one.rest[0] == two.rest[0] && one.is_text() == two.is_text() && (!one.is_text() || self.key() == other.key())
    }
}

/// Private to the process: reads a list. It reads a window at a time, since a list that another process wrote may be longer
/// than this process has memory for.
pub struct BatchReader<F> {
    read: F,
    /// Entries that are still to be read.
    left: u64,
    /// Where in the list the window ends; the next field is where the list itself ends.
    end: u64,
    len: u64,
    window: Vec<u8>,
    /// Bytes of the window that were read already.
    done: usize,
}

/// Bytes that are read at once.
const WINDOW: u64 = 64 << 10;
/// Bytes of the longest entry: a head and a record of the largest block.
const ENTRY_MAX: usize = ENTRY_HEAD + RECORD_MAX as usize + 8;

impl<F: Fn(u64, &mut [u8]) -> Result<()>> BatchReader<F> {
    /// Begins to read a list of at most `most` bytes. `read` copies bytes of it from an offset on. `None`: nobody
    /// who keeps to the format writes such a list.
    pub fn new(most: u64, read: F) -> Result<Option<Self>> {
        let mut head = [0; HEAD];
        read(0, &mut head)?;
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let (left, len) = (word(0), word(8));
        let sound = (HEAD as u64..=most).contains(&len) && left <= len / ENTRY_HEAD as u64;
        let (end, window) = (HEAD as u64, fallible::with_room(WINDOW as usize + ENTRY_MAX, ENTRY)?);
        Ok(sound.then_some(BatchReader { read, left, end, len, window, done: 0 }))
    }

    /// Returns the next entry. `None`: there are no more.
    pub fn next(&mut self) -> Result<Option<BatchEntry<'_>>> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.window.len() - self.done < ENTRY_MAX && self.end < self.len {
            self.window.drain(..self.done);
            self.done = 0;
            let (start, more) = (self.window.len(), WINDOW.min(self.len - self.end));
            self.window.resize(start + more as usize, 0);
            (self.read)(self.end, &mut self.window[start..])?;
            self.end += more;
        }
        let damaged = || Error::corrupt(format_args!("a batch, {} entries before its end", self.left));
        let (content, bytes, len) = BatchEntry::parse(&self.window[self.done..]).ok_or_else(damaged)?;
        self.done += len;
        self.left -= 1;
        Ok(Some(BatchEntry { content, bytes }))
    }
}

/// The head of an entry has the words of a slot but the first.
const _: () = assert!(ENTRY_HEAD + 8 == SLOT as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Name;
    use crate::variables::batch_entries::BatchEntries;
    use crate::variables::store_plan::{Placement, StorePlan};
    use crate::variables::stored::{Layout, Stored};

    #[test]
    fn a_list_reads_back_and_no_shorter_one_does() {
        let value = [7_u8; 300];
        let (parts, short) = ([&value[..5], &value[5..]], [&value[..5]]);
        let stored = |parts, layout, expiry| Stored { parts, layout, expiry };
        let items = [
            (Index::Int(-3), stored(&short[..], Layout::Pickle, None)),
            (Index::Int(4), stored(&parts, Layout::Pickle, Some(99))),
            (Index::Text("a key"), stored(&parts, Layout::Pickle, None)),
            (Index::Text("b"), stored(&parts, Layout::Buffers, Some(1))),
        ];
        let mut all = BatchEntries::new([1, 2], 0).unwrap();
        // Of each index the last counts.
        let twice = [(Index::Int(-3), items[1].1), (Index::Text("a key"), items[0].1)];
        for (index, stored) in twice.iter().chain(&items) {
            assert_eq!(all.push(index, *stored).unwrap(), stored.layout == Layout::Pickle);
        }
        let list = all.sorted().unwrap();
        let bytes = list.bytes().to_vec();
        let plan = |(index, stored): &(Index<'static>, _)| StorePlan::new(Name::from(index), *stored, [1, 2]).unwrap();
        let plans: Vec<_> = items.iter().map(plan).collect();
        assert_eq!(list.hashes().collect::<Vec<_>>(), plans.iter().map(|plan| plan.hash).collect::<Vec<_>>());
        assert_eq!(list.charge, plans.iter().map(StorePlan::charge).sum::<u64>());
        type Entry = (Content, Vec<u8>, Vec<u8>);
        let read = |bytes: &[u8]| -> Option<Vec<Entry>> {
            let copy = |at: u64, to: &mut [u8]| {
                let from = bytes.get(at as usize..at as usize + to.len()).ok_or_else(|| Error::corrupt("short"))?;
                to.copy_from_slice(from);
                Ok(())
            };
            let mut reader = BatchReader::new(bytes.len() as u64, copy).ok()??;
            let mut all = Vec::new();
            while let Some(entry) = reader.next().ok()? {
                let key = if entry.content.is_text() { entry.key() } else { &[] };
                all.push((entry.content, key.to_vec(), entry.bytes.to_vec()));
            }
            Some(all)
        };
        let entries = read(&bytes).unwrap();
        for (plan, entry) in plans.iter().zip(&entries) {
            let value = plan.stored.parts.concat();
            let (content, record) = match plan.placement {
                Placement::Inline => (plan.inline(), vec![]),
                Placement::Block(_) => (plan.content(0, Some(0)), [&plan.prefix, &value[..]].concat()),
                Placement::Span => (plan.content(0, None), plan.prefix.to_vec()),
            };
            assert_eq!(entry, &(content, plan.name.index.record_key().to_vec(), record));
        }
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len]), None, "{len}");
        }
        let words = (bytes.len() - HEAD) * 3_000 + HEAD;
        let mut long = [12_000_u64.to_le_bytes(), (words as u64).to_le_bytes()].concat();
        (0..3_000).for_each(|_| long.extend_from_slice(&bytes[HEAD..]));
        assert_eq!(read(&long), Some(entries.iter().cycle().take(12_000).cloned().collect()));
    }
}
