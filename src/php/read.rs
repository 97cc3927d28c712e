//! Reading a variable without a lock: a private copy of its text. "What is believed" in `docs/php.md`.

use crate::error::{Error, Result};
use crate::os::mem::Scratch;
use crate::os::sysv_shm::Mapping;
use crate::php::chain::{Chunk, find};
use crate::php::header::Header;
use crate::php::layout::TEXT;
use std::time::Duration;

/// Of a longer text, only the ends are compared with the copy.
const SHORT: usize = 512;
/// A read that finds damage looks so often: another process may be in the middle of a change.
const LOOKS: u32 = 20;
/// A read that is always overtaken by changes gives up after so many attempts.
const ATTEMPTS: u32 = 100_000;

/// Copies the text of a variable, and returns its offset. Returns `None` if there is no such variable.
#[inline]
pub fn read(map: &Mapping, index: i64, copy: &mut Scratch) -> Result<Option<u64>> {
    match attempt(map, index, copy) {
        Ok(Some(found)) => Ok(found),
        other => read_again(map, index, copy, other),
    }
}

/// Reads until what was read did not change meanwhile.
#[cold]
fn read_again(
    map: &Mapping,
    index: i64,
    copy: &mut Scratch,
    mut last: Result<Option<Option<u64>>>,
) -> Result<Option<u64>> {
    let mut looks = 0;
    for attempts in 0..ATTEMPTS {
        match last {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error @ Error::Corrupt(_)) => {
                looks += 1;
                if looks == LOOKS {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_micros(10));
            }
            Err(error) => return Err(error),
        }
        if attempts % 64 == 63 {
            std::thread::yield_now();
        }
        last = attempt(map, index, copy);
    }
    Err(Error::Busy(format!(
        "variable {index} was changed {ATTEMPTS} times while it was read: give the handles of both sides a lock (lock=)"
    )))
}

/// Reads once. Returns `None` if something changed meanwhile.
#[inline(always)]
fn attempt(map: &Mapping, index: i64, copy: &mut Scratch) -> Result<Option<Option<u64>>> {
    let header = Header::read(map)?;
    let Some(chunk) = find(map, &header, index)? else {
        return Ok((Header::read(map)? == header).then_some(None));
    };
    let offset = chunk.at + TEXT;
    map.read_scratch(offset, chunk.length as usize, copy)?;
    // SYNC: everything above is loaded before the comparisons below.
    std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
    let same = Header::read(map)? == header
        && Chunk::read(map, chunk.at, header.end)? == chunk
        && still_is(map, offset, copy.bytes())?;
    Ok(same.then_some(Some(offset)))
}

/// Returns `true` if there is a variable with this index.
#[inline]
pub fn has(map: &Mapping, index: i64) -> Result<bool> {
    for _ in 1..LOOKS {
        if let Ok(header) = Header::read(map) {
            if let Ok(found) = find(map, &header, index) {
                if found.is_some() || Header::read(map).is_ok_and(|now| now == header) {
                    return Ok(found.is_some());
                }
            }
        }
        std::thread::sleep(Duration::from_micros(10));
    }
    Ok(find(map, &Header::read(map)?, index)?.is_some())
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

/// Repeats a look at the whole segment that finds damage, for another process may be in the middle of a change.
pub fn patiently<R>(look: impl Fn() -> Result<R>) -> Result<R> {
    for _ in 1..LOOKS {
        match look() {
            Err(Error::Corrupt(_)) => std::thread::sleep(Duration::from_micros(10)),
            other => return other,
        }
    }
    look()
}
