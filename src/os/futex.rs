//! Futexes: sleeping on a word in shared memory, and waking the threads that sleep on it, in any process.
//!
//! Which word is slept on, and for how long, is decided elsewhere: see "The writer lock" and "Wake words" in
//! `docs/protocol.md`.

use rustix::thread::futex::{Flags, wait as futex_wait, wait_bitset, wake as futex_wake, wake_bitset};
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while the word has this value, and for `at_most` this time. It may return early for any reason, so the caller
/// must look at the word again.
pub fn wait(word: &AtomicU32, value: u32, at_most: Duration) {
    let timeout = Timespec { tv_sec: at_most.as_secs() as _, tv_nsec: at_most.subsec_nanos() as _ };
    let _ = futex_wait(word, Flags::empty(), value, Some(&timeout));
}

/// Wakes at most `count` threads that sleep on a word.
pub fn wake(word: &AtomicU32, count: u32) {
    let _ = futex_wake(word, Flags::empty(), count);
}

/// Sleeps as [`wait`] does, but only a [`wake_bits`] with one of these bits (or a [`wake`]) wakes the thread. `bits` is
/// not 0.
pub fn wait_bits(word: &AtomicU32, value: u32, at_most: Duration, bits: u32) {
    let Some(bits) = NonZeroU32::new(bits) else { return };
    // This system call takes a point in time, where that of `wait` takes a duration.
    let now = clock_gettime(ClockId::Monotonic);
    let nanos = now.tv_nsec as u64 + u64::from(at_most.subsec_nanos());
    let second = now.tv_sec as u64 + at_most.as_secs() + nanos / 1_000_000_000;
    let end = Timespec { tv_sec: second as _, tv_nsec: (nanos % 1_000_000_000) as _ };
    let _ = wait_bitset(word, Flags::empty(), value, Some(&end), bits);
}

/// Wakes at most `count` threads that sleep on a word with one of these bits. `bits` is not 0.
pub fn wake_bits(word: &AtomicU32, count: u32, bits: u32) {
    if let Some(bits) = NonZeroU32::new(bits) {
        let _ = wake_bitset(word, Flags::empty(), count, bits);
    }
}
