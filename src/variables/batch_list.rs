//! The list of a batch: how it is written into a span and read back.
//!
//! The bytes are "Batch" in docs/format.md. A list may have been written by a hostile process, so each number is
//! checked.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{RECORD_MAX, SLOT};
use crate::heap::span_writer::FilledSpan;
use crate::sync::slot::{Content, Kind};
use crate::variables::store_plan::{Placement, StorePlan};

/// Bytes before the first entry.
const HEAD: usize = 16;
/// Bytes of an entry before its record.
const ENTRY_HEAD: usize = 24;
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

/// Returns the list of a batch as it is stored in its span. `filled` are the spans of those values that need one.
pub fn list_of(plans: &[StorePlan<'_>], filled: &[FilledSpan<'_>]) -> Result<Vec<u8>> {
    let bytes_of = |plan: &StorePlan<'_>| match plan.placement {
        Placement::Inline => 0,
        Placement::Block(_) => plan.record_len as usize,
        Placement::Span => plan.prefix.len(),
    };
    let len = |plan: &StorePlan<'_>| ENTRY_HEAD + bytes_of(plan).next_multiple_of(8);
    let len = HEAD + plans.iter().map(len).sum::<usize>();
    let (mut list, mut filled) = (fallible::with_room(len, ENTRY)?, filled.iter());
    list.extend_from_slice(&(plans.len() as u64).to_le_bytes());
    list.extend_from_slice(&(len as u64).to_le_bytes());
    for plan in plans {
        let content = match plan.placement {
            Placement::Inline => plan.inline(),
            Placement::Block(_) => plan.content(0, Some(0)),
            Placement::Span => plan.content(filled.next().map_or(0, |filled| filled.span.granule), None),
        };
        content.rest.iter().for_each(|word| list.extend_from_slice(&word.to_le_bytes()));
        if plan.placement != Placement::Inline {
            list.extend_from_slice(&plan.prefix);
        }
        if let Placement::Block(_) = plan.placement {
            plan.stored.parts.iter().for_each(|part| list.extend_from_slice(part));
        }
        list.resize(list.len().next_multiple_of(8), 0);
    }
    debug_assert_eq!(list.len(), len);
    Ok(list)
}

impl BatchEntry<'_> {
    /// Reads an entry back: its contents, its record, and the bytes that it takes. `None`: `list_of` does not write
    /// such an entry.
    fn parse(bytes: &[u8]) -> Option<(Content, &[u8], usize)> {
        let (head, tail) = bytes.split_at_checked(ENTRY_HEAD)?;
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let content = Content { word: 0, rest: [word(0), word(8), word(16)] };
        let named_or_in_place = content.is_name() || content.is_in_place();
        let sound = content.prefix_len() <= content.record_len() && !named_or_in_place;
        let len = match content.kind() {
            Kind::Inline if !content.is_text() && !content.expires() && !named_or_in_place => 0,
            Kind::Record if sound && content.record_len() <= RECORD_MAX && !content.has_buffers() => {
                content.record_len()
            }
            Kind::Span if sound && content.prefix_len() <= RECORD_MAX => content.prefix_len(),
            _ => return None,
        } as usize;
        let padded = len.next_multiple_of(8);
        Some((content, &tail.get(..padded)?[..len], ENTRY_HEAD + padded))
    }

    /// Returns the key, which is in `bytes` behind an expiry.
    pub fn key(&self) -> &[u8] {
        let prefix = self.content.prefix_len() as usize;
        &self.bytes[prefix - self.content.key_len() as usize..prefix]
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
    /// Begins to read a list of at most `most` bytes. `read` copies bytes of it from an offset on. `None`: `list_of`
    /// does not write such a list.
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
    use crate::key::{Index, Name};
    use crate::variables::stored::{Layout, Stored};

    #[test]
    fn a_list_reads_back_and_no_shorter_one_does() {
        let value = [7_u8; 300];
        let parts = [&value[..5], &value[5..]];
        let stored = |expiry| Stored { parts: &parts, layout: Layout::Pickle, expiry };
        let short = [&value[..5]];
        let plans = [
            StorePlan::new(
                Name::from(&Index::Int(-3)),
                Stored { parts: &short, layout: Layout::Pickle, expiry: None },
                [1, 2],
            ),
            StorePlan::new(Name::from(&Index::Int(4)), stored(Some(99)), [1, 2]),
            StorePlan::new(Name::from(&Index::Text("a key")), stored(None), [1, 2]),
            StorePlan::new(
                Name::from(&Index::Text("b")),
                Stored { parts: &parts, layout: Layout::Buffers, expiry: Some(1) },
                [1, 2],
            ),
        ];
        let plans: Vec<_> = plans.into_iter().map(Result::unwrap).collect();
        let bytes = list_of(&plans, &[]).unwrap();
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
        assert_eq!(entries[0], (plans[0].inline(), vec![], vec![]));
        assert_eq!(entries[1].2, [&99_u64.to_le_bytes()[..], &value].concat());
        assert_eq!((&entries[2].1[..], &entries[3].1[..]), (&b"a key"[..], &b"b"[..]));
        assert_eq!(entries[2].2, [b"a key", &value[..]].concat());
        assert_eq!((entries[3].0, &entries[3].2[8..]), (plans[3].content(0, None), &b"b"[..]));
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len]), None, "{len}");
        }
        let words = (bytes.len() - HEAD) * 3_000 + HEAD;
        let mut long = [12_000_u64.to_le_bytes(), (words as u64).to_le_bytes()].concat();
        (0..3_000).for_each(|_| long.extend_from_slice(&bytes[HEAD..]));
        assert_eq!(read(&long), Some(entries.iter().cycle().take(12_000).cloned().collect()));
    }
}
