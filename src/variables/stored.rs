//! The value that a change stores.

/// Private to the process: the bytes of a value to be stored, in parts, and how they are stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The parts, one after the other, are the value.
    pub parts: &'a [&'a [u8]],
    /// The value has out-of-band buffers (docs/format.md): it is stored in a span, however short it is.
    pub buffers: bool,
    /// When the variable expires, in nanoseconds of the clock of `os::boottime_ns`.
    pub expiry: Option<u64>,
}
