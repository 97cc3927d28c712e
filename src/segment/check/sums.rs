//! Sums that a check compares with the counters in the segment's state (docs/format.md, "Invariants", 1 and 4). When
//! they can be compared is decided in `closing` (docs/protocol.md, "Check", *Sums*).

use crate::sync::slot::Content;

/// What the slots of the variables' table add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VariableSums {
    /// Variables.
    pub variables: u64,
    /// Bytes that they are charged.
    pub used: u64,
    /// Variables that expire.
    pub expiring: u64,
}

impl VariableSums {
    /// Adds one variable.
    pub fn add(&mut self, content: &Content) {
        self.variables += 1;
        self.used = self.used.saturating_add(content.charge());
        self.expiring += u64::from(content.expires());
    }
}

/// All sums of the first walk over tables and zones.
#[derive(Default)]
pub(super) struct Totals {
    pub variables: VariableSums,
    /// Granules of retired spans.
    pub retired: u64,
}
