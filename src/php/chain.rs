//! The chain of chunks: walking it, and checking each chunk on the way. "What is believed" in `docs/php.md`.

use crate::error::{Error, Result};
use crate::os::sysv_shm::Mapping;
use crate::php::header::Header;
use crate::php::layout::{FREE, PREPARED, TEXT, is_reserved, own_size};
use crate::php::run::{Lengths, Run};
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
        if end - at < TEXT {
            return Err(cut_off(at, end));
        }
        let numbers = map.numbers::<3>(at)?;
        let (key, length) = (numbers[0].load(Ordering::Relaxed), numbers[1].load(Ordering::Relaxed));
        Self::checked(at, Some([key, length, numbers[2].load(Ordering::Acquire)]), end)
    }

    /// Checks the numbers of the chunk at an offset, which lies before `end`. `None` stands for numbers that `end` cuts
    /// off.
    #[inline(always)]
    pub fn checked(at: u64, numbers: Option<[i64; 3]>, end: u64) -> Result<Self> {
        let (Some([key, length, next]), Some(room)) = (numbers, (end - at).checked_sub(TEXT)) else {
            return Err(cut_off(at, end));
        };
        let (length, next) = (length as u64, next as u64);
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

    /// Bytes that a copy of the chunk takes.
    #[inline(always)]
    pub fn own(&self) -> u64 {
        own_size(self.length)
    }

    /// Bytes that are no gap: all but the slack, and none of a chunk `FREE`.
    #[inline(always)]
    pub fn needs(&self) -> u64 {
        if self.key == FREE { 0 } else { self.own().min(self.next) }
    }

    /// Where the slack of the chunk begins. A chunk `FREE` keeps its three numbers, and room for what its length says:
    /// that is more than nothing if a process was killed before it made the length zero.
    #[inline(always)]
    pub fn slack_at(&self) -> u64 {
        if self.key == FREE { self.at + TEXT + self.length.next_multiple_of(8) } else { self.at + self.needs() }
    }
}

/// Returns the first chunk with an index. What lies behind it is not looked at.
#[inline(always)]
pub fn find(map: &Mapping, header: &Header, index: i64) -> Result<Option<Chunk>> {
    let (mut at, mut run) = (header.start, Run::default());
    while at < header.end {
        let chunk = Chunk::read(map, at, header.end)?;
        if chunk.key == index {
            return Ok((!is_reserved(index)).then_some(chunk));
        }
        at = chunk.following();
        if run.goes_on(chunk.next) {
            at = run.end(map, at, header.end, &Lengths::any(chunk.next), |key| key == index)?;
        }
    }
    Ok(None)
}

/// Private to the process: a chunk with what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The chunk.
    pub chunk: Chunk,
    /// The chunk before it; `None` if it is the first.
    pub before: Option<u64>,
    /// Where the slack before it begins. It has none if it is the first.
    pub slack_at: u64,
}

/// Private to the process: a gap in which a new chunk has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The chunk whose slack it is, or a chunk `FREE`.
    pub of: u64,
    /// Where the new chunk begins: at `of` itself, or in its slack.
    pub place: u64,
    /// Where the next chunk begins.
    pub following: u64,
}

/// Private to the process: what a walk over the whole chain has found. It is large, so it is filled where it lies: to
/// move it would take a fifth of a put.
#[derive(Debug, Default)]
pub struct Survey {
    /// The first chunk with the index.
    pub found: Option<Found>,
    /// Where the second one is, if the index occurs twice.
    pub twice: Option<u64>,
    /// The first gap with room for a new chunk.
    pub fit: Option<Gap>,
    /// A chunk `PREPARED`.
    pub prepared: Option<Chunk>,
    /// Bytes of all gaps.
    pub gaps: u64,
}

/// Walks the whole chain, checks each chunk, looks for an index, and for a gap for a chunk of `own` bytes.
///
/// # Errors
/// [`Error::Corrupt`].
#[inline(always)]
pub fn survey(map: &Mapping, header: &Header, index: i64, own: u64, survey: &mut Survey) -> Result<()> {
    (survey.found, survey.twice, survey.fit, survey.prepared) = (None, None, None, None);
    let (mut last, mut run) = (0, Run::default());
    let (mut at, mut slack_at, mut needed) = (header.start, header.start, 0);
    while at < header.end {
        let chunk = Chunk::read(map, at, header.end)?;
        if chunk.key == index {
            let before = (at != header.start).then_some(last);
            match survey.found {
                None => survey.found = Some(Found { chunk, before, slack_at }),
                Some(_) => survey.twice = survey.twice.or(Some(at)),
            }
        }
        let needs = chunk.needs();
        // The gap is that of a whole chunk `FREE`, or the slack. Either begins behind what is needed.
        if chunk.next - needs >= own && survey.fit.is_none() {
            survey.fit = Some(Gap { of: at, place: at + needs, following: chunk.following() });
        }
        if chunk.key == PREPARED {
            survey.prepared = Some(chunk);
        }
        needed += needs;
        slack_at = chunk.slack_at();
        last = at;
        at = chunk.following();
        if run.goes_on(chunk.next) {
            let lengths = Lengths::without_slack(chunk.next);
            let behind = run.end(map, at, header.end, &lengths, |key| key == index || is_reserved(key))?;
            if behind > at {
                needed += behind - at;
                (last, slack_at, at) = (behind - chunk.next, behind, behind);
            }
        }
    }
    survey.gaps = header.end - header.start - needed;
    Ok(())
}

/// Calls `with` for each chunk of the chain that is a variable, in order.
pub fn each(map: &Mapping, header: &Header, mut with: impl FnMut(Chunk) -> Result<()>) -> Result<()> {
    let mut at = header.start;
    while at < header.end {
        let chunk = Chunk::read(map, at, header.end)?;
        if !is_reserved(chunk.key) {
            with(chunk)?;
        }
        at = chunk.following();
    }
    Ok(())
}

/// What helps against a damaged chain.
const REMEDY: &str = "the variables before it can still be read; clear() empties the segment, destroy() removes it";

/// Returns the error for a chunk that begins too close to `end`.
#[cold]
fn cut_off(at: u64, end: u64) -> Error {
    Error::Corrupt(format!("a variable begins at offset {at}, but the last one ends at {end}; {REMEDY}"))
}

/// Returns the error for a chunk whose numbers cannot be right.
#[cold]
fn wrong_chunk(at: u64, key: i64, length: u64, next: u64, end: u64) -> Error {
    let (length, next) = (length as i64, next as i64);
    Error::Corrupt(format!(
        "variable {key} at offset {at} says that its text has {length} bytes and that the next one is {next} bytes \
         further, but the last one ends at {end}; {REMEDY}"
    ))
}
