//! How much room a put may leave in gaps, and the error if there is too little. "Closing gaps" in `docs/php.md`.

use crate::error::{Error, Lack};
use crate::php::writer::Writer;

/// Returns `true` if so many bytes of gaps may not stay after a put.
#[inline(always)]
pub fn gaps_must_go(writer: &Writer<'_>, gaps: u64) -> bool {
    gaps > gaps_max(writer) || gaps > 0 && writer.header.free < writer.header.total / 2
}

/// Bytes of gaps that may stay after a put.
#[inline(always)]
pub fn gaps_max(writer: &Writer<'_>) -> u64 {
    writer.header.total / 32
}

/// Returns the error for a text that does not fit. `old` is the size of the variable that it would have replaced, or 0.
#[cold]
pub fn full(index: i64, needed: u64, free: u64, old: u64, writer: &Writer<'_>) -> Error {
    let is_left = match old {
        0 => "nothing was stored".to_owned(),
        old => format!("variable {index} is as it was, and its {old} bytes are counted as free"),
    };
    let others = writer.header.end - writer.header.start > old && free < writer.header.total - writer.header.start;
    let others = if others { "remove others, or " } else { "" };
    Error::Full {
        needed,
        free,
        size: writer.header.total,
        remedy: format!("{is_left}: {others}destroy the segment and make it again with more bytes"),
        lack: Lack::Other,
    }
}
