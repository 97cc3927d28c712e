//! Runs of bits in bitmaps: where a run of some length begins, how long the longest one is, and ranges cut into pieces.

use crate::error::Result;
use crate::fallible;

/// Cuts the range of `len` numbers from `first` on at the multiples of `unit`. Each piece is: the number of its unit,
/// the offset of the piece in that unit, and the length of the piece.
pub fn split_at_units(first: u64, len: u64, unit: u64) -> impl Iterator<Item = (u64, u64, u64)> {
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

/// Returns a word in which `len` bits (1 to 64) from bit `first` on are set.
#[inline]
pub fn mask(first: u64, len: u64) -> u64 {
    (u64::MAX >> (64 - len)) << first
}

/// Calls `each` with every run of ones: where it begins, and how long it is. A run may continue from word to word.
/// `each` is also called with the part of a run that is known so far, and ends the search by returning `true`.
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
                // The run may go on, but it may be long enough for the caller already.
                if each(start, len) {
                    return;
                }
            }
        }
        base += 64;
    }
}

/// Returns every run of ones: where it begins, and how long it is.
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

/// Cuts the range of `len` numbers from `first` on into pieces of at most `most` numbers: first number and length.
pub fn pieces(first: u64, len: u64, most: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..len.div_ceil(most)).map(move |piece| (first + piece * most, most.min(len - piece * most)))
}

/// Returns where the first run of at least `len` ones begins, or `None` if there is no such run.
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

/// Returns the length of the longest run of ones.
pub fn longest_run(words: impl Iterator<Item = u64>) -> u64 {
    // `len`: the run that reaches up to the word that is looked at now.
    let (mut longest, mut len) = (0, 0);
    for word in words {
        if word == u64::MAX {
            len += 64;
            continue;
        }
        longest = longest.max(len + u64::from(word.trailing_ones()));
        len = u64::from(word.leading_ones());
        // Runs within the word matter only if one can be longer than the longest so far.
        let mut rest = word;
        while u64::from(rest.count_ones()) > longest {
            rest >>= rest.trailing_zeros();
            longest = longest.max(u64::from(rest.trailing_ones()));
            rest &= rest.wrapping_add(1);
        }
    }
    longest.max(len)
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
        assert_eq!(split_at_units(60, 70, 64).collect::<Vec<_>>(), [(0, 60, 4), (1, 0, 64), (2, 0, 2)]);
        assert_eq!((mask(0, 64), mask(60, 4), mask(3, 2)), (u64::MAX, 0xf << 60, 0b11000));
    }
}
