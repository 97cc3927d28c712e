//! What a process knows of the stamps of a segment that evicts by last use.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// Private to the process: what it knows of the stamps.
#[derive(Default)]
pub struct StampsHints {
    /// The binary logarithm of their number, if this process knows that so many are present. 0: it does not know yet.
    pub seen_bits: AtomicU32,
    /// How far this process has prepared a larger table: `bits << 40 |` bytes, of the table with so many bits.
    pub prepared: AtomicU64,
    /// The time on the clock of the stamps from which on a larger table is asked for again, after it could not be had.
    pub again_at: AtomicU32,
}
