//! Sums.

use crate::sync::slot::Content;

/// What is counted of the variables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VariableSums {
    pub variables: u64,
    pub used: u64,
    pub expiring: u64,
}

impl VariableSums {
    pub fn add(&mut self, content: &Content) {
        self.variables += 1;
        self.used = self.used.saturating_add(content.charge());
        self.expiring += u64::from(content.expires());
    }
}

/// What a check adds up.
#[derive(Default)]
pub(super) struct Totals {
    pub variables: VariableSums,
    /// Granules that are retired.
    pub retired: u64,
}
