//! The header of a segment: reading, checking and changing its numbers. "What is believed" in `docs/php.md`.

use crate::error::{Error, Result};
use crate::os::sysv_shm::Mapping;
use crate::php::layout::{
    END, FREE, FREE_IS_REST, HEADER, MAGIC, MAGIC_BITS, MARKS_SHIFT, START_IS_OURS, TOTAL, UNFINISHED,
};
use std::sync::atomic::Ordering;

/// Private to the process: the numbers of a header, which were checked when they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The marks, or 0 if the byte holds something else.
    pub marks: u8,
    /// Where the first chunk begins.
    pub start: u64,
    /// Where the last chunk ends.
    pub end: u64,
    /// Bytes that a put may use.
    pub free: u64,
    /// The size, as it was known when the segment was formatted.
    pub total: u64,
}

impl Header {
    /// Reads the header and checks it.
    ///
    /// # Errors
    /// [`Error::Incompatible`] if the magic is missing; [`Error::Corrupt`] if the numbers cannot be right.
    #[inline(always)]
    pub fn read(map: &Mapping) -> Result<Self> {
        let Ok(numbers) = map.numbers::<5>(0) else { return Err(no_magic(map)) };
        let first = numbers[0].load(Ordering::Relaxed) as u64;
        // SYNC: acquire: chunks up to `end` were written before `end` was raised.
        let [start, end, free, total] = [1, 2, 3, 4].map(|i| numbers[i].load(Ordering::Acquire) as u64);
        if first & MAGIC_BITS != MAGIC {
            return Err(no_magic(map));
        }
        let marks = (first >> MARKS_SHIFT) as u8;
        // A number that is negative is larger than every size.
        let ordered = HEADER <= start && start <= end && end <= total && total <= map.size();
        if !ordered || free > total - end || start & 7 != 0 {
            return Err(wrong_numbers([start, end, free, total], map.size()));
        }
        let marks = if marks & !(UNFINISHED | START_IS_OURS | FREE_IS_REST) == 0 { marks } else { 0 };
        Ok(Header { marks, start, end, free, total })
    }

    /// Returns `true` if the bytes between the header and `start` belong to no other program.
    #[inline(always)]
    pub fn owns_start(&self) -> bool {
        self.start == HEADER || self.marks & START_IS_OURS != 0
    }

    /// Returns where the first chunk would begin if there were no gaps.
    #[inline(always)]
    pub fn base(&self) -> u64 {
        if self.owns_start() { HEADER } else { self.start }
    }

    /// Stores the marks.
    #[inline(always)]
    pub fn set_marks(&mut self, map: &Mapping, marks: u8) -> Result<()> {
        if self.marks != marks {
            map.store(0, (MAGIC | u64::from(marks) << MARKS_SHIFT) as i64)?;
            self.marks = marks;
        }
        Ok(())
    }

    /// Marks that a change is under way.
    #[inline(always)]
    pub fn begin(&mut self, map: &Mapping) -> Result<()> {
        let rest = if self.free == self.total - self.end { FREE_IS_REST } else { 0 };
        self.set_marks(map, self.marks & START_IS_OURS | UNFINISHED | rest)
    }

    /// Marks that no change is under way.
    #[inline(always)]
    pub fn finish(&mut self, map: &Mapping) -> Result<()> {
        let ours = if self.start == HEADER { 0 } else { self.marks & START_IS_OURS };
        self.set_marks(map, ours)
    }

    /// Raises `end` by bytes that a chunk was written to, and lowers `free` before.
    #[inline(always)]
    pub fn raise_end(&mut self, map: &Mapping, bytes: u64) -> Result<()> {
        self.free -= bytes;
        map.store(FREE, self.free as i64)?;
        // SYNC: this publishes the chunk. CRASH: until here, `free` is less than the rest.
        self.end += bytes;
        map.store(END, self.end as i64)
    }

    /// Lowers `end`, and raises `free` after that. The chunk before it ends there already.
    #[inline(always)]
    pub fn lower_end(&mut self, map: &Mapping, end: u64) -> Result<()> {
        let bytes = self.end - end;
        self.end = end;
        map.store(END, self.end as i64)?;
        // CRASH: until here, `free` is less than the rest.
        self.free += bytes;
        map.store(FREE, self.free as i64)
    }
}

/// Returns the error for a segment without PHP's magic.
#[cold]
fn no_magic(map: &Mapping) -> Error {
    Error::Incompatible(format!(
        "its {} bytes do not begin with PHP's mark (PHP_SM), so shm_attach did not make it",
        map.size()
    ))
}

/// Returns the error for a header whose numbers cannot be right.
#[cold]
fn wrong_numbers([start, end, free, total]: [u64; 4], size: u64) -> Error {
    let [start, end, free, total] = [start, end, free, total].map(|number| number as i64);
    Error::Corrupt(format!(
        "its header is wrong: start {start}, end {end}, free {free}, total {total} of {size} bytes (offset {TOTAL} and \
         before)"
    ))
}
