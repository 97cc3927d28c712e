//! What this process remembers of the heap to find memory sooner. All of it may be out of date: a wrong guess costs
//! time, never safety.

use crate::format::CLASSES;
use crate::os::fork::ForkMutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Private to the process: guesses about the heap.
pub struct HeapHints {
    /// Spans that this process has filled, by first granule, with their length in granules: their pages are probably
    /// mapped.
    pub filled: ForkMutex<HashMap<u64, u64>>,
    /// For each size class, the first granule of the slab that had a free block last. That slab is tried before the
    /// bitmaps are searched.
    pub slabs: [AtomicU32; CLASSES.len()],
    /// The serial number of the last change when free memory was last given back to learn how much is left.
    pub trimmed_at: AtomicU64,
    /// Bytes that this process has freed since it last looked whether too many free pages are present.
    pub freed: AtomicU64,
    /// How many bytes must be freed before the next such look.
    pub look_after_freed: AtomicU64,
}

impl Default for HeapHints {
    fn default() -> Self {
        HeapHints {
            filled: ForkMutex::default(),
            slabs: [const { AtomicU32::new(0) }; CLASSES.len()],
            trimmed_at: AtomicU64::new(0),
            freed: AtomicU64::new(0),
            look_after_freed: AtomicU64::new(0),
        }
    }
}
