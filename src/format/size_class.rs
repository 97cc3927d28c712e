//! Sizes of blocks: which slab a short record lies in, and how many blocks that slab has.

use crate::format::span_entry::GRANULE;

/// Bytes of a slab's bitmap.
pub const SLAB_HEAD: u64 = 64;
/// Block sizes of slabs: a step is at most a sixth, so that no record wastes more of its block. The larger ones are what so many
/// equal blocks of a slab come to.
pub const CLASSES: [u16; 67] = [
    32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 144, 160, 176, 192, 208, 224, 240, 256, 280, 320, 360, 392,
    424, 464, 504, 560, 624, 680, 736, 816, 904, 960, 1016, 1088, 1160, 1248, 1360, 1480, 1632, 1808, 2040, 2336, 2512,
    2728, 2976, 3272, 3632, 4088, 4672, 5032, 5456, 5952, 6544, 7272, 8184, 9352, 10072, 10912, 11904, 13096, 14552,
    16376, 18712, 21832,
];
/// Largest record of a slab; a larger one takes a span.
pub const RECORD_MAX: u64 = 21_832;

/// Granules of a slab of this class.
#[inline(always)]
pub const fn slab_granules(class: usize) -> u64 {
    match CLASSES[class] {
        0..=2_040 => 4,
        2_041..=8_184 => 16,
        _ => 32,
    }
}

/// Are all pages of such a slab obtained before it is one?
#[inline(always)]
pub const fn slab_is_whole(class: usize) -> bool {
    CLASSES[class] <= 504
}

/// Blocks of a slab of this class.
#[inline(always)]
pub fn blocks_of(class: usize) -> u64 {
    u64::from(BLOCKS[class])
}

/// Looked up, not divided: it is asked several times in every change.
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

/// Class by eighths of the length, for short records.
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

/// The smallest class that holds `len` bytes (at most [`RECORD_MAX`]).
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
