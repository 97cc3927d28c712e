//! What the caller of `dumps` may choose.

/// The most that a text may be.
#[derive(Clone, Copy, Debug)]
pub struct DumpOptions {
    /// Containers inside each other.
    pub max_depth: usize,
    /// Bytes.
    pub max_size: usize,
}

impl Default for DumpOptions {
    fn default() -> Self {
        DumpOptions { max_depth: 4096, max_size: 1 << 30 }
    }
}
