//! Runs: chunks of one size that follow each other without gaps, as equal values leave them. A walk of single steps
//! waits for each `next` before it can load the chunk behind it. In a run, where that is going to be is known before,
//! so the processor loads several chunks at once; `next` is compared with what was expected.

use crate::error::Result;
use crate::os::sysv_shm::Mapping;
use crate::php::layout::TEXT;
use std::sync::atomic::Ordering;

/// After so many chunks of one size, the next ones are expected to be like them. A test has few chunks.
const ALIKE: u32 = if cfg!(test) { 1 } else { 8 };

/// Private to the process: how a walk has gone so far.
#[derive(Default)]
pub struct Run {
    next: u64,
    alike: u32,
}

/// Private to the process: which chunks of a run a walk may pass over.
pub struct Lengths {
    least: u64,
    most: u64,
}

impl Lengths {
    /// Texts of any length.
    #[inline(always)]
    pub fn any(next: u64) -> Self {
        Lengths { least: 0, most: next - TEXT }
    }

    /// Texts that leave no slack.
    #[inline(always)]
    pub fn without_slack(next: u64) -> Self {
        Lengths { least: next.saturating_sub(39), most: next - TEXT }
    }
}

impl Run {
    /// Takes note of the `next` of a chunk that was checked. Returns `true` if the chunks behind it are expected to be
    /// like it.
    #[inline(always)]
    pub fn goes_on(&mut self, next: u64) -> bool {
        self.alike = if next == self.next { self.alike + 1 } else { 0 };
        self.next = next;
        self.alike >= ALIKE
    }

    /// Returns where the first chunk from `at` on begins that is not like those before: by its `next`, by its length,
    /// or because `other` says so of its key. All before it were checked as `Chunk::read` does.
    #[inline(always)]
    pub fn end(
        &mut self,
        map: &Mapping,
        at: u64,
        end: u64,
        lengths: &Lengths,
        other: impl Fn(i64) -> bool,
    ) -> Result<u64> {
        // It is at least `TEXT`, and a multiple of 8. All chunks that are looked at end at or before `end`.
        let next = self.next;
        let numbers = map.many_numbers(at, (end - at) / next * (next / 8))?;
        let spread = lengths.most - lengths.least;
        let mut passed = 0;
        for chunk in numbers.chunks_exact((next / 8).max(3) as usize) {
            let key = chunk[0].load(Ordering::Relaxed);
            let length = chunk[1].load(Ordering::Relaxed) as u64;
            // SYNC: acquire, as in `Chunk::read`: what the chunk behind it holds is loaded after this.
            let differs = chunk[2].load(Ordering::Acquire) as u64 ^ next;
            if other(key) || differs != 0 || length.wrapping_sub(lengths.least) > spread {
                break;
            }
            passed += next;
        }
        if passed < u64::from(ALIKE) * next {
            self.alike = 0;
        }
        Ok(at + passed)
    }
}
