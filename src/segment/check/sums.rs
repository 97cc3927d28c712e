//! Sums that a check compares with the counters in the segment's state (docs/format.md, "Invariants", 1 and 4). When
//! they can be compared is decided in `closing` (docs/protocol.md, "Check", *Sums*).

use crate::coordination::queue_state::QueueState;
use crate::format::slot_flags::NameOf;
use crate::sync::slot::Content;

/// What the slots of both tables add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VariableSums {
    /// Variables.
    pub variables: u64,
    /// Bytes that all of both tables is charged.
    pub used: u64,
    /// Variables that expire.
    pub expiring: u64,
    /// The part of `used` that queues and their items are charged.
    pub queued: u64,
    /// Items of queues.
    pub items: u64,
    /// Items that the queues state.
    pub stated_items: u64,
    /// The part of `queued` that the queues state for their items.
    pub stated_bytes: u64,
    /// The part of `queued` that items are charged.
    pub item_bytes: u64,
}

impl VariableSums {
    /// Adds one variable or name.
    pub fn add(&mut self, content: &Content) {
        let charge = content.charge();
        self.used = self.used.saturating_add(charge);
        match content.name_of() {
            NameOf::Variable => {
                self.variables += 1;
                self.expiring += u64::from(content.expires());
            }
            NameOf::Lock => {}
            NameOf::Queue => self.queued = self.queued.saturating_add(charge),
            NameOf::Item => {
                self.items += 1;
                self.queued = self.queued.saturating_add(charge);
                self.item_bytes = self.item_bytes.saturating_add(charge);
            }
        }
    }

    /// Adds what the record of a queue states.
    pub fn add_stated(&mut self, state: &QueueState) {
        self.stated_items = self.stated_items.saturating_add(state.items());
        self.stated_bytes = self.stated_bytes.saturating_add(state.bytes);
    }
}

/// All sums of the first walk over tables and zones.
#[derive(Default)]
pub(super) struct Totals {
    pub variables: VariableSums,
    /// Granules of retired spans.
    pub retired: u64,
}
