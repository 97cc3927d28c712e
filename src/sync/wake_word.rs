//! Wake words: a counter that waiters sleep on, and marks that say whether there are any. If there is no mark,
//! notifying costs one load.
//!
//! A waiter reads the counter, sets its mark, *then* looks whether the event that it waits for has happened, and then
//! sleeps while the counter is the same. A process that makes the event happen stores it, *then* looks at the marks.
//! One of the two sees the other. The protocol is "Wake words" in `docs/protocol.md`; sleeping and waking are in
//! `os/futex.rs`.

use crate::atomic::{Ordering, fence};
use crate::format::WakeWord;

/// Sets the marks `bits` of a word. Called by a waiter before it looks for its event. Returns the counter, on which the
/// waiter sleeps if the event has not happened.
#[inline]
pub fn mark(word: &WakeWord, bits: u32) -> u32 {
    let count = word.count.load(Ordering::SeqCst);
    word.waits.fetch_or(bits, Ordering::SeqCst);
    // CRASH: a mark without a sleeper. The next notification clears it, and wakes no thread.
    crash_point!("wake-word-marked");
    // SYNC: paired with the barrier of `notify`: the mark is set before this waiter looks for its event, and the event
    // is stored before the notifier looks at the marks.
    fence(Ordering::SeqCst);
    count
}

/// Clears those of the marks `bits` that are set, moves the counter if there were any, and returns them. The caller
/// then wakes the threads that sleep with these marks.
///
/// Called after the event was stored and the writer lock was released. The release is a SeqCst swap, which is the
/// barrier on x86-64; on other machines this function has a fence of its own.
#[inline(always)]
pub fn notify(word: &WakeWord, bits: u32) -> u32 {
    if cfg!(any(loom, not(target_arch = "x86_64"))) {
        fence(Ordering::SeqCst);
    }
    if word.waits.load(Ordering::SeqCst) & bits == 0 { 0 } else { notify_marked(word, bits) }
}

/// Does what [`notify`] does where a mark was found.
#[cold]
fn notify_marked(word: &WakeWord, bits: u32) -> u32 {
    // The other marks stay, because the threads that set them are not woken now.
    let marked = word.waits.fetch_and(!bits, Ordering::SeqCst) & bits;
    if marked != 0 {
        // CRASH: the marks are gone and the counter has not moved. The sleepers look again after their slice.
        crash_point!("mark-taken");
        // SYNC: the counter moves after the marks are cleared. A waiter that sets its mark in between has read the
        // counter before this store, so it finds that the counter has moved and does not sleep.
        word.count.fetch_add(1, Ordering::SeqCst);
        crash_point!("notified");
    }
    marked
}
