//! What this process remembers of the heap to find memory sooner. All of it may be out of date.

use crate::format::CLASSES;
use crate::os::fork::ForkMutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Guesses about the heap, private to this process.
pub struct HeapHints {
    /// First granule and granules of spans that this process has filled: their pages are probably mapped.
    pub filled: ForkMutex<HashMap<u64, u64>>,
    /// For each size class the slab that had a free block last: looked at before the bitmaps are searched.
    pub slabs: [AtomicU32; CLASSES.len()],
    /// Serial of the last change when free memory was last given back to learn what is left.
    pub trimmed_at: AtomicU64,
    /// Bytes that this process has freed since it last looked whether too much is kept.
    pub freed: AtomicU64,
    /// So many bytes must be freed before the next look.
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
