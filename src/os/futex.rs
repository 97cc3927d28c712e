//! Sleeping on a word that other processes change.

use rustix::thread::futex::{Flags, wait as futex_wait, wake as futex_wake};
use rustix::time::Timespec;
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
