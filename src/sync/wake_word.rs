//! What waiters sleep on: a count of rings and a mark that somebody sleeps. Who rings where nobody sleeps loads one word.
//!
//! A waiter reads the count, marks the word, *then* looks whether what it waits for has come, then sleeps while the count
//! is what it was. Who makes it come stores it, *then* looks at the mark. One of them sees the other.

use crate::atomic::{Ordering, fence};
use crate::format::WakeWord;

/// Marks a word before the look and the sleep. Returns the count to sleep on.
#[inline]
pub fn mark(word: &WakeWord, bits: u32) -> u32 {
    let rings = word.count.load(Ordering::SeqCst);
    word.waits.fetch_or(bits, Ordering::SeqCst);
    // CRASH: a mark without a sleeper: one ring for nobody takes it away.
    crash_point!("wake-word-marked");
    // SYNC: with the barrier of `ring`: our mark is set before we look, what we look for is stored before it looks.
    fence(Ordering::SeqCst);
    rings
}

/// Who of these waits? Called after what they wait for was stored and the writer lock was let go: by a SeqCst swap, which on
/// x86-64 is the barrier; elsewhere there is one of its own.
#[inline(always)]
pub fn notify(word: &WakeWord, those: u32) -> u32 {
    if cfg!(any(loom, not(target_arch = "x86_64"))) {
        fence(Ordering::SeqCst);
    }
    if word.waits.load(Ordering::SeqCst) & those == 0 { 0 } else { notify_marked(word, those) }
}

#[cold]
fn notify_marked(word: &WakeWord, those: u32) -> u32 {
    // The others' marks stay: nobody wakes them now.
    let bits = word.waits.fetch_and(!those, Ordering::SeqCst) & those;
    if bits != 0 {
        // CRASH: between the two the mark is gone: the sleepers look again after their slice.
        crash_point!("mark-taken");
        // SYNC: after the mark: who marks anew and reads the count before this sleeps on a count that has moved.
        word.count.fetch_add(1, Ordering::SeqCst);
        crash_point!("notified");
    }
    bits
}
