//! Writing the header of a segment that this process has created. "A new segment" in `docs/php.md`.

use crate::error::Result;
use crate::os::sysv_shm::Mapping;
use crate::php::header::Header;
use crate::php::layout::{END, FREE_BYTES, HEADER, MAGIC, MAGIC_BITS, START, TOTAL};

/// Returns `true` if the segment has PHP's magic.
pub fn is_formatted(map: &Mapping) -> Result<bool> {
    Ok(map.load(0)? as u64 & MAGIC_BITS == MAGIC)
}

/// Returns `true` if somebody is formatting the segment, or has done so: the magic is there, or is to come.
pub fn is_begun(map: &Mapping) -> Result<bool> {
    Ok(is_formatted(map)? || map.load(0)? == 0 && map.load(START)? == HEADER as i64)
}

/// Returns `true` if all bytes of the header are zero: its creator has not formatted the segment yet.
pub fn is_blank(map: &Mapping) -> Result<bool> {
    Ok(map.numbers::<5>(0)?.iter().all(|number| number.load(std::sync::atomic::Ordering::Relaxed) == 0))
}

/// Formats the segment, unless a PHP that has attached since then has done so.
pub fn format_new(map: &Mapping) -> Result<()> {
    if !is_formatted(map)? {
        let size = map.size() as i64;
        for (offset, number) in
            [(START, HEADER as i64), (END, HEADER as i64), (FREE_BYTES, size - HEADER as i64), (TOTAL, size)]
        {
            map.store(offset, number)?;
        }
        // SYNC, CRASH: the magic comes last. Without it nobody believes the other numbers.
        map.store(0, MAGIC as i64)?;
    }
    // A PHP that attached in between has formatted it, too, with the size that its caller gave, not the kernel's.
    let numbers = [START, END, FREE_BYTES, TOTAL].map(|offset| map.load(offset));
    let [start, end, free, total] = numbers.map(|number| number.unwrap_or(-1));
    let is_empty = start == HEADER as i64 && end == start;
    let fits = end <= total && total <= map.size() as i64 && (0..=total.wrapping_sub(end)).contains(&free);
    if is_empty && !fits {
        map.store(FREE_BYTES, 0)?;
        map.store(TOTAL, map.size() as i64)?;
        map.store(FREE_BYTES, map.size() as i64 - end)?;
    }
    Header::read(map).map(drop)
}
