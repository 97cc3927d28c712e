//! The hash of an index, which decides on its place in the table. The hash is keyed, so that strided or chosen indexes
//! do not cluster.
//!
//! This file is part of the format: `docs/format.md` ("Table") refers to it. The mix is the 64 x 64 -> 128 bit folded
//! multiply of the wyhash family. It resists patterns, but not an attacker that can read the hash key of the segment.

/// Multiplies to 128 bits and folds the product to 64.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// An odd constant without a pattern in its bits: 2^64 divided by the golden ratio.
const ODD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Mixed into the hash of a lock's name, so that a lock and the variable of an equal index have different hashes.
#[cfg_attr(loom, allow(dead_code, reason = "models have no table"))]
pub const LOCK_NAME_MIX: u64 = 0xD1B5_4A32_D192_ED03;

/// The same for the name of a queue, or of an item of one.
#[cfg_attr(loom, allow(dead_code, reason = "models have no table"))]
pub const QUEUE_NAME_MIX: u64 = 0x8CB9_2BA7_2F3D_8DD7;

/// Spreads the first half of a hash, which decides on the leaf, unevenly: the leaves of one depth get between two
/// thirds and four thirds of an even share.
///
/// Leaves with even shares would all be full at the same time. Each would then be replaced by a larger one, and no
/// smaller leaf would be needed that could use the memory of an old one. (After spiral storage, G. Martin 1979.)
#[cfg_attr(loom, allow(dead_code, reason = "models have no table"))]
#[inline(always)]
pub fn spread(hash: u64) -> u64 {
    let first = hash >> 32;
    let square = (first * first) >> 32;
    ((2 * first + square) / 3) << 32 | hash & u64::from(u32::MAX)
}

/// Returns the hash of an integer index.
#[cfg_attr(loom, allow(dead_code, reason = "models have no table"))]
#[inline(always)]
pub fn of_int(key: [u64; 2], index: i64) -> u64 {
    let mixed = fold(index as u64 ^ key[0], key[1] | 1) ^ (index as u64).wrapping_mul(ODD).rotate_left(32);
    // Each half of a hash is used by itself, so each half must depend on all bits.
    (mixed ^ mixed >> 32).wrapping_mul(ODD)
}

/// Returns the hash of a text index, or of any bytes.
pub fn of_bytes(key: [u64; 2], bytes: &[u8]) -> u64 {
    let mut state = key[0] ^ fold(bytes.len() as u64 ^ ODD, key[1] | 1);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = fold(state ^ u64::from_ne_bytes(word), key[1] | 1).wrapping_add(ODD);
    }
    fold(state ^ ODD, key[1] | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_indexes_spread_over_a_table() {
        let key = [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321];
        for stride in [1_i64, 2, 512, 4096, 1 << 20, 1 << 40] {
            let mut buckets = vec![0_u32; 1024];
            for i in 0..1024 {
                buckets[(of_int(key, i * stride) & 1023) as usize] += 1;
            }
            assert!(*buckets.iter().max().unwrap() < 12, "stride {stride} clusters");
            let mut leaves = vec![0_u32; 1024];
            for i in 0..1024 * 64 {
                leaves[(spread(of_int(key, i * stride)) >> 54) as usize] += 1;
            }
            let (least, most) = (leaves.iter().min().unwrap(), leaves.iter().max().unwrap());
            assert!(*least > 16 && *most < 160, "stride {stride}: {least} to {most} in a leaf, 43 to 85 expected");
        }
    }

    #[test]
    fn text_hashes_differ_by_length_and_content() {
        let key = [7, 9];
        let texts: Vec<Vec<u8>> = (0..64).map(|n| vec![0; n]).chain((0..64).map(|n| vec![n as u8; 9])).collect();
        let mut hashes: Vec<u64> = texts.iter().map(|t| of_bytes(key, t)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 127, "the nine zeros stand twice");
    }
}
