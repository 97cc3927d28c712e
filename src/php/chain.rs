//! The chain of chunks: walking it, and checking each chunk on the way. "What is believed" in `docs/php.md`.

use crate::error::{Error, Result};
use crate::os::sysv_shm::Mapping;
use crate::php::header::Header;
use crate::php::layout::{GAP, NEXT, START, TEXT, own_size};
use std::sync::atomic::Ordering;

/// Private to the process: the numbers of a chunk, which were checked when they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where the chunk begins.
    pub at: u64,
    /// The index of the variable.
    pub key: i64,
    /// Bytes of the text.
    pub length: u64,
    /// Distance to the next chunk.
    pub next: u64,
}

impl Chunk {
    /// Reads the chunk at an offset, which lies before `end`.
    #[inline(always)]
    pub fn read(map: &Mapping, at: u64, end: u64) -> Result<Self> {
        let Some(room) = (end - at).checked_sub(TEXT) else { return Err(cut_off(at, end)) };
        let numbers = map.numbers::<3>(at)?;
        let key = numbers[0].load(Ordering::Relaxed);
        let length = numbers[1].load(Ordering::Relaxed) as u64;
        let next = numbers[2].load(Ordering::Acquire) as u64;
        // What there is behind the three numbers. It is huge if `next` is negative or too small; and huge when turned
        // if it is no multiple of 8.
        let behind = next.wrapping_sub(TEXT);
        if behind.rotate_right(3) > room >> 3 || length > behind {
            return Err(wrong_chunk(at, key, length, next, end));
        }
        Ok(Chunk { at, key, length, next })
    }

    /// Returns where the next chunk begins.
    #[inline(always)]
    pub fn following(&self) -> u64 {
        self.at + self.next
    }

    /// Bytes that the chunk needs: less than `next` if there is a gap behind it.
    #[inline(always)]
    pub fn needs(&self) -> u64 {
        if self.key == GAP { 0 } else { own_size(self.length).min(self.next) }
    }
}

/// Private to the process: the number that leads to a chunk: `start`, or `next` of the chunk before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where the number stands.
    offset: u64,
    /// What it counts from.
    from: u64,
}

impl Link {
    /// The link of the first chunk.
    pub const FIRST: Link = Link { offset: START, from: 0 };

    /// The link of the chunk behind the one that begins here.
    #[inline(always)]
    pub fn behind(at: u64) -> Link {
        Link { offset: at + NEXT, from: at }
    }

    /// Makes the link lead to the chunk that begins here. The link of the first chunk is changed by
    /// [`Writer::link`](crate::php::writer::Writer::link), for `start` has a rule of its own.
    #[inline(always)]
    pub fn store(self, map: &Mapping, at: u64) -> Result<()> {
        map.store(self.offset, (at - self.from) as i64)
    }

    /// Returns `true` if this is the link of the first chunk.
    #[inline(always)]
    pub fn is_first(self) -> bool {
        self.offset == START
    }
}

/// Returns the first chunk with an index. What lies behind it is not looked at.
#[inline]
pub fn find(map: &Mapping, header: &Header, index: i64) -> Result<Option<Chunk>> {
    let mut at = header.start;
    while at < header.end {
        let chunk = Chunk::read(map, at, header.end)?;
        if chunk.key == index {
            return Ok((index != GAP).then_some(chunk));
        }
        at = chunk.following();
    }
    Ok(None)
}

/// Private to the process: a chunk with what stands before it.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The chunk.
    pub chunk: Chunk,
    /// Its link.
    pub link: Link,
    /// Where the chunk before it ends, without the gap behind that one.
    pub gap_at: u64,
}

/// Private to the process: what a walk over the whole chain has found.
#[derive(Clone, Copy, Debug)]
pub struct Survey {
    /// The chunk with the index.
    pub found: Option<Found>,
    /// Bytes of all gaps, the one before the first chunk among them.
    pub gaps: u64,
}

/// Walks the whole chain, checks each chunk, and looks for an index.
///
/// # Errors
/// [`Error::Corrupt`], also if the index occurs twice.
#[inline]
pub fn survey(map: &Mapping, header: &Header, index: i64) -> Result<Survey> {
    let mut found = None;
    let (mut at, mut link, mut gap_at) = (header.start, Link::FIRST, header.base());
    let mut needed = 0;
    while at < header.end {
        let chunk = Chunk::read(map, at, header.end)?;
        if chunk.key == index {
            if found.is_some() {
                return Err(twice(index, at));
            }
            found = Some(Found { chunk, link, gap_at });
        }
        let needs = chunk.needs();
        needed += needs;
        gap_at = at + needs.max(TEXT);
        link = Link::behind(at);
        at = chunk.following();
    }
    Ok(Survey { found, gaps: header.end - header.base() - needed })
}

/// Calls `with` for each chunk of the chain that is a variable, in order.
pub fn each(map: &Mapping, header: &Header, mut with: impl FnMut(Chunk) -> Result<()>) -> Result<()> {
    let mut at = header.start;
    while at < header.end {
        let chunk = Chunk::read(map, at, header.end)?;
        if chunk.key != GAP {
            with(chunk)?;
        }
        at = chunk.following();
    }
    Ok(())
}

/// Returns the error for a chunk that begins too close to `end`.
#[cold]
fn cut_off(at: u64, end: u64) -> Error {
    Error::Corrupt(format!("a variable begins at offset {at}, but the last one ends at {end}"))
}

/// Returns the error for a chunk whose numbers cannot be right.
#[cold]
fn wrong_chunk(at: u64, key: i64, length: u64, next: u64, end: u64) -> Error {
    let (length, next) = (length as i64, next as i64);
    Error::Corrupt(format!(
        "variable {key} at offset {at} says that its text has {length} bytes and that the next one is {next} bytes further, \
         but the last one ends at {end}"
    ))
}

/// Returns the error for an index that occurs twice.
#[cold]
pub fn twice(index: i64, at: u64) -> Error {
    Error::Corrupt(format!("variable {index} occurs twice, the second time at offset {at}"))
}
