//! What this process remembers of the heap to find memory sooner. All of it may be out of date: a wrong guess costs
//! time, never safety.

use crate::format::CLASSES;
use crate::os::fork::{self, ForkMutex};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Private to the process: spans that it has filled.
#[derive(Default)]
pub struct FilledSpans {
    /// By first granule, their length in granules.
    lens: HashMap<u64, u64>,
    /// The epoch of the process that has filled them. A forked child has the parent's map, but none of its pages are
    /// mapped there.
    epoch: u32,
}

impl FilledSpans {
    /// The number of spans from which on all of them are forgotten.
    const MOST: usize = 4096;

    /// Tells whether this process has filled a span that begins at this granule and is no shorter.
    pub fn has(&self, granule: u64, len: u64) -> bool {
        self.epoch == fork::epoch() && self.lens.get(&granule).is_some_and(|known| *known >= len)
    }

    /// Remembers a span.
    pub fn insert(&mut self, granule: u64, len: u64) {
        if self.lens.len() > Self::MOST || self.epoch != fork::epoch() {
            self.lens.clear();
            self.epoch = fork::epoch();
        }
        self.lens.insert(granule, len);
    }
}

/// Private to the process: guesses about the heap.
pub struct HeapHints {
    /// Spans that this process has filled: their pages are probably mapped.
    pub filled: ForkMutex<FilledSpans>,
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
