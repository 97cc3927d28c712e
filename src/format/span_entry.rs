//! An entry of the span map: one word for each granule, which says what the span that begins there is used for.
//!
//! The span map is the truth about the arena; bitmaps and summary are derived from it. The bits are described in "Zone
//! metadata" in `docs/format.md`.

/// Bytes of a granule. The format's page has this size, whatever the page size of the kernel is.
pub const GRANULE: u64 = 4_096;

/// The state of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "docs/format.md, span map entry")]
pub enum SpanState {
    None = 0,
    Filling = 2,
    Live = 3,
    Retired = 4,
    Freeing = 5,
    Slab = 6,
    Leaf = 7,
    Directory = 8,
    /// The number in the entry is not a state: the segment is damaged.
    Damaged = 15,
}

/// A copy of one entry of the span map: `length << 32 | owner << 16 | class << 4 | state`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SpanEntry(pub u64);

#[allow(clippy::len_without_is_empty, reason = "a span has a granule at least")]
impl SpanEntry {
    /// Packs an entry of `state` for a span of `len` granules, with owner 0 and class 0.
    pub const fn new(state: SpanState, len: u64) -> Self {
        SpanEntry(state as u64 | len << 32)
    }
    /// Returns the entry with another class.
    pub const fn with_class(self, class: usize) -> Self {
        SpanEntry(self.0 & !(0xff << 4) | (class as u64) << 4)
    }
    /// Returns the entry with another owner.
    pub const fn with_owner(self, owner: u32) -> Self {
        SpanEntry(self.0 & !(0xffff << 16) | (owner as u64) << 16)
    }
    /// Returns the state of the span.
    #[inline(always)]
    pub const fn state(self) -> SpanState {
        match self.0 & 15 {
            0 => SpanState::None,
            2 => SpanState::Filling,
            3 => SpanState::Live,
            4 => SpanState::Retired,
            5 => SpanState::Freeing,
            6 => SpanState::Slab,
            7 => SpanState::Leaf,
            8 => SpanState::Directory,
            _ => SpanState::Damaged,
        }
    }
    /// Returns the length of the span in granules.
    #[inline(always)]
    pub const fn len(self) -> u64 {
        self.0 >> 32
    }
    /// Returns the class of a slab. It is at most 255, so the caller must compare it with the number of classes.
    #[inline(always)]
    pub const fn class(self) -> usize {
        (self.0 >> 4) as usize & 0xff
    }
    /// Returns the number of the participant that is filling or freeing the span.
    pub const fn owner(self) -> u32 {
        (self.0 >> 16) as u32 & 0xffff
    }
    /// Returns `true` if no span begins at this granule.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl std::fmt::Debug for SpanEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}({} granules, class {}, owner {})", self.state(), self.len(), self.class(), self.owner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_fields_apart() {
        let entry = SpanEntry::new(SpanState::Slab, u64::from(u32::MAX)).with_class(66).with_owner(1023);
        assert_eq!(entry.state(), SpanState::Slab);
        assert_eq!((entry.len(), entry.class(), entry.owner()), (u64::from(u32::MAX), 66, 1023));
        assert!(!entry.is_none() && SpanEntry(0).is_none() && SpanEntry(1).state() == SpanState::Damaged);
    }
}
