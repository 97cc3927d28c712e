//! The header of a segment: reading, checking and changing its numbers. "What is believed" in `docs/php.md`.

use crate::error::{Error, Result};
use crate::os::sysv_shm::Mapping;
use crate::php::layout::{END, FREE_BYTES, HEADER, MAGIC, MAGIC_BITS};
use std::sync::atomic::Ordering;

/// Private to the process: the numbers of a header, which were checked when they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Where the first chunk begins.
    pub start: u64,
    /// Where the last chunk ends.
    pub end: u64,
    /// Bytes that a put may use. A call that changes nothing does not look at it.
    pub free: u64,
    /// The size, as it was known when the segment was formatted.
    pub total: u64,
}

impl Header {
    /// Reads the header, and checks all but `free`.
    ///
    /// # Errors
    /// [`Error::Incompatible`] if the magic is missing; [`Error::Corrupt`] if the numbers cannot be right.
    #[inline(always)]
    pub fn read(map: &Mapping) -> Result<Self> {
        let Ok(numbers) = map.numbers::<5>(0) else { return Err(no_magic(map)) };
        let first = numbers[0].load(Ordering::Relaxed) as u64;
        // SYNC: acquire: chunks up to `end` were written before `end` was raised.
        let number = |i: usize| numbers[i].load(Ordering::Acquire) as u64;
        let (start, end, free, total) = (number(1), number(2), number(3), number(4));
        if first & MAGIC_BITS != MAGIC {
            return Err(no_magic(map));
        }
        // A number that is negative is larger than every size.
        let ordered = HEADER <= start && start <= end && end <= total && total <= map.size();
        if !ordered || (start | end) & 7 != 0 {
            return Err(wrong_numbers([start, end, free, total], map));
        }
        Ok(Header { start, end, free, total })
    }

    /// Reads the header for a call that changes something, which believes `free`, too. Nothing is stored.
    ///
    /// # Errors
    /// Those of [`Header::read`], and [`Error::Corrupt`] if `free` is negative.
    pub fn read_to_change(map: &Mapping) -> Result<Self> {
        let mut header = Self::read(map)?;
        if (header.free as i64) < 0 {
            return Err(wrong_numbers([header.start, header.end, header.free, header.total], map));
        }
        // PHP itself has more than the rest between two stores, and was killed there.
        header.free = header.usable();
        Ok(header)
    }

    /// Bytes that a put may use: `free`, but never more than there are, and none if it is negative.
    pub fn usable(&self) -> u64 {
        if (self.free as i64) < 0 { 0 } else { self.free.min(self.total - self.end) }
    }

    /// Stores `free` as [`Header::read_to_change`] has it, if the segment has another number.
    pub fn mend_free(&self, map: &Mapping) -> Result<()> {
        if map.load(FREE_BYTES)? == self.free as i64 { Ok(()) } else { map.store(FREE_BYTES, self.free as i64) }
    }

    /// Raises `end` by bytes that a chunk was written to, and lowers `free` before.
    #[inline(always)]
    pub fn raise_end(&mut self, map: &Mapping, bytes: u64) -> Result<()> {
        self.free -= bytes;
        map.store(FREE_BYTES, self.free as i64)?;
        // SYNC: this publishes the chunk. CRASH: until here, `free` is less than the rest.
        self.end += bytes;
        map.store(END, self.end as i64)
    }

    /// Lowers `end`, and raises `free` after that. The chain ends there already, or is cut off there by this.
    #[inline(always)]
    pub fn lower_end(&mut self, map: &Mapping, end: u64) -> Result<()> {
        let bytes = self.end - end;
        self.end = end;
        map.store(END, self.end as i64)?;
        // CRASH: until here, `free` is less than the rest.
        self.free += bytes;
        map.store(FREE_BYTES, self.free as i64)
    }
}

/// Returns the error for a segment without PHP's magic.
#[cold]
fn no_magic(map: &Mapping) -> Error {
    let size = map.size();
    Error::Incompatible(format!(
        "its {size} bytes do not begin with PHP's mark (PHP_SM), so shm_attach did not make it; take another key, or \
         remove it, if it is nobody's (ipcrm -m {})",
        map.id()
    ))
}

/// Returns the error for a header whose numbers cannot be right.
#[cold]
fn wrong_numbers([start, end, free, total]: [u64; 4], map: &Mapping) -> Error {
    let (size, id) = (map.size(), map.id());
    let [start, end, free, total] = [start, end, free, total].map(|number| number as i64);
    Error::Corrupt(format!(
        "its header (offset 8) is wrong: start {start}, end {end}, free {free}, total {total} of {size} bytes; remove \
         it (ipcrm -m {id}) and let it be made again"
    ))
}
