//! Where a record begins within its span ("Record" in docs/format.md).

/// Returns the lead of a record in a span: the bytes that stay free before it. There is room for an expiry before the
/// key whether there is one or not, so the value stays where it is when it gets one. A value with buffers begins at a
/// multiple of 64.
pub fn lead(key_len: u64, has_buffers: bool, expires: bool) -> u64 {
    let gap = if has_buffers { (key_len + 8).next_multiple_of(64) - key_len - 8 } else { 0 };
    gap + if expires { 0 } else { 8 }
}
