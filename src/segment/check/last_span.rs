//! The span that a check met last, for the start of the next zone. Only a hint: `arena` compares it with the span map
//! before it relies on it, since the span may have changed between two holds (docs/protocol.md, "Check").

use crate::format::SpanEntry;

/// The last span that the check met: it may begin in one zone and end in the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LastSpan {
    /// The granule at which it begins.
    pub head: u64,
    /// Its entry in the span map when the check met it.
    pub entry: SpanEntry,
}
