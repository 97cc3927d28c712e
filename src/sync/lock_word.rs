//! The writer lock: one word, no pointers, taken over from the dead.
//!
//! | word | |
//! | --- | --- |
//! | 0 | free |
//! | `p + 1` | participant `p` writes |
//! | the same, bit 31 | and somebody waits |

use crate::atomic::{AtomicU32, Ordering, spin};
use crate::format::WAITERS;

/// Turns of the spin before sleeping: about a microsecond, several times what is done under the lock.
const SPINS: u32 = if cfg!(loom) { 1 } else { 60 };

/// What a waiter may do meanwhile. The process's half is in `segment::writer`; models bring their own.
pub trait Waiting {
    /// Why waiting was given up.
    type Stop;
    /// Sleeps while the word has this value, for a slice; an error gives up.
    fn sleep(&mut self, word: &AtomicU32, value: u32) -> Result<(), Self::Stop>;
    /// Takes the lock over from participant `owner` if that one is dead, and repairs. True: the lock is ours.
    fn take_over(&mut self, owner: u32) -> Result<bool, Self::Stop>;
}

/// Who owns a lock word: a participant's number.
pub fn owner(word: u32) -> Option<u32> {
    (word & !WAITERS).checked_sub(1)
}

/// Takes the lock for participant `me` if it is free.
#[inline(always)]
pub fn try_acquire(word: &AtomicU32, me: u32) -> bool {
    // SYNC: with the release in `release`: what the last owner stored is seen.
    word.compare_exchange(0, me + 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Takes the lock for participant `me`, waiting as long as `waiting` agrees.
#[inline]
pub fn acquire<W: Waiting>(word: &AtomicU32, me: u32, waiting: &mut W) -> Result<(), W::Stop> {
    if try_acquire(word, me) { Ok(()) } else { acquire_slowly(word, me, waiting) }
}

#[cold]
fn acquire_slowly<W: Waiting>(word: &AtomicU32, me: u32, waiting: &mut W) -> Result<(), W::Stop> {
    for _ in 0..SPINS {
        if word.load(Ordering::Relaxed) == 0 && try_acquire(word, me) {
            return Ok(());
        }
        spin();
    }
    loop {
        let seen = word.load(Ordering::Relaxed);
        if owner(seen).is_none() {
            // Others may sleep behind us: keep the bit, so that our release wakes one of them.
            if word.compare_exchange(seen, (me + 1) | WAITERS, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
            continue;
        }
        let marked = seen | WAITERS;
        if seen != marked && word.compare_exchange(seen, marked, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            continue;
        }
        crash_point!("waiters-marked");
        // CRASH: the owner's release wakes nobody, or another who waits.
        waiting.sleep(word, marked)?;
        if let Some(owner) = owner(word.load(Ordering::Relaxed)) {
            // Our own number is another thread of ours: alive by definition.
            if owner != me && waiting.take_over(owner)? {
                return Ok(());
            }
        }
    }
}

/// Takes the lock from the dead `owner`. The caller holds the registry lock: `owner` cannot be claimed anew meanwhile,
/// so the word names the dead one or nobody who is him.
pub fn take_from(word: &AtomicU32, dead: u32, me: u32) -> bool {
    let seen = word.load(Ordering::Relaxed);
    owner(seen) == Some(dead)
        && word.compare_exchange(seen, (me + 1) | WAITERS, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Lets go. True: somebody waits, wake one.
#[inline(always)]
#[must_use]
pub fn release(word: &AtomicU32) -> bool {
    // SYNC: SeqCst, so that a later look at a wake flag is not before it; and release, for the next owner.
    word.swap(0, Ordering::SeqCst) & WAITERS != 0
}
