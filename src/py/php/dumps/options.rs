//! What the caller of `dumps` may choose.

/// The most that a text may be.
#[derive(Clone, Copy, Debug)]
pub struct DumpOptions {
    /// Containers inside each other.
    pub max_depth: usize,
    /// Bytes.
    pub max_size: usize,
    /// Whether the call has arguments for these two. What a segment or a queue stores has none.
    pub are_arguments: bool,
}

impl Default for DumpOptions {
    fn default() -> Self {
        DumpOptions { max_depth: 4096, max_size: DumpOptions::MOST, are_arguments: false }
    }
}

impl DumpOptions {
    /// So many bytes a text may have unless somebody asks for something else.
    pub const MOST: usize = 1 << 30;
}
