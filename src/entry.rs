//! An entry of the span map, as `docs/format.md` states it: one word for each granule.

/// State of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "docs/format.md, span map entry")]
pub enum SpanState {
    None = 0,
    Free = 1,
    Filling = 2,
    Live = 3,
    Retired = 4,
    Freeing = 5,
    Slab = 6,
    Table = 7,
    /// Not a state: damaged.
    Bad = 15,
}

/// A span map entry.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry(pub u64);

impl Entry {
    /// Set once the granule was part of a slab or a table.
    pub const STICKY: u64 = 1 << 63;
    /// Largest number of present pages an entry can state.
    pub const PRESENT_MAX: u64 = (1 << 31) - 1;

    /// An entry of `state` and `order`, owner and class 0, nothing present.
    pub const fn new(state: SpanState, order: u32) -> Self {
        Entry(state as u64 | (order as u64) << 4)
    }
    /// With this class.
    pub const fn with_class(self, class: usize) -> Self {
        Entry(self.0 & !(0x3f << 10) | (class as u64) << 10)
    }
    /// With this owner.
    pub const fn with_owner(self, owner: u32) -> Self {
        Entry(self.0 & !(0xffff << 16) | (owner as u64) << 16)
    }
    /// With this many pages present.
    pub const fn with_present(self, pages: u64) -> Self {
        let pages = if pages > Self::PRESENT_MAX { Self::PRESENT_MAX } else { pages };
        Entry(self.0 & !(Self::PRESENT_MAX << 32) | pages << 32)
    }
    /// Sticky.
    pub const fn with_sticky(self) -> Self {
        Entry(self.0 | Self::STICKY)
    }
    /// The state.
    #[inline]
    pub const fn state(self) -> SpanState {
        match self.0 & 15 {
            0 => SpanState::None,
            1 => SpanState::Free,
            2 => SpanState::Filling,
            3 => SpanState::Live,
            4 => SpanState::Retired,
            5 => SpanState::Freeing,
            6 => SpanState::Slab,
            7 => SpanState::Table,
            _ => SpanState::Bad,
        }
    }
    /// log2 of its granules.
    #[inline]
    pub const fn order(self) -> u32 {
        (self.0 >> 4) as u32 & 0x3f
    }
    /// Class of a slab, at most 63: check it.
    #[inline]
    pub const fn class(self) -> usize {
        (self.0 >> 10) as usize & 0x3f
    }
    /// Who fills or frees it.
    pub const fn owner(self) -> u32 {
        (self.0 >> 16) as u32 & 0xffff
    }
    /// Pages known to be present.
    pub const fn present(self) -> u64 {
        self.0 >> 32 & Self::PRESENT_MAX
    }
    /// Was once part of a slab or a table.
    pub const fn sticky(self) -> bool {
        self.0 & Self::STICKY != 0
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}({}", self.state(), self.order())?;
        write!(f, " class {} owner {} present {}", self.class(), self.owner(), self.present())?;
        f.write_str(if self.sticky() { " sticky)" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_fields_apart() {
        let entry =
            Entry::new(SpanState::Slab, 31).with_class(31).with_owner(1023).with_present(u64::MAX).with_sticky();
        assert_eq!(entry.state(), SpanState::Slab);
        assert_eq!((entry.order(), entry.class(), entry.owner()), (31, 31, 1023));
        assert_eq!(entry.present(), Entry::PRESENT_MAX);
        assert!(entry.sticky() && !entry.with_owner(0).with_present(3).0 & Entry::STICKY == 0);
        assert_eq!(Entry::new(SpanState::Free, 3).with_present(7).with_present(2).present(), 2);
    }
}
