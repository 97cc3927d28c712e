//! [`ReapingProgress`]: how far the reaping of a dead process has come, between two slices of the writer lock. What
//! each step does stands in `reaping.rs`.

/// Private to the process: a reaping under way. It is in the memory of the process that reaps. If that process dies,
/// the next one begins anew, and finds less to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReapingProgress {
    /// The participant number of the dead process.
    pub number: u32,
    /// The generation of the number when the reaping began. If the number has another one, it was claimed anew, and
    /// what has been done so far does not count.
    pub generation: u64,
    /// What is done next.
    pub stage: ReapingStage,
}

/// What a reaping does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReapingStage {
    /// Releases the named locks in the leaf of this hash.
    Locks(u64),
    /// Frees the unpublished spans from this granule on.
    Spans(u64),
    /// Clears the next part of the pin bitmap that is present, from this one on. `true`: an earlier part was present, so
    /// a sweep is due afterwards.
    Pins(u64, bool),
    /// Frees retired spans that no participant has pinned any more, from this granule on.
    Sweep(u64),
    /// Nothing is left to do.
    End,
}
