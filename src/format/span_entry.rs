//! An entry of the span map, as `docs/format.md` states it: one word for each granule.

/// Bytes of a granule: a page, as the format counts them.
pub const GRANULE: u64 = 4_096;

/// State of a span.
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
    /// Not a state: damaged.
    Bad = 15,
}

/// A span map entry.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SpanEntry(pub u64);

#[allow(clippy::len_without_is_empty, reason = "a span has a granule at least")]
impl SpanEntry {
    /// An entry of `state` for so many granules, owner and class 0.
    pub const fn new(state: SpanState, len: u64) -> Self {
        SpanEntry(state as u64 | len << 32)
    }
    /// With this class.
    pub const fn with_class(self, class: usize) -> Self {
        SpanEntry(self.0 & !(0xff << 4) | (class as u64) << 4)
    }
    /// With this owner.
    pub const fn with_owner(self, owner: u32) -> Self {
        SpanEntry(self.0 & !(0xffff << 16) | (owner as u64) << 16)
    }
    /// The state.
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
            _ => SpanState::Bad,
        }
    }
    /// Its granules.
    #[inline(always)]
    pub const fn len(self) -> u64 {
        self.0 >> 32
    }
    /// Class of a slab, at most 255: check it.
    #[inline(always)]
    pub const fn class(self) -> usize {
        (self.0 >> 4) as usize & 0xff
    }
    /// Who fills or frees it.
    pub const fn owner(self) -> u32 {
        (self.0 >> 16) as u32 & 0xffff
    }
    /// Is it no span's head?
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
        assert!(!entry.is_none() && SpanEntry(0).is_none() && SpanEntry(1).state() == SpanState::Bad);
    }
}
