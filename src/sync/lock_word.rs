//! The word of the writer lock: acquiring, waiting, taking over from a dead owner, releasing.
//!
//! The protocol is "The writer lock" in `docs/protocol.md`. Sleeping and the question whether an owner lives are not
//! here: the caller brings them as [`Waiting`].
//!
//! | word | meaning |
//! | --- | --- |
//! | 0 | the lock is free |
//! | `p + 1` | participant `p` owns the lock |
//! | `p + 1`, and bit 31 ([`WAITERS`]) | participant `p` owns the lock, and a thread waits for it |

use crate::atomic::{AtomicU32, Ordering, spin};
use crate::format::WAITERS;

/// Turns of the spin before a waiter sleeps. They take about a microsecond, which is several times as long as most
/// changes hold the lock.
const SPINS: u32 = if cfg!(loom) { 1 } else { 60 };

/// How a thread waits for the lock: sleeping, and taking over from a dead owner. The implementation for a process is in
/// `process/writer_wait.rs`; the loom models bring their own.
pub trait Waiting {
    /// The reason for giving up.
    type Stop;
    /// Sleeps for a slice of time while the word has this value. An error gives up waiting.
    fn sleep(&mut self, word: &AtomicU32, value: u32) -> Result<(), Self::Stop>;
    /// Takes the lock over from participant `owner` if that participant is dead, and repairs the segment. Returns
    /// `true` if the caller owns the lock now.
    fn take_over(&mut self, owner: u32) -> Result<bool, Self::Stop>;
}

/// Returns the participant number of the owner that a lock word names, or `None` if the lock is free.
pub fn owner(word: u32) -> Option<u32> {
    (word & !WAITERS).checked_sub(1)
}

/// Acquires the lock for `participant` if it is free. Returns `false` if it is not.
#[inline(always)]
pub fn try_acquire(word: &AtomicU32, participant: u32) -> bool {
    // SYNC: acquire, paired with the release in `release`: everything that the last owner stored is seen.
    word.compare_exchange(0, participant + 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Acquires the lock for `participant`, and waits for it until `waiting` gives up.
#[inline]
pub fn acquire<W: Waiting>(word: &AtomicU32, participant: u32, waiting: &mut W) -> Result<(), W::Stop> {
    if try_acquire(word, participant) { Ok(()) } else { acquire_slowly(word, participant, waiting) }
}

/// Does what [`acquire`] does where the lock was not free: spins, then sleeps until the lock is free or taken over.
#[cold]
fn acquire_slowly<W: Waiting>(word: &AtomicU32, participant: u32, waiting: &mut W) -> Result<(), W::Stop> {
    for _ in 0..SPINS {
        if word.load(Ordering::Relaxed) == 0 && try_acquire(word, participant) {
            return Ok(());
        }
        spin();
    }
    loop {
        let seen = word.load(Ordering::Relaxed);
        if owner(seen).is_none() {
            // Other threads may sleep on this word. Setting the bit makes the release of this owner wake one of them.
            if word.compare_exchange(seen, (participant + 1) | WAITERS, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
            continue;
        }
        let marked = seen | WAITERS;
        if seen != marked && word.compare_exchange(seen, marked, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            continue;
        }
        crash_point!("waiters-marked");
        // CRASH: the bit is set without this waiter. The owner's release wakes no thread, or another one that waits.
        waiting.sleep(word, marked)?;
        if let Some(owner) = owner(word.load(Ordering::Relaxed)) {
            // The word may name the number of this process, because another of its threads owns the lock. A process is
            // alive by definition to itself.
            if owner != participant && waiting.take_over(owner)? {
                return Ok(());
            }
        }
    }
}

/// Takes the lock from participant `dead` for `participant`. Returns `false` if the word does not name `dead` any more.
///
/// The caller holds the registry lock and has found `dead` to be dead. So no process can claim that number meanwhile,
/// and if the word names it, the word means the dead process.
pub fn take_from(word: &AtomicU32, dead: u32, participant: u32) -> bool {
    let seen = word.load(Ordering::Relaxed);
    owner(seen) == Some(dead)
        && word.compare_exchange(seen, (participant + 1) | WAITERS, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Releases the lock. Returns `true` if a thread waits for it; the caller must then wake one sleeper.
#[inline(always)]
#[must_use]
pub fn release(word: &AtomicU32) -> bool {
    // SYNC: release, paired with the acquire of the next owner. It is SeqCst, too, so that no later load of the marks
    // of a wake word passes this store.
    word.swap(0, Ordering::SeqCst) & WAITERS != 0
}
