//! The two ways to read a value. What follows for large values is in `decode::large`, for others in `read_only`.

/// How a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// The value is independent of the segment and may be changed.
    Own,
    /// The value is read-only, and lies over the segment's own memory where that is possible.
    View,
}
