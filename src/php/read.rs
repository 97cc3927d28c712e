//! Reading a variable without a lock: a private copy of its text. "What is believed" in `docs/php.md`.

use crate::error::{Error, Result};
use crate::os::mem::Scratch;
use crate::os::sysv_shm::Mapping;
use crate::php::chain::{Chunk, find};
use crate::php::header::Header;
use crate::php::layout::TEXT;
use crate::php::patience::{LOOKS, pause};
use std::sync::atomic::{Ordering, fence};

/// Of a longer text, only the ends are compared with the copy.
const SHORT: usize = 512;

/// What one look has found: the offset of the text that was copied, or that there is no such variable. The outer `None`
/// says that something changed meanwhile.
type Look = Result<Option<Option<u64>>>;

/// Copies the text of a variable, and returns its offset. Returns `None` if there is no such variable.
///
/// # Errors
/// [`Error::Incompatible`], [`Error::Corrupt`], [`Error::Memory`], and [`Error::Busy`] if it changes all the time.
#[inline]
pub fn read(map: &Mapping, index: i64, copy: &mut Scratch) -> Result<Option<u64>> {
    match look(map, index, copy) {
        Ok(Some(found)) => Ok(found),
        _ => again(index, || look(map, index, copy)),
    }
}

/// Returns `true` if there is a variable with this index.
///
/// # Errors
/// Those of [`read`].
#[inline]
pub fn has(map: &Mapping, index: i64) -> Result<bool> {
    let look = || look_for(map, index);
    let found = match look() {
        Ok(Some(found)) => found,
        _ => again(index, look)?,
    };
    Ok(found.is_some())
}

/// Looks until nothing changes meanwhile.
#[cold]
fn again(index: i64, mut look: impl FnMut() -> Look) -> Result<Option<u64>> {
    for number in 1..LOOKS {
        match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) | Err(Error::Corrupt(_)) => pause(number),
            Err(error) => return Err(error),
        }
    }
    look()?.ok_or_else(|| {
        Error::Busy(format!(
            "variable {index} could not be read: all {LOOKS} attempts were overtaken by changes; take a lock on both \
             sides (lock=)"
        ))
    })
}

/// Copies the text once.
#[inline(always)]
fn look(map: &Mapping, index: i64, copy: &mut Scratch) -> Look {
    let header = Header::read(map)?;
    let Some(chunk) = find(map, &header, index)? else { return Ok(unchanged(map, &header)?.then_some(None)) };
    let offset = chunk.at + TEXT;
    map.read_scratch(offset, chunk.length as usize, copy)?;
    // SYNC: everything above is loaded before the comparisons. Equal numbers and an equal text mean that nobody wrote
    // here between the two passes, or wrote the same again.
    fence(Ordering::Acquire);
    let same = unchanged(map, &header)?
        && Chunk::read(map, chunk.at, header.end)? == chunk
        && still_is(map, offset, copy.bytes())?;
    Ok(same.then_some(Some(offset)))
}

/// Looks for a variable once, and copies nothing.
#[inline(always)]
fn look_for(map: &Mapping, index: i64) -> Look {
    let header = Header::read(map)?;
    match find(map, &header, index)? {
        Some(chunk) => Ok(Some(Some(chunk.at))),
        None => Ok(unchanged(map, &header)?.then_some(None)),
    }
}

/// Returns `true` if the header is as it was.
#[inline(always)]
fn unchanged(map: &Mapping, header: &Header) -> Result<bool> {
    Ok(Header::read(map)? == *header)
}

/// Returns `true` if the bytes in the segment are those of the copy. Of a long one, only the ends are compared.
#[inline(always)]
fn still_is(map: &Mapping, offset: u64, copy: &[u8]) -> Result<bool> {
    if copy.len() <= SHORT {
        return map.still_is(offset, copy);
    }
    let tail = (copy.len() - 64) & !7;
    Ok(map.still_is(offset, &copy[..64])? && map.still_is(offset + tail as u64, &copy[tail..])?)
}
