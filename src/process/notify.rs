//! Waking the threads and processes that wait for a variable or a named lock. The protocol is "Wake words", **Notify**,
//! in `docs/protocol.md`.

use crate::format::{WAKE_WORDS, WATCHER, WakeWord, WakeWordPair, at, sleeper_of};
use crate::os::futex;
use crate::process::attachment::Attachment;
use crate::sync::wake_word;
use std::sync::atomic::{Ordering, fence};

/// Wakes all sleepers, however many there are.
pub const ALL_SLEEPERS: u32 = i32::MAX as u32;
/// Wakes sleepers whatever they wait for.
const ANY: u32 = u32::MAX;

impl Attachment {
    /// Returns the wake word of the index, or of the lock's name, that has this hash.
    #[inline(always)]
    pub fn wake_word(&self, hash: u64) -> Option<&WakeWordPair> {
        self.mem.at::<WakeWordPair>(at::WAKE + hash % WAKE_WORDS * 16).ok()
    }

    /// Wakes those that wait for a variable with this hash. Called after the change, when the writer lock was released.
    #[inline(always)]
    pub fn notify_changed(&self, hash: u64) {
        if let Some(word) = self.wake_word(hash) {
            let bits = wake_word::notify(&word.changed, ANY);
            if bits != 0 {
                self.wake(&word.changed, bits, ALL_SLEEPERS, ANY);
            }
        }
    }

    /// Wakes those that wait for a named lock with this hash. Called after its release. `all`: the lock is reserved for
    /// one of the waiters, and only that one knows it, so all of them are woken. Otherwise one is.
    #[inline]
    pub fn notify_released(&self, hash: u64, all: bool) {
        if let Some(word) = self.wake_word(hash) {
            let bits = wake_word::notify(&word.released, sleeper_of(hash) | WATCHER);
            if bits != 0 {
                self.wake(&word.released, bits, if all { ALL_SLEEPERS } else { 1 }, sleeper_of(hash));
            }
        }
    }

    #[cold]
    fn wake(&self, word: &WakeWord, bits: u32, sleepers: u32, waiting_for: u32) {
        if bits & !WATCHER != 0 {
            futex::wake_bits(&word.count, sleepers, waiting_for);
        }
        if bits & WATCHER != 0 {
            let watch = &self.state().watch;
            watch.fetch_add(1, Ordering::SeqCst);
            // CRASH: no watcher is woken; each looks again after its slice.
            crash_point!("watch-counted");
            futex::wake(watch, ALL_SLEEPERS);
        }
    }

    /// Wakes all that wait for any variable or named lock.
    pub fn notify_all(&self) {
        // SYNC: as in `wake_word::notify`. There the release of the writer lock just before is the barrier; the caller
        // of this function may not have released it.
        fence(Ordering::SeqCst);
        for number in 0..WAKE_WORDS {
            let Some(word) = self.wake_word(number) else { return };
            for word in [&word.changed, &word.released] {
                let bits = wake_word::notify(word, ANY);
                if bits != 0 {
                    self.wake(word, bits, ALL_SLEEPERS, ANY);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Index, Name};

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn a_waiter_for_another_lock_of_the_same_word_stays_marked() {
        let key = crate::key::Key::text(&format!("wake-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        let att = segment.attachment().unwrap();
        let hash = |number| Name::of_lock(&Index::Int(number)).hash(att.identity.hash_key);
        let one = hash(0);
        let of_one_word = |other: &u64| other % WAKE_WORDS == one % WAKE_WORDS && sleeper_of(*other) != sleeper_of(one);
        let other = (1..).map(hash).find(of_one_word).unwrap();
        let word = &att.wake_word(one).unwrap().released;
        wake_word::mark(word, sleeper_of(one));
        wake_word::mark(word, sleeper_of(other));
        att.notify_released(other, false);
        assert_eq!(word.waits.load(Ordering::SeqCst), sleeper_of(one));
        att.notify_released(one, false);
        assert_eq!(word.waits.load(Ordering::SeqCst), 0);
        segment.destroy().unwrap();
    }
}
