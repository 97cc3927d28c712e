//! The value that a change stores.

/// Private to the process: the bytes of a value to be stored, in parts, and how they are stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The parts, one after the other, are the value.
    pub parts: &'a [&'a [u8]],
    /// What the bytes are.
    pub layout: Layout,
    /// When the variable expires, in nanoseconds of the clock of `os::boottime_ns`.
    pub expiry: Option<u64>,
}

/// Where the bytes of a value lie before they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueSource {
    /// In memory that this process has from its allocator: copying them waits for nothing.
    OwnMemory,
    /// Anywhere: perhaps in a file that is mapped, whose pages may have to be read first.
    Anywhere,
}

/// What the bytes of a value are ("Record" in docs/format.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A pickle.
    Pickle,
    /// A pickle and its out-of-band buffers. Such a value is stored in a span, however short it is.
    Buffers,
    /// The same with one buffer, whose bytes processes change where they lie.
    InPlace,
}
