//! What a call that waits sleeps on.

use crate::os::futex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// One sleep: until somebody changes a word and wakes us, at most for a slice. Whoever slept looks again, and sleeps anew.
pub struct Sleep<'a> {
    /// A word, what it was, and the bits of those who wake us.
    word: Option<(&'a AtomicU32, u32, u32)>,
    slice: Duration,
    at_most: Duration,
    short: bool,
}

impl<'a> Sleep<'a> {
    /// Time alone.
    pub fn pause(slice: Duration) -> Self {
        Sleep { word: None, slice, at_most: Duration::MAX, short: false }
    }

    /// On a word while it has this value.
    pub fn on(word: &'a AtomicU32, value: u32, slice: Duration) -> Self {
        Self::on_bits(word, value, slice, u32::MAX)
    }

    /// The same, woken only by who wakes one of these bits (not 0).
    pub fn on_bits(word: &'a AtomicU32, value: u32, slice: Duration, bits: u32) -> Self {
        Sleep { word: Some((word, value, bits)), ..Sleep::pause(slice) }
    }

    /// Not longer than this, whoever sleeps however: the caller's time is up then.
    pub fn at_most(self, at_most: Duration) -> Self {
        Sleep { at_most, ..self }
    }

    /// For what takes microseconds, unless somebody is stopped.
    pub fn short(self) -> Self {
        Sleep { short: true, ..self }
    }

    #[cfg_attr(not(feature = "python"), allow(dead_code, reason = "for who sleeps in another way"))]
    /// Is it mostly over before it pays to do something else meanwhile?
    pub fn is_short(&self) -> bool {
        self.short
    }

    #[cfg_attr(not(feature = "python"), allow(dead_code, reason = "for who sleeps in another way"))]
    /// How long it may take where each look costs more than sleeping on does.
    pub fn limit_beyond(&self, slice: Duration) -> Duration {
        self.slice.max(slice).min(self.at_most)
    }

    #[cfg_attr(not(feature = "python"), allow(dead_code, reason = "for who sleeps in another way"))]
    /// Has the word changed?
    pub fn is_over(&self) -> bool {
        self.word.is_some_and(|(word, value, _)| word.load(Ordering::Acquire) != value)
    }

    /// Sleeps in the calling thread.
    pub fn sleep(&self) {
        self.sleep_within(Duration::MAX);
    }

    /// The same, not longer than this.
    pub fn sleep_within(&self, at_most: Duration) {
        let limit = self.slice.min(self.at_most).min(at_most);
        match self.word {
            Some((word, value, u32::MAX)) => futex::wait(word, value, limit),
            Some((word, value, bits)) => futex::wait_bits(word, value, limit, bits),
            None => std::thread::sleep(limit),
        }
    }
}
