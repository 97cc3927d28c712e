//! Which spans this process has pinned, and how often: for its calls, and for its Python objects. The table stands
//! beside the bitmap in the segment, which has one bit for each span; counts and bits change together under the mutex
//! of the table. Setting and clearing bits stands in `pins.rs`. The protocol is "Large records: spans and pins" and
//! "Fork and pins" in `docs/protocol.md`.

use crate::os::fork;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of pin tables made so far, by this process and those that it was forked from. The next table's id.
static TABLES: AtomicU64 = AtomicU64::new(1);

/// Private to the process: the spans that it has pinned.
#[derive(Default)]
pub struct PinTable {
    /// Identifies the table. A forked child makes a table of its own, and objects that belong to the parent's table
    /// have no pin in that one.
    id: u64,
    /// The epoch of the process that the pins belong to.
    epoch: u32,
    /// The participant number in whose bitmap the bits are set.
    number: u32,
    /// The counts of each pinned span, by first granule.
    counts: HashMap<u64, PinCounts>,
}

/// What holds a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinHolder {
    /// A call that is under way.
    Call,
    /// An object that lives on after the call.
    Object,
}

#[derive(Clone, Copy, Default)]
struct PinCounts {
    /// Pins of calls that are under way.
    calls: u32,
    /// Pins of objects that live on.
    objects: u32,
}

impl PinTable {
    /// Tells whether the table has no pin of this process.
    pub fn is_empty(&self) -> bool {
        self.epoch != fork::epoch() || self.counts.is_empty()
    }

    /// Returns the first granules of the spans that objects of this process pin: what a forked child inherits.
    pub fn pinned_by_objects(&self) -> Vec<u64> {
        let own = if self.epoch == fork::epoch() { Some(&self.counts) } else { None };
        own.into_iter().flatten().filter(|(_, counts)| counts.objects > 0).map(|(granule, _)| *granule).collect()
    }

    /// Keeps pinned, for as long as this process lives, what a child inherits that could not be given a number. Called
    /// in the parent after the fork.
    pub fn keep_for_child(&mut self) {
        for counts in self.counts.values_mut().filter(|counts| counts.objects > 0) {
            counts.objects = counts.objects.saturating_add(1);
        }
    }

    /// Returns the first granules of the spans that inherited objects pin and that this process has not pinned itself
    /// yet: the table is still the parent's.
    pub fn not_yet_adopted(&self) -> Vec<u64> {
        let inherited = if self.epoch == fork::epoch() { None } else { Some(&self.counts) };
        inherited.into_iter().flatten().filter(|(_, counts)| counts.objects > 0).map(|(granule, _)| *granule).collect()
    }

    /// Makes an inherited table that of the child, whose bits are set in the bitmap of `number`. Objects live on in the
    /// child, calls do not.
    pub fn adopt(&mut self, number: u32) {
        self.epoch = fork::epoch();
        self.number = number;
        self.counts.retain(|_, counts| {
            counts.calls = 0;
            counts.objects > 0
        });
    }

    /// Counts one more pin of a call, whose bit is set in the bitmap of `number`. Returns the table's id. `None`: there
    /// is no memory for the count.
    pub fn pin_for_call(&mut self, number: u32, granule: u64) -> Option<u64> {
        if self.epoch != fork::epoch() || self.number != number {
            // The table of another process is forgotten. An id is never 0, that of a table that was made anew because
            // the thread that held its mutex does not exist in this process.
            let id = TABLES.fetch_add(1, Ordering::Relaxed);
            *self = PinTable { id, epoch: fork::epoch(), number, counts: HashMap::new() };
        }
        self.counts.try_reserve(1).ok()?;
        self.counts.entry(granule).or_default().calls += 1;
        Some(self.id)
    }

    /// Counts a pin of a call as one of an object from now on. Returns `false` if this table does not count the pin.
    pub fn hand_over_to_object(&mut self, granule: u64, table: u64) -> bool {
        let counts = self.counts.get_mut(&granule).filter(|counts| self.id == table && counts.calls > 0);
        let Some(counts) = counts else { return false };
        (counts.calls, counts.objects) = (counts.calls - 1, counts.objects + 1);
        true
    }

    /// Counts one pin less, in the table with id `table`. Returns the participant number in whose bitmap the bit is to
    /// be cleared. `None`: the span has more pins, or the bit is not this process's.
    pub fn unpin(&mut self, granule: u64, table: u64, holder: PinHolder) -> Option<u32> {
        if self.id != table {
            // The pin is in the table of another process: this process was forked without the handlers, and does not
            // hold it.
            return None;
        }
        let counts = self.counts.get_mut(&granule)?;
        let count = match holder {
            PinHolder::Call => &mut counts.calls,
            PinHolder::Object => &mut counts.objects,
        };
        *count = count.saturating_sub(1);
        if counts.calls > 0 || counts.objects > 0 {
            return None;
        }
        self.counts.remove(&granule);
        // In another epoch the bit is that of the process that this one was forked from.
        (self.epoch == fork::epoch()).then_some(self.number)
    }
}
