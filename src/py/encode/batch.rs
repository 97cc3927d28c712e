//! The items of a large batch. They are looked at several times, and in another order than they came in, so that they take
//! little room: keys and short pickles stand one behind the other, and the objects behind them are let go at once.

use super::encoded::{Encoded, EncodedParts};
use crate::error::Result;
use crate::fallible;
use crate::format::RECORD_MAX;
use crate::key::Index;
use crate::py::create;
use crate::variables::batch::BatchOrder;
use pyo3::PyResult;

/// The name of the values in the error for a lack of memory.
const VALUES: &str = "the values of a batch";

/// Private to the process: indexes and values of a batch, as they are stored.
pub struct EncodedBatch<'a, 'py> {
    /// Each item's key, if its index is a text, and its pickle, if that is short.
    bytes: Vec<u8>,
    items: Vec<Item>,
    /// The values that are too long to be copied, or have buffers.
    apart: Vec<Encoded<'a, 'py>>,
}

/// Private to the process: where an item of a batch is.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// The index, if it is a number; the length of the key, if it is a text.
    index: i64,
    is_text: bool,
    /// Of a value that was not copied: its number among those. Else `COPIED`.
    apart: u32,
    /// Where key and pickle are in `bytes`.
    start: usize,
    end: usize,
}

/// Says that a value was copied.
const COPIED: u32 = u32::MAX;

impl<'a, 'py> EncodedBatch<'a, 'py> {
    /// Collects items.
    pub fn of(
        indexes: &[Index<'_>],
        values: impl Iterator<Item = PyResult<Encoded<'a, 'py>>>,
    ) -> PyResult<EncodedBatch<'a, 'py>> {
        let mut batch = EncodedBatch { bytes: Vec::new(), items: Vec::new(), apart: Vec::new() };
        create::reserve(&mut batch.items, indexes.len())?;
        for (index, encoded) in indexes.iter().zip(values) {
            let (start, encoded) = (batch.bytes.len(), encoded?);
            let (index, is_text) = match index {
                Index::Int(number) => (*number, false),
                Index::Text(text) => {
                    batch.copy(text.as_bytes())?;
                    (text.len() as i64, true)
                }
            };
            let parts = encoded.whole_parts();
            let len = parts.as_slice().iter().map(|part| part.len()).sum::<usize>();
            let apart = if encoded.is_whole() && len <= RECORD_MAX as usize {
                parts.as_slice().iter().try_for_each(|part| batch.copy(part))?;
                COPIED
            } else {
                create::push(&mut batch.apart, encoded)?;
                // So many large values have no room in a process.
                (batch.apart.len() - 1) as u32
            };
            batch.items.push(Item { index, is_text, apart, start, end: batch.bytes.len() });
        }
        Ok(batch)
    }

    fn copy(&mut self, bytes: &[u8]) -> PyResult<()> {
        self.bytes.try_reserve(bytes.len()).map_err(|_| create::no_memory())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Puts items into another order, and drops those that are not in it: keys and pickles are moved, too, so that what
    /// is looked at next stands next.
    pub fn reorder(&mut self, order: &BatchOrder) -> Result<()> {
        let mut bytes = fallible::with_room(self.bytes.len(), VALUES)?;
        let moved = order.0.iter().map(|(_, number)| {
            let (item, start) = (self.items[*number], bytes.len());
            bytes.extend_from_slice(&self.bytes[item.start..item.end]);
            Ok(Item { start, end: bytes.len(), ..item })
        });
        self.items = fallible::collect(moved, VALUES)?;
        self.bytes = bytes;
        Ok(())
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns the index of an item.
    pub fn index(&self, number: usize) -> Index<'_> {
        let item = &self.items[number];
        match item.is_text {
            false => Index::Int(item.index),
            true => {
                let key = &self.bytes[item.start..item.start + item.index as usize];
                Index::Text(std::str::from_utf8(key).expect("the copy of a str"))
            }
        }
    }

    /// Returns the pickle of an item; nothing, if it was not copied.
    pub fn copied(&self, number: usize) -> &[u8] {
        let item = &self.items[number];
        &self.bytes[item.start + if item.is_text { item.index as usize } else { 0 }..item.end]
    }

    /// Returns the number of an item's value among those that were not copied.
    pub fn apart(&self, number: usize) -> Option<usize> {
        Some(self.items[number].apart).filter(|apart| *apart != COPIED).map(|apart| apart as usize)
    }

    /// Returns the parts of the values that were not copied.
    pub fn parts_apart(&self) -> Result<Vec<EncodedParts<'_>>> {
        fallible::collect(self.apart.iter().map(Encoded::parts), VALUES)
    }
}
