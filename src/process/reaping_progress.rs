//! How far the reaping of a dead process has come, between two slices of the writer lock.

/// A reaping under way, in the memory of whoever is at it: with him gone, the next one begins anew, and finds less to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaping {
    pub number: u32,
    /// Claims of the number so far: another life of it is none of ours.
    pub generation: u64,
    pub stage: Stage,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Locks in the leaf of this hash.
    Locks(u64),
    /// Spans from this granule on.
    Spans(u64),
    /// A part of its pins; were there any before?
    Pins(u64, bool),
    /// Spans that nobody pins any more, from this granule on.
    Sweep(u64),
    /// Nothing is left.
    End,
}
