//! What a change stores: the bytes of a value, in parts.

/// What a put stores: the parts of a value's bytes, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Together they are the value.
    pub parts: &'a [&'a [u8]],
    /// It is a record with out-of-band buffers (docs/format.md): a span, however short.
    pub buffers: bool,
    /// When it expires, on the clock of `os::boottime_ns`.
    pub expiry: Option<u64>,
}
