//! Where the numbers of a segment stand, and the sizes of chunks: "The bytes" in `docs/php.md`.

/// The magic, as the low 7 bytes of the first number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"PHP_SM\0\0");
/// The bits of the first number that hold the magic. Nobody looks at the byte above them.
pub const MAGIC_BITS: u64 = (1 << 56) - 1;

/// Offset of `start`.
pub const START: u64 = 8;
/// Offset of `end`.
pub const END: u64 = 16;
/// Offset of `free`.
pub const FREE_BYTES: u64 = 24;
/// Offset of `total`.
pub const TOTAL: u64 = 32;
/// Bytes of the header.
pub const HEADER: u64 = 40;

/// Distance from a chunk to its length.
pub const LENGTH: u64 = 8;
/// Distance from a chunk to its `next`.
pub const NEXT: u64 = 16;
/// Distance from a chunk to its text: the bytes of its three numbers.
pub const TEXT: u64 = 24;
/// Bytes of the smallest chunk.
pub const SMALLEST: u64 = 32;

/// The index of a chunk without a value, whose room anybody may use.
pub const FREE: i64 = i64::MIN + 1;
/// The index of a chunk whose value is written and not yet published.
pub const PREPARED: i64 = i64::MIN + 2;

/// Returns `true` for the two indexes that no variable has.
#[inline(always)]
pub const fn is_reserved(index: i64) -> bool {
    index.wrapping_sub(FREE) as u64 <= 1
}

/// Bytes that `next` of PHP's own chunks says for a text of this length.
#[inline(always)]
pub const fn own_size(length: u64) -> u64 {
    (length + 32 + 7) & !7
}

const _: () = assert!(own_size(0) == 32 && own_size(1) == 40 && own_size(8) == 40 && own_size(9) == 48);
const _: () =
    assert!(is_reserved(FREE) && is_reserved(PREPARED) && !is_reserved(i64::MIN) && !is_reserved(i64::MIN + 3));
