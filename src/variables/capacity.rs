//! How large a value can still be stored, by the limit and by what the memory file system has left.

use crate::codec::buffers;
use crate::error::{Error, Result};
use crate::format::{CLASSES, GRANULE, INLINE_MAX, SLAB_HEAD, SLOT, ZONE, ZONE_META, lead};
use crate::process::wait_policy::WaitPolicy;
use crate::variables::Variables;
use std::sync::atomic::Ordering;

/// Where the memory file system has this many bytes more than may be charged, the limit alone decides.
const PLENTY: u64 = 1 << 20;

/// Returns the bytes of a record before its buffer, where the record has one buffer and no key.
fn one_buffer_head() -> u64 {
    (16 + 16 + buffers::BYTES.len() as u64).next_multiple_of(buffers::ALIGN)
}

impl Variables {
    /// Returns the length of the longest `bytes` object that can be stored under a new integer index, if `free` bytes
    /// may be charged. Where the memory file system decides, free memory of the segment is given back first, because
    /// only then it is known what can be had.
    pub fn largest_put(&self, free: u64, policy: &dyn WaitPolicy) -> Result<u64> {
        let by_limit = largest_bytes(free);
        if self.file_system()?.1 >= free.saturating_add(PLENTY) {
            return Ok(by_limit);
        }
        if !self.mem.writable() {
            let pages = self.file_system()?.1.saturating_add(self.warm_bytes());
            return Ok(by_limit.min(largest_bytes(pages.saturating_add(SLOT))));
        }
        if self.mem.intent().serial.load(Ordering::Relaxed) != self.heap_hints.trimmed_at.load(Ordering::Relaxed) {
            match self.trim_known(policy) {
                // A process that holds the lock for too long would hold a put up as well.
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                _ => self
                    .heap_hints
                    .trimmed_at
                    .store(self.mem.intent().serial.load(Ordering::Relaxed), Ordering::Relaxed),
            }
        }
        let writer = self.write(policy)?;
        let pages = self.file_system()?.1 / GRANULE;
        let mut most = INLINE_MAX as u64 - 5;
        for (class, size) in CLASSES.iter().enumerate().rev() {
            let size = u64::from(*size);
            // The value fits a block that is free, or the first block of a new slab.
            let fits = (SLAB_HEAD + size).div_ceil(GRANULE) <= pages;
            if fits || writer.arena().find_slab(class)?.is_some() {
                most = most.max(size - if size > 260 { 8 } else { 5 });
                break;
            }
        }
        // The value fits a span in the zones in use, or one that reaches into new zones. The metadata of new zones
        // takes memory, too.
        let in_use = pages.min(writer.arena().longest_run()?);
        let (zones, behind) = (writer.arena().zones(), writer.arena().free_at_end(u64::MAX));
        let new = 1..=pages.div_ceil(ZONE).min(self.identity.geometry.zones_max.saturating_sub(zones));
        let reaching = |new: u64| pages.saturating_sub(new * (ZONE_META / GRANULE)).min(behind + new * ZONE);
        let in_new = new.map(reaching).max().unwrap_or(0);
        let span = (in_use.max(in_new) * GRANULE).saturating_sub(lead(0, true, false) + one_buffer_head());
        if span >= buffers::LARGE_BYTES as u64 {
            most = most.max(span);
        }
        Ok(by_limit.min(most))
    }
}

/// Returns the length of the longest `bytes` object under a new integer index for which `free` bytes may be charged.
/// Its slot is charged 32 bytes. Up to 9 bytes fit the slot. In a record the pickle adds 5 or 8 bytes. In a span, as
/// the one buffer beside its pickle, the value begins at a fixed place.
pub fn largest_bytes(free: u64) -> u64 {
    // The bound is more than any value has, so nothing below overflows: `free` may be computed from what a hostile
    // process stored.
    let Some(record) = free.min(1 << 48).checked_sub(SLOT) else { return 0 };
    let record_len = |n: u64| match n {
        n if n + 5 <= INLINE_MAX as u64 => 0,
        0..256 => n + 5,
        n if n < buffers::LARGE_BYTES as u64 => n + 8,
        n => one_buffer_head() + n,
    };
    let mut most = record.saturating_sub(5).max(INLINE_MAX as u64 - 5);
    while record_len(most) > record {
        most -= 1;
    }
    most
}
