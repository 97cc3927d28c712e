//! [`Sleep`]: what a call that waits sleeps on, and for how long. How the caller's thread sleeps is up to its
//! [`WaitPolicy`](crate::process::wait_policy::WaitPolicy).

use crate::os::futex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Private to the process: one sleep. It ends when the word is changed and its sleepers are woken, or after a slice.
/// The caller then looks again, and sleeps anew if it must.
pub struct Sleep<'a> {
    /// The word, the value that it had, and the wake bits that end the sleep.
    word: Option<(&'a AtomicU32, u32, u32)>,
    /// After this time the caller looks again.
    slice: Duration,
    /// After this time the caller's timeout is over, however it sleeps.
    at_most: Duration,
    /// Whether the sleep is mostly over within microseconds.
    short: bool,
}

impl<'a> Sleep<'a> {
    /// Makes a sleep that only time ends.
    pub fn pause(slice: Duration) -> Self {
        Sleep { word: None, slice, at_most: Duration::MAX, short: false }
    }

    /// Makes a sleep on a word while the word has this value.
    pub fn on(word: &'a AtomicU32, value: u32, slice: Duration) -> Self {
        Self::on_bits(word, value, slice, u32::MAX)
    }

    /// Makes a sleep on a word while the word has this value, ended only by a wake for one of these bits (not 0).
    pub fn on_bits(word: &'a AtomicU32, value: u32, slice: Duration, bits: u32) -> Self {
        Sleep { word: Some((word, value, bits)), ..Sleep::pause(slice) }
    }

    /// Limits the sleep to this time, however long a slice is: the caller's timeout is over then.
    pub fn at_most(self, at_most: Duration) -> Self {
        Sleep { at_most, ..self }
    }

    /// Says that what is waited for takes microseconds, unless a process is stopped.
    pub fn short(self) -> Self {
        Sleep { short: true, ..self }
    }

    #[cfg_attr(not(feature = "python"), allow(dead_code, reason = "used by wait policies of the Python extension"))]
    /// Tells whether the sleep is mostly over before it pays to do something else meanwhile.
    pub fn is_short(&self) -> bool {
        self.short
    }

    #[cfg_attr(not(feature = "python"), allow(dead_code, reason = "used by wait policies of the Python extension"))]
    /// Returns how long to sleep if each look of the caller costs more than sleeping on does: at least `slice`, but not
    /// beyond the caller's timeout.
    pub fn limit_beyond(&self, slice: Duration) -> Duration {
        self.slice.max(slice).min(self.at_most)
    }

    #[cfg_attr(not(feature = "python"), allow(dead_code, reason = "used by wait policies of the Python extension"))]
    /// Tells whether the word has changed.
    pub fn is_over(&self) -> bool {
        self.word.is_some_and(|(word, value, _)| word.load(Ordering::Acquire) != value)
    }

    /// Sleeps in the calling thread.
    pub fn sleep(&self) {
        self.sleep_within(Duration::MAX);
    }

    /// Sleeps in the calling thread, not longer than this.
    pub fn sleep_within(&self, at_most: Duration) {
        let limit = self.slice.min(self.at_most).min(at_most);
        match self.word {
            Some((word, value, u32::MAX)) => futex::wait(word, value, limit),
            Some((word, value, bits)) => futex::wait_bits(word, value, limit, bits),
            None => std::thread::sleep(limit),
        }
    }
}
