//! How much more can be stored: by the limit, and by what the memory file system has left.

use crate::codec::buffers;
use crate::error::{Error, Result};
use crate::format::{CLASSES, GRANULE, INLINE_MAX, SLAB_HEAD, SLOT, ZONE, ZONE_META};
use crate::os::object;
use crate::process::wait_policy::WaitPolicy;
use crate::variables::Variables;
use std::sync::atomic::Ordering;

/// Where the memory file system has so much more than may be charged, it decides nothing.
const PLENTY: u64 = 1 << 20;

/// Bytes of a record with one buffer before that.
fn head() -> u64 {
    (16 + 16 + buffers::BYTES.len() as u64).next_multiple_of(buffers::ALIGN)
}

impl Variables {
    /// The longest `bytes` that can be stored under a new integer index, where so much may be charged. Where the memory file
    /// system decides, what is free here is given back first: only then it is known what can be had.
    pub fn largest_put(&self, free: u64, policy: &dyn WaitPolicy) -> Result<u64> {
        let by_limit = largest_bytes(free);
        if object::file_system()?.1 >= free.saturating_add(PLENTY) {
            return Ok(by_limit);
        }
        if !self.mem.writable() {
            let pages = object::file_system()?.1.saturating_add(self.warm());
            return Ok(by_limit.min(largest_bytes(pages.saturating_add(SLOT))));
        }
        if self.mem.intent().serial.load(Ordering::Relaxed) != self.heap_hints.trimmed_at.load(Ordering::Relaxed) {
            match self.trim_known(policy) {
                // Whoever holds it up does so for a put, too.
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                _ => self
                    .heap_hints
                    .trimmed_at
                    .store(self.mem.intent().serial.load(Ordering::Relaxed), Ordering::Relaxed),
            }
        }
        let writer = self.write(policy)?;
        let pages = object::file_system()?.1 / GRANULE;
        let mut most = INLINE_MAX as u64 - 5;
        for (class, size) in CLASSES.iter().enumerate().rev() {
            let size = u64::from(*size);
            // A block that is there, or the first one of a new slab.
            let fits = (SLAB_HEAD + size).div_ceil(GRANULE) <= pages;
            if fits || writer.arena().find_slab(class)?.is_some() {
                most = most.max(size - if size > 260 { 8 } else { 5 });
                break;
            }
        }
        // A span in the zones in use, or one that reaches into new ones, whose metadata takes memory, too.
        let call_guard = pages.min(writer.arena().longest_run()?);
        let (zones, behind) = (writer.arena().zones(), writer.arena().free_behind(u64::MAX));
        let new = 1..=pages.div_ceil(ZONE).min(self.identity.geometry.zones_max.saturating_sub(zones));
        let reaching = |new: u64| pages.saturating_sub(new * (ZONE_META / GRANULE)).min(behind + new * ZONE);
        let allow_threads = new.map(reaching).max().unwrap_or(0);
        let span = (call_guard.max(allow_threads) * GRANULE).saturating_sub(head());
        if span >= buffers::LARGE_BYTES as u64 {
            most = most.max(span);
        }
        Ok(by_limit.min(most))
    }
}

/// Most bytes that a `bytes` value of a new integer index may have, where `room` bytes may be charged: its slot is 32; 9 and
/// less fit that; in a record the pickle adds 5 or 8; in a span, as the one buffer beside its pickle, it begins at a fixed place.
pub fn largest_bytes(room: u64) -> u64 {
    // More than any value has, so that nothing below overflows: the room may be what somebody else wrote.
    let Some(record) = room.min(1 << 48).checked_sub(SLOT) else { return 0 };
    let record_len = |n: u64| match n {
        n if n + 5 <= INLINE_MAX as u64 => 0,
        0..256 => n + 5,
        n if n < buffers::LARGE_BYTES as u64 => n + 8,
        n => head() + n,
    };
    let mut most = record.saturating_sub(5).max(INLINE_MAX as u64 - 5);
    while record_len(most) > record {
        most -= 1;
    }
    most
}
