//! What this process remembers of the hash tables.

use std::sync::atomic::AtomicU64;

/// Guesses about the hash tables, private to this process.
#[derive(Default)]
pub struct TableHints {
    /// The directory's word of a leaf that could not grow for lack of memory.
    pub crowded_leaf: AtomicU64,
    /// The last roots that were found sound: of the variables, of the names.
    pub sound_roots: [AtomicU64; 2],
}
