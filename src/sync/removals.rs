//! The ring of the last removals: what the table cannot tell a process that wants to hear of every change, for what was
//! removed has no slot any more.
//!
//! Whoever holds the writer lock notes a removal before its commit. Readers look without a lock. The protocol is
//! "Changes" in `docs/protocol.md`, the bytes are "Removals" in `docs/format.md`.

use crate::atomic::{Ordering, fence};
use crate::format::{REMOVALS, RemovalRing};

/// So many of the last removals can be read. The place of one more may be that of the next removal, which is being
/// stored.
pub const HELD: u64 = REMOVALS as u64 - 1;

/// Set in [`Noted::what`]: every variable was removed.
const ALL: u64 = 2;
/// Set if the index is text, and `index` its hash.
const TEXT: u64 = 1;
const VERSION_SHIFT: u32 = 2;

/// Private to the process: a removal as it was noted. It need not have happened: its process may have died before the
/// commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The version of the removal.
    pub version: u64,
    /// The integer index, or the hash of the text index.
    pub index: u64,
    what: u64,
}

impl Noted {
    /// Makes the removal of a variable.
    pub fn of_variable(version: u64, index: u64, text: bool) -> Self {
        Noted { version, index, what: if text { TEXT } else { 0 } }
    }

    /// Makes the removal of every variable.
    pub fn of_all(version: u64) -> Self {
        Noted { version, index: 0, what: ALL }
    }

    /// Returns `true` if every variable was removed.
    pub fn is_all(&self) -> bool {
        self.what & ALL != 0
    }

    /// Returns `true` if the index is text.
    pub fn is_text(&self) -> bool {
        self.what & TEXT != 0
    }
}

/// Notes a removal. The caller holds the writer lock, and commits the removal afterwards.
pub fn note(ring: &RemovalRing, removal: Noted) {
    let number = ring.removals.load(Ordering::Relaxed);
    let entry = &ring.entries[number as usize % REMOVALS];
    entry.word.store(0, Ordering::Relaxed);
    // SYNC: release, with the acquire fence of `read`: a reader that sees a byte of this removal sees that its number
    // is in use.
    fence(Ordering::Release);
    entry.index.store(removal.index, Ordering::Relaxed);
    entry.word.store(removal.version << VERSION_SHIFT | removal.what, Ordering::Release);
    // CRASH: the oldest removal is overwritten, and this one not counted. Nobody reads that place.
    crash_point!("removal-noted");
    // SYNC: release, with the acquire of `count`: a reader that knows the number sees the entry.
    ring.removals.store(number.wrapping_add(1), Ordering::Release);
    // CRASH: the removal is noted and not made. Readers find the variable where it was, and pass the entry over.
    crash_point!("removal-counted");
}

/// Returns the number of the next removal.
pub fn count(ring: &RemovalRing) -> u64 {
    ring.removals.load(Ordering::Acquire)
}

/// Reads a removal by its number. `None`: the ring does not hold it any more.
pub fn read(ring: &RemovalRing, number: u64) -> Option<Noted> {
    let entry = &ring.entries[number as usize % REMOVALS];
    let word = entry.word.load(Ordering::Relaxed);
    let index = entry.index.load(Ordering::Relaxed);
    // SYNC: acquire, with the release fence of `note`: if any of this is of a later removal, its number is counted, or
    // is the next one, which `HELD` leaves out.
    fence(Ordering::Acquire);
    let age = ring.removals.load(Ordering::Relaxed).wrapping_sub(number);
    let held = (1..=HELD).contains(&age) && word != 0;
    held.then_some(Noted { version: word >> VERSION_SHIFT, index, what: word & (ALL | TEXT) })
}
