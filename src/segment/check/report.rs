//! The result of a check. Nothing here looks at a segment: the other files of this folder fill the report in. What
//! `undecided` means is in docs/protocol.md, "Check".

/// What a check counted.
///
/// A plain report for callers: one public field for each number, hence so many of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Report {
    /// Variables.
    pub variables: u64,
    /// Bytes that the variables are charged.
    pub used: u64,
    /// Named locks that are held, or reserved for a waiter.
    pub locks: u64,
    /// Slots of all leaves, whether in use or not.
    pub slots: u64,
    /// Slots whose variable or lock was removed.
    pub tombstones: u64,
    /// Zones in use.
    pub zones: u64,
    /// Slabs.
    pub slabs: u64,
    /// Blocks in use, in all slabs.
    pub blocks: u64,
    /// Spans that hold a value.
    pub live: u64,
    /// Spans that a participant is filling or freeing.
    pub busy: u64,
    /// Spans whose value was replaced or removed, and that are still pinned.
    pub retired: u64,
    /// Granules that are free.
    pub free: u64,
    /// Participants whose process lives.
    pub living: u64,
    /// Participants whose process died and that are not reaped yet.
    pub dead: u64,
    /// What could not be decided, because other processes changed the segment during each look: sums, and spans, blocks
    /// and leaves in use whose owner the check did not meet.
    pub undecided: u64,
}
