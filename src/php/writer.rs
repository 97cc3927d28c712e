//! The steps that changes are made of. Each leaves a segment that PHP can read, whatever store it is killed at: "Order
//! of stores" in `docs/php.md`.

use crate::error::Result;
use crate::os::sysv_shm::Mapping;
use crate::php::chain::{Chunk, Found, Link};
use crate::php::header::Header;
use crate::php::layout::{GAP, HEADER, LENGTH, NEXT, START_IS_OURS, TEXT, own_size};

/// Private to the process: a segment that one call changes, and its header as this call has left it.
pub struct Writer<'a> {
    /// The bytes.
    pub map: &'a Mapping,
    /// The header.
    pub header: Header,
}

impl Writer<'_> {
    /// Marks that a change is under way.
    #[inline(always)]
    pub fn begin(&mut self) -> Result<()> {
        self.header.begin(self.map)
    }

    /// Marks that no change is under way.
    #[inline(always)]
    pub fn finish(&mut self) -> Result<()> {
        self.header.finish(self.map)
    }

    /// Writes a chunk where no chunk of the chain is.
    #[inline(always)]
    pub fn write(&self, at: u64, index: i64, text: &[u8], next: u64) -> Result<()> {
        self.write_numbers(at, index, text.len() as u64, next)?;
        self.map.copy_in(at + TEXT, text)?;
        // The eight bytes behind the text belong to the chunk, too; PHP's parser may look at the first of them.
        let written = TEXT + text.len().next_multiple_of(8) as u64;
        if own_size(text.len() as u64).min(next) > written {
            self.map.store(at + written, 0)?;
        }
        Ok(())
    }

    /// Writes the three numbers of a chunk.
    #[inline(always)]
    pub fn write_numbers(&self, at: u64, index: i64, length: u64, next: u64) -> Result<()> {
        self.map.store(at, index)?;
        self.map.store(at + LENGTH, length as i64)?;
        self.map.store(at + NEXT, next as i64)
    }

    /// Makes a link lead to the chunk that begins here. A `start` that is raised is marked as this package's first.
    #[inline(always)]
    pub fn link(&mut self, link: Link, at: u64) -> Result<()> {
        if !link.is_first() {
            return link.store(self.map, at);
        }
        let ours = if self.header.owns_start() { START_IS_OURS } else { 0 };
        // CRASH: the mark may stand without a need for it while `start` is 40, never the other way round.
        self.header.set_marks(self.map, self.header.marks | ours)?;
        link.store(self.map, at)?;
        self.header.start = at;
        let marks = if at == HEADER { self.header.marks & !START_IS_OURS } else { self.header.marks };
        self.header.set_marks(self.map, marks)
    }

    /// Appends a chunk and publishes it. There are `next` bytes free.
    #[inline(always)]
    pub fn append(&mut self, index: i64, text: &[u8], next: u64) -> Result<()> {
        self.write(self.header.end, index, text, next)?;
        self.header.raise_end(self.map, next)
    }

    /// Takes a chunk out of the chain. Its bytes are a gap after that, or free if it was the last one.
    #[inline(always)]
    pub fn unlink(&mut self, found: &Found) -> Result<()> {
        let Found { chunk, link, .. } = *found;
        if chunk.following() == self.header.end {
            return self.header.lower_end(self.map, chunk.at);
        }
        if link.is_first() && !self.header.owns_start() {
            // Below lie bytes of another program, and `start` is where they end.
            return self.map.store(chunk.at, GAP);
        }
        self.link(link, chunk.following())
    }

    /// Gives back the gap from `at` to `end`, which is behind the chunk with this link, if a chunk fits into it.
    pub fn cut_tail(&mut self, link: Link, at: u64) -> Result<()> {
        let gap = self.header.end - at;
        if gap < TEXT {
            return Ok(());
        }
        self.write_numbers(at, GAP, 0, gap)?;
        self.link(link, at)?;
        self.header.lower_end(self.map, at)
    }

    /// Copies the bytes that a chunk needs to a place that is not in the chain. The copy leads to `following`.
    pub fn copy_chunk(&self, chunk: &Chunk, to: u64, following: u64) -> Result<()> {
        self.write_numbers(to, chunk.key, chunk.length, following - to)?;
        self.map.copy(chunk.at + TEXT, to + TEXT, chunk.needs() - TEXT)
    }
}
