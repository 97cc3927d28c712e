//! What this process remembers of the hash tables. All of it may be out of date: a wrong guess costs time, never
//! safety.

use std::sync::atomic::AtomicU64;

/// Private to the process: guesses about the hash tables.
#[derive(Default)]
pub struct TableHints {
    /// The directory's word of the leaf that could not grow for lack of memory.
    pub crowded_leaf: AtomicU64,
    /// The roots that were last found sound: that of the variables, that of the names.
    pub sound_roots: [AtomicU64; 2],
    /// The word of the leaf of the names for which there was no memory for a smaller one.
    pub sparse_leaf: AtomicU64,
}
