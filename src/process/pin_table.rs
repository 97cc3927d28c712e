//! What this process has pinned, by first granule, for its calls and for its objects. Not in the segment.

use crate::os::fork;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tables of pins made so far, by this process and those that it was forked from.
static TABLES: AtomicU64 = AtomicU64::new(1);

/// What this process has pinned.
#[derive(Default)]
pub struct PinTable {
    /// Grows when the table is made anew: objects of another table, a parent's, have nothing in this one.
    id: u64,
    /// Of the process that the pins belong to.
    epoch: u32,
    /// Whose bitmap the marks are in.
    me: u32,
    /// By first granule.
    counts: HashMap<u64, Counts>,
}

/// What pins a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinOf {
    /// A call under way.
    Call,
    /// An object that lives on.
    Object,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    /// By calls under way.
    calls: u32,
    /// By objects that live on.
    objects: u32,
}

impl PinTable {
    /// Does it hold any pin of this process?
    pub fn is_empty(&self) -> bool {
        self.epoch != fork::epoch() || self.counts.is_empty()
    }

    /// First granules that objects pin: what a forked child inherits.
    pub fn inherited(&self) -> Vec<u64> {
        let ours = if self.epoch == fork::epoch() { Some(&self.counts) } else { None };
        ours.into_iter().flatten().filter(|(_, counts)| counts.objects > 0).map(|(granule, _)| *granule).collect()
    }

    /// After a fork whose child could not be given a number: what the child inherits stays pinned by this process, for as
    /// long as the process lives.
    pub fn keep_for_child(&mut self) {
        for counts in self.counts.values_mut().filter(|counts| counts.objects > 0) {
            counts.objects = counts.objects.saturating_add(1);
        }
    }

    /// First granules that objects pin which came with a fork, and that this process has not pinned itself yet.
    pub fn not_yet_ours(&self) -> Vec<u64> {
        let theirs = if self.epoch == fork::epoch() { None } else { Some(&self.counts) };
        theirs.into_iter().flatten().filter(|(_, counts)| counts.objects > 0).map(|(granule, _)| *granule).collect()
    }

    /// The child's, of what the handler pinned for it under `me`: objects live on in it, calls do not.
    pub fn adopt(&mut self, me: u32) {
        self.epoch = fork::epoch();
        self.me = me;
        self.counts.retain(|_, counts| {
            counts.calls = 0;
            counts.objects > 0
        });
    }

    /// One pin more for a call, under the participant number `me`. The table's id; `None`: there is no memory to remember it by.
    pub fn pin_for_call(&mut self, me: u32, granule: u64) -> Option<u64> {
        if self.epoch != fork::epoch() || self.me != me {
            // A table of another process is forgotten. Never 0, the id of one that was made anew because its holder does not
            // exist here.
            let id = TABLES.fetch_add(1, Ordering::Relaxed);
            *self = PinTable { id, epoch: fork::epoch(), me, counts: HashMap::new() };
        }
        self.counts.try_reserve(1).ok()?;
        self.counts.entry(granule).or_default().calls += 1;
        Some(self.id)
    }

    /// One more for an object, where a call has it pinned.
    pub fn pin_for_object(&mut self, granule: u64) {
        if let Some(counts) = self.counts.get_mut(&granule) {
            counts.objects += 1;
        }
    }

    /// One pin less, of the table with this id. The participant whose mark goes with it, where it was the last one.
    pub fn unpin(&mut self, granule: u64, table: u64, of: PinOf) -> Option<u32> {
        if self.id != table {
            // Another process's: whoever forked without our handlers does not hold it.
            return None;
        }
        let counts = self.counts.get_mut(&granule)?;
        let count = match of {
            PinOf::Call => &mut counts.calls,
            PinOf::Object => &mut counts.objects,
        };
        *count = count.saturating_sub(1);
        if counts.calls > 0 || counts.objects > 0 {
            return None;
        }
        self.counts.remove(&granule);
        // Else the mark is of the process that this one was forked from.
        (self.epoch == fork::epoch()).then_some(self.me)
    }
}
