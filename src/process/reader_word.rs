//! Choosing a reader word for each thread that reads without an interpreter's lock. A participant has 64 reader words
//! in the segment; the choice is the same for all segments of the process. What the word is for stands in
//! `read_section.rs`. The protocol is "Giving back" in `docs/protocol.md`.

use crate::os::fork;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which of the 64 reader words threads of this process have: two halves, each `epoch << 32 |` a bit for each word. The
/// first word belongs to the interpreter's lock and is never a thread's.
static WORDS_IN_USE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

thread_local! {
    /// `epoch << 32 |` the number of this thread's reader word; 0 until the thread has one, [`ENDED`] when the thread
    /// ends.
    static READER_WORD: Cell<u64> = const { Cell::new(0) };
    /// Frees the reader word when the thread ends.
    static FREE_AT_END: FreeAtEnd = const { FreeAtEnd };
}

/// Stands for the reader word of a thread that ends.
const ENDED: u64 = u64::MAX;

struct FreeAtEnd;

impl Drop for FreeAtEnd {
    fn drop(&mut self) {
        let held = READER_WORD.replace(ENDED);
        let (epoch, word) = (held >> 32, held & u64::from(u32::MAX));
        if held == 0 || held == ENDED {
            return;
        }
        let half = &WORDS_IN_USE[(word / 32) as usize];
        // SYNC: release, with the acquire of the thread that takes the word next: it finds the word as this thread left
        // it.
        let _ = half.fetch_update(Ordering::Release, Ordering::Relaxed, |in_use| {
            (in_use >> 32 == epoch).then_some(in_use & !(1 << (word % 32)))
        });
    }
}

/// Returns the number of this thread's reader word, and chooses one if it has none. `None`: all words are in use, or
/// the thread ends.
pub fn reader_word_of_thread() -> Option<usize> {
    let (held, epoch) = (READER_WORD.get(), u64::from(fork::epoch()));
    // A forked child has none of its parent's other threads. Its one thread chooses a word anew.
    if held >> 32 == epoch {
        return Some((held & u64::from(u32::MAX)) as usize);
    }
    if held == ENDED {
        return None;
    }
    FREE_AT_END.try_with(|_| ()).ok()?;
    for (number, half) in WORDS_IN_USE.iter().enumerate() {
        let mut free = None;
        let updated = half.fetch_update(Ordering::Acquire, Ordering::Relaxed, |in_use| {
            let first = u64::from(number == 0);
            let bits = if in_use >> 32 == epoch { in_use & u64::from(u32::MAX) } else { first };
            free = (bits != u64::from(u32::MAX)).then_some(bits.trailing_ones());
            free.map(|bit| epoch << 32 | bits | 1 << bit)
        });
        if let (Ok(_), Some(bit)) = (updated, free) {
            let word = number as u64 * 32 + u64::from(bit);
            READER_WORD.set(epoch << 32 | word);
            return Some(word as usize);
        }
    }
    None
}
