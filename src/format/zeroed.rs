//! The structs of the layout, all zeros: for models, and for tests. A segment's own zeros come from the kernel.

#[cfg(loom)]
use crate::atomic::AtomicU32;
use crate::atomic::AtomicU64;
#[cfg(loom)]
use crate::format::layout::{IntentArea, SetSlotArea, SpanEditArea, State};
use crate::format::layout::{Removal, RemovalRing};

impl RemovalRing {
    /// Returns a ring of zeros, for models and tests.
    pub fn zeroed() -> Self {
        let zero = || AtomicU64::new(0);
        RemovalRing {
            removals: zero(),
            _pad: std::array::from_fn(|_| zero()),
            entries: std::array::from_fn(|_| Removal { word: zero(), index: zero() }),
        }
    }
}

#[cfg(loom)]
impl State {
    /// Returns a state of zeros, for the models.
    pub fn zeroed() -> Self {
        let (zero, half) = (|| AtomicU64::new(0), || AtomicU32::new(0));
        State {
            lock: half(),
            _lock_word: half(),
            queued: zero(),
            inserted: zero(),
            _lock_line: std::array::from_fn(|_| zero()),
            root: zero(),
            names: zero(),
            zones: zero(),
            limit: zero(),
            participants_top: half(),
            gone: half(),
            evict: half(),
            stamps: half(),
            _read_line: std::array::from_fn(|_| zero()),
            version: zero(),
            used: zero(),
            count: zero(),
            expiring: zero(),
            doomed: zero(),
            doomed_at: zero(),
            evicted: zero(),
            trims: zero(),
            many: zero(),
            batch: zero(),
            cursor: zero(),
            watch: half(),
            _watch: half(),
            retired: zero(),
            clock: half(),
            _clock: half(),
            _many_line: std::array::from_fn(|_| zero()),
        }
    }
}

#[cfg(loom)]
impl IntentArea {
    /// Returns an intent of zeros, for the models.
    pub fn zeroed() -> Self {
        let zero = || AtomicU64::new(0);
        IntentArea {
            valid: zero(),
            serial: zero(),
            slot: zero(),
            content: std::array::from_fn(|_| zero()),
            leaf: zero(),
            counts: zero(),
            root: zero(),
            names: zero(),
            zones: zero(),
            version: zero(),
            used: zero(),
            count: zero(),
            expiring: zero(),
            lengths: zero(),
            blocks: std::array::from_fn(|_| zero()),
            many: zero(),
            batch: zero(),
            cursor: zero(),
            doomed: zero(),
            doomed_at: zero(),
            words_at: zero(),
            words: zero(),
            word: std::array::from_fn(|_| zero()),
            expiry_at: zero(),
            expiry: zero(),
            queued: zero(),
            _pad: std::array::from_fn(|_| zero()),
            spans: std::array::from_fn(|_| SpanEditArea { granule: zero(), before: zero(), after: zero() }),
            set: std::array::from_fn(|_| SetSlotArea {
                slot: zero(),
                content: std::array::from_fn(|_| zero()),
                leaf: zero(),
                counts: zero(),
            }),
            set_blocks: std::array::from_fn(|_| zero()),
        }
    }
}
