//! Spans that this process frees at its next acquisition of the writer lock.

/// What is left to be done under the writer lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferredFree {
    /// This span was seen retired when its last pin of ours went: free it, if it still is and nobody has it pinned.
    Retired(u64),
    /// This span was taken to be filled, or freed, and that came to nothing: free it.
    Unpublished(u64),
}

impl DeferredFree {
    pub fn is_unpublished(&self) -> bool {
        matches!(self, DeferredFree::Unpublished(_))
    }
}
