//! Span.

use crate::format::SpanEntry;

/// A span that begins in one zone and ends in another, as it was seen: its head and entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LastSpan {
    pub head: u64,
    pub entry: SpanEntry,
}
