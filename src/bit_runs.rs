//! Runs of bits in bitmaps: where one of some length begins, and how long the longest is.

use crate::error::Result;
use crate::fallible;

/// The pieces of `len` numbers from `first` on, each within one unit: the unit, the first number in it, and how many.
pub fn range(first: u64, len: u64, unit: u64) -> impl Iterator<Item = (u64, u64, u64)> {
    let (mut at, end) = (first, first.saturating_add(len));
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let piece = (at / unit, at % unit, (unit - at % unit).min(end - at));
        at += piece.2;
        Some(piece)
    })
}

/// `len` bits (1 to 64) from `first` on.
#[inline]
pub fn mask(first: u64, len: u64) -> u64 {
    (u64::MAX >> (64 - len)) << first
}

/// Calls `each` with every run of ones: where it begins and how long it is. A run goes on from word to word.
fn each_run(words: impl Iterator<Item = u64>, mut each: impl FnMut(u64, u64) -> bool) {
    let (mut start, mut len, mut base) = (0, 0, 0);
    for word in words {
        let mut bit = 0;
        while bit < 64 {
            let rest = word >> bit;
            if rest & 1 == 0 {
                if len > 0 && each(start, len) {
                    return;
                }
                len = 0;
                bit += u64::from(rest.trailing_zeros()).min(64 - bit);
            } else {
                let ones = u64::from(rest.trailing_ones()).min(64 - bit);
                if len == 0 {
                    start = base + bit;
                }
                len += ones;
                bit += ones;
                // Long enough before it ends: what is asked for may be.
                if each(start, len) {
                    return;
                }
            }
        }
        base += 64;
    }
}

/// Every run of ones: where it begins and how long it is.
pub fn all_runs(words: impl Iterator<Item = u64>) -> Result<Vec<(u64, u64)>> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut outcome = Ok(());
    each_run(words, |start, len| {
        match runs.last_mut() {
            Some(last) if last.0 == start => last.1 = len,
            _ => outcome = fallible::push(&mut runs, (start, len), "a list of what is free"),
        }
        outcome.is_err()
    });
    outcome.map(|()| runs)
}

/// A run in pieces of at most so many.
pub fn pieces(first: u64, len: u64, most: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..len.div_ceil(most)).map(move |piece| (first + piece * most, most.min(len - piece * most)))
}

/// Where the first run of at least `len` ones begins.
pub fn first_run(words: impl Iterator<Item = u64>, len: u64) -> Option<u64> {
    let mut found = None;
    each_run(words, |start, run| {
        if run >= len {
            found = Some(start);
        }
        found.is_some()
    });
    found
}

/// How long the longest run of ones is.
pub fn longest_run(words: impl Iterator<Item = u64>) -> u64 {
    let mut longest = 0;
    each_run(words, |_, run| {
        longest = longest.max(run);
        false
    });
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_as_one_bit_after_the_other_finds_them() {
        let mut seed = 7_u64;
        for _ in 0..2_000 {
            let words: Vec<u64> = (0..4)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let many = seed >> 60;
                    (0..many % 5).fold(u64::MAX, |word, i| word & seed.rotate_left(i as u32 * 13))
                        | if many > 12 { u64::MAX << 20 } else { 0 }
                })
                .collect();
            let bits: Vec<bool> = (0..256).map(|i| words[i / 64] >> (i % 64) & 1 == 1).collect();
            let run_at = |at: usize| bits[at..].iter().take_while(|bit| **bit).count() as u64;
            assert_eq!(longest_run(words.iter().copied()), (0..256).map(run_at).max().unwrap());
            for len in [1, 2, 5, 40, 64, 65, 200] {
                let first = (0..256).find(|at| run_at(*at) >= len).map(|at| at as u64);
                assert_eq!(first_run(words.iter().copied(), len), first, "{words:x?} {len}");
            }
        }
    }

    #[test]
    fn ranges_are_cut_at_units() {
        assert_eq!(range(60, 70, 64).collect::<Vec<_>>(), [(0, 60, 4), (1, 0, 64), (2, 0, 2)]);
        assert_eq!((mask(0, 64), mask(60, 4), mask(3, 2)), (u64::MAX, 0xf << 60, 0b11000));
    }
}
