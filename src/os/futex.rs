//! Sleeping on a word that other processes change.

use rustix::thread::futex::{Flags, wait as futex_wait, wait_bitset, wake as futex_wake, wake_bitset};
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while the word has this value, at most so long. Returns for any reason at all: look again.
pub fn wait(word: &AtomicU32, value: u32, at_most: Duration) {
    let timeout = Timespec { tv_sec: at_most.as_secs() as _, tv_nsec: at_most.subsec_nanos() as _ };
    let _ = futex_wait(word, Flags::empty(), value, Some(&timeout));
}

/// Wakes at most `count` sleepers.
pub fn wake(word: &AtomicU32, count: u32) {
    let _ = futex_wake(word, Flags::empty(), count);
}

/// The same, woken only by who wakes one of these bits (not 0).
pub fn wait_for(word: &AtomicU32, value: u32, at_most: Duration, bits: u32) {
    let Some(bits) = NonZeroU32::new(bits) else { return };
    // This one takes a moment, not a duration.
    let now = clock_gettime(ClockId::Monotonic);
    let nanos = now.tv_nsec as u64 + u64::from(at_most.subsec_nanos());
    let second = now.tv_sec as u64 + at_most.as_secs() + nanos / 1_000_000_000;
    let end = Timespec { tv_sec: second as _, tv_nsec: (nanos % 1_000_000_000) as _ };
    let _ = wait_bitset(word, Flags::empty(), value, Some(&end), bits);
}

/// Wakes at most `count` sleepers of these bits (not 0).
pub fn wake_those(word: &AtomicU32, count: u32, bits: u32) {
    if let Some(bits) = NonZeroU32::new(bits) {
        let _ = wake_bitset(word, Flags::empty(), count, bits);
    }
}
