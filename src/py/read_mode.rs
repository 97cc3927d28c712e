//! What a reader wants of a value.

/// What a reader wants of large values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// Values that are independent, and may be changed.
    Own,
    /// Read-only ones over the segment's own memory, where that can be.
    View,
}
