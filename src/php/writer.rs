//! The steps that changes are made of. Each leaves a segment that PHP can read, whatever store it is killed at: "Order
//! of stores" in `docs/php.md`.

use crate::error::Result;
use crate::os::sysv_shm::Mapping;
use crate::php::chain::{Chunk, Found, Gap};
use crate::php::header::Header;
use crate::php::layout::{END, FREE, FREE_BYTES, LENGTH, NEXT, PREPARED, TEXT, own_size};

/// Private to the process: a segment that one call changes, and its header as this call has left it.
pub struct Writer<'a> {
    /// The bytes.
    pub map: &'a Mapping,
    /// The header.
    pub header: Header,
}

impl Writer<'_> {
    /// Writes a chunk where no chunk of the chain is. `trailer` is the number behind the text.
    #[inline(always)]
    fn write_as(&self, at: u64, key: i64, text: &[u8], trailer: i64, next: u64) -> Result<()> {
        let own = own_size(text.len() as u64);
        // SYNC: a reader that still stands on the chunk that was here sees at its last look that the key is another one.
        self.map.store(at, FREE)?;
        self.map.copy_in(at + TEXT, text)?;
        self.map.store(at + own - 8, trailer)?;
        self.map.store(at + LENGTH, text.len() as i64)?;
        self.map.store(at + NEXT, next as i64)?;
        // SYNC: the key comes last: a reader that arrives by an old number finds no key of its own, or the whole chunk.
        self.map.store(at, key)
    }

    /// Writes a chunk into a gap and links it there, under its index or (`prepared`) with its index behind its text.
    #[inline(always)]
    pub fn write_into(&self, gap: &Gap, index: i64, text: &[u8], prepared: bool) -> Result<()> {
        let (key, trailer) = if prepared { (PREPARED, index) } else { (index, 0) };
        self.write_as(gap.place, key, text, trailer, gap.following - gap.place)?;
        if gap.of != gap.place { self.lead(gap.of, gap.place) } else { Ok(()) }
    }

    /// Appends a chunk that takes `next` bytes.
    #[inline(always)]
    pub fn append(&mut self, index: i64, text: &[u8], next: u64, prepared: bool) -> Result<()> {
        let (key, trailer) = if prepared { (PREPARED, index) } else { (index, 0) };
        self.write_as(self.header.end, key, text, trailer, next)?;
        self.header.raise_end(self.map, next)
    }

    /// Appends a chunk `FREE`.
    pub fn append_free(&mut self, next: u64) -> Result<()> {
        self.write_empty(self.header.end, FREE, next)?;
        self.header.raise_end(self.map, next)
    }

    /// Writes a chunk without a text where no chunk of the chain is.
    pub fn write_empty(&self, at: u64, key: i64, next: u64) -> Result<()> {
        self.map.store(at + LENGTH, 0)?;
        self.map.store(at + NEXT, next as i64)?;
        self.map.store(at, key)
    }

    /// Makes the `next` of a chunk lead to the chunk that begins at `to`.
    #[inline(always)]
    pub fn lead(&self, from: u64, to: u64) -> Result<()> {
        self.map.store(from + NEXT, (to - from) as i64)
    }

    /// Takes a chunk out of the chain. Its bytes become a gap.
    #[inline(always)]
    pub fn unlink(&self, found: &Found) -> Result<()> {
        match found.before {
            Some(before) => self.lead(before, found.chunk.following()),
            None => self.map.store(found.chunk.at, FREE),
        }
    }

    /// Makes all of a chunk its slack, if it is the first one and was unlinked.
    #[inline(always)]
    pub fn empty(&self, found: &Found) -> Result<()> {
        if found.before.is_none() { self.map.store(found.chunk.at + LENGTH, 0) } else { Ok(()) }
    }

    /// Publishes a chunk `PREPARED` of `own` bytes in place of the one that is unlinked.
    #[inline(always)]
    pub fn exchange(&self, old: &Found, at: u64, index: i64, own: u64) -> Result<()> {
        self.unlink(old)?;
        // CRASH: between these two stores, the index is missing.
        self.map.store(at, index)?;
        self.clear_trailer(at, own)?;
        self.empty(old)
    }

    /// Publishes a chunk `PREPARED` in place of the last one, which is cut off.
    pub fn cut_off_for(&mut self, last: u64, at: u64, index: i64) -> Result<()> {
        let bytes = self.header.end - last;
        self.header.end = last;
        self.map.store(END, last as i64)?;
        // CRASH: between these two stores, the index is missing.
        self.map.store(at, index)?;
        self.header.free += bytes;
        self.map.store(FREE_BYTES, self.header.free as i64)
    }

    /// Makes the last 8 bytes of a chunk of `own` bytes zero.
    #[inline(always)]
    pub fn clear_trailer(&self, at: u64, own: u64) -> Result<()> {
        self.map.store(at + own - 8, 0)
    }

    /// Copies the text of a chunk, the number `trailer` behind it, and its three numbers, the key last, to a lower
    /// place that is not in the chain, or to one behind `end`.
    pub fn copy_chunk(&self, chunk: &Chunk, to: u64, key: i64, next: u64) -> Result<()> {
        let trailer = if key == PREPARED { chunk.key } else { 0 };
        self.map.store(to, FREE)?;
        self.map.copy(chunk.at + TEXT, to + TEXT, chunk.length)?;
        self.map.store(to + chunk.own() - 8, trailer)?;
        self.map.store(to + LENGTH, chunk.length as i64)?;
        self.map.store(to + NEXT, next as i64)?;
        self.map.store(to, key)
    }
}
