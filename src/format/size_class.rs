//! Size classes: the block sizes of slabs, and how many granules and blocks a slab of each class has.
//!
//! A record of at most [`RECORD_MAX`] bytes lies in a block of the smallest class that holds it. See "Slab" in
//! `docs/format.md`.

use crate::format::span_entry::GRANULE;

/// Bytes of the bitmap at the start of a slab.
pub const SLAB_HEAD: u64 = 64;
/// The block size of each class, in bytes. A step is at most a sixth of the larger size (8 bytes for the smallest
/// classes), so that no record wastes more of its block. The larger sizes are the results of dividing a slab into equal
/// blocks.
pub const CLASSES: [u16; 67] = [
    32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 144, 160, 176, 192, 208, 224, 240, 256, 280, 320, 360, 392,
    424, 464, 504, 560, 624, 680, 736, 816, 904, 960, 1016, 1088, 1160, 1248, 1360, 1480, 1632, 1808, 2040, 2336, 2512,
    2728, 2976, 3272, 3632, 4088, 4672, 5032, 5456, 5952, 6544, 7272, 8184, 9352, 10072, 10912, 11904, 13096, 14552,
    16376, 18712, 21832,
];
/// The largest record that is stored in a block of a slab, in bytes. A larger one takes a span of its own.
pub const RECORD_MAX: u64 = 21_832;

/// Returns the length of a slab of this class, in granules.
#[inline(always)]
pub const fn slab_granules(class: usize) -> u64 {
    match CLASSES[class] {
        0..=2_040 => 4,
        2_041..=8_184 => 16,
        _ => 32,
    }
}

/// Returns `true` if all pages of a slab of this class are obtained before the slab is made. In slabs of the other
/// classes a page is obtained before the first block on it is used.
#[inline(always)]
pub const fn slab_has_all_pages(class: usize) -> bool {
    CLASSES[class] <= 504
}

/// Returns the number of blocks in a slab of this class, at most 512.
#[inline(always)]
pub fn blocks_of(class: usize) -> u64 {
    u64::from(BLOCKS[class])
}

/// The results of [`blocks_of`] as a table: a lookup costs less than a division, and each change needs several.
const BLOCKS: [u16; CLASSES.len()] = {
    let mut blocks = [0; CLASSES.len()];
    let mut class = 0;
    while class < CLASSES.len() {
        let blocks_in = (slab_granules(class) * GRANULE - SLAB_HEAD) / CLASSES[class] as u64;
        blocks[class] = if blocks_in > 512 { 512 } else { blocks_in as u16 };
        class += 1;
    }
    blocks
};

/// The class of short records, by their length in units of 8 bytes, rounded up.
const CLASS_OF_WORDS: [u8; 65] = {
    let mut table = [0; 65];
    let mut words = 0;
    while words < table.len() {
        let mut class = 0;
        while (CLASSES[class] as usize) < words * 8 {
            class += 1;
        }
        table[words] = class as u8;
        words += 1;
    }
    table
};

/// Returns the smallest class whose blocks hold `len` bytes (at most [`RECORD_MAX`]).
#[inline]
pub fn class_of(len: u64) -> usize {
    if len <= 512 {
        return CLASS_OF_WORDS[len.div_ceil(8) as usize] as usize;
    }
    CLASSES.partition_point(|&size| u64::from(size) < len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_grow_and_fit_a_slab() {
        assert!(CLASSES.windows(2).all(|w| w[0] < w[1]) && CLASSES.iter().all(|c| c % 8 == 0));
        for (class, &size) in CLASSES.iter().enumerate() {
            assert_eq!(class_of(u64::from(size)), class);
            assert!(blocks_of(class) >= 1 && blocks_of(class) <= 512);
            assert!(SLAB_HEAD + blocks_of(class) * u64::from(size) <= slab_granules(class) * GRANULE);
        }
        for len in 0..=RECORD_MAX {
            assert_eq!(class_of(len), CLASSES.partition_point(|&size| u64::from(size) < len), "{len}");
        }
    }
}
