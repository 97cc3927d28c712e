//! Where the numbers of a segment stand, and the sizes of chunks: "The bytes" in `docs/php.md`.

/// The magic, as the low 7 bytes of the first number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"PHP_SM\0\0");
/// The bits of the first number that hold the magic. The byte above them holds the marks.
pub const MAGIC_BITS: u64 = (1 << MARKS_SHIFT) - 1;
/// Where the marks begin in the first number.
pub const MARKS_SHIFT: u32 = 56;

/// A change is under way.
pub const UNFINISHED: u8 = 1;
/// The bytes between the header and `start` are free.
pub const START_IS_OURS: u8 = 2;
/// Before the change that is under way, `free` was everything behind `end`.
pub const FREE_IS_REST: u8 = 4;

/// Offset of `start`.
pub const START: u64 = 8;
/// Offset of `end`.
pub const END: u64 = 16;
/// Offset of `free`.
pub const FREE: u64 = 24;
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

/// The index of a chunk that is a gap. No variable has it.
pub const GAP: i64 = i64::from_le_bytes(*b"PHP gap\x80");

/// Bytes that `next` of PHP's own chunks says for a text of this length.
#[inline(always)]
pub const fn own_size(length: u64) -> u64 {
    (length + 32 + 7) & !7
}

const _: () = assert!(own_size(0) == 32 && own_size(1) == 40 && own_size(8) == 40 && own_size(9) == 48);
