//! Named locks, queues, and waiting for changes: what processes arrange among each other by way of variables' slots and
//! wake words.
//!
//! This floor knows the tables of `variables`, but neither handles nor Python. It offers [`Coordination`], which is an
//! attachment as this floor sees it, and [`CoordinationWriter`], the writer lock held. It also answers the calls of the
//! lower floors ([`above`]). The protocols are "Named locks", "Queues" and "Wake words" in docs/protocol.md.
//!
//! | file | |
//! | --- | --- |
//! | [`lock_acquire`] | acquiring a named lock: a try, the wait, a dead owner |
//! | [`lock_release`] | releasing it: by its owner, for a thread that ends, for a handle that is detached |
//! | [`lock_slot`] | the lock's slot: reading it, changing it under the writer lock, reaping |
//! | [`lock_state`] | what the slot says, and its bytes |
//! | [`lock_turn`] | one caller's wait, and the request to be the next owner |
//! | [`lock_limit`] | how many locks may be held |
//! | `lock_watch` | whether a try may help, for tasks and greenlets |
//! | [`queue_state`] | what the record of a queue says |
//! | [`queue_record`] | the bytes of that record |
//! | [`queue_keys`] | the keys of items, the ids of holders |
//! | [`queue_edit`] | one change of a queue and its items |
//! | [`queue_put`] | putting an item, waiting for room |
//! | [`queue_take`] | getting and taking an item, waiting for one |
//! | `queue_holders` | who holds items, and which of the holders are dead |
//! | [`queue_finish`] | an item is done or given back; removing all items |
//! | [`queue_look`] | looking at queues without the writer lock |
//! | [`dump`], [`queue_dump`] | a dump of everything, as of one instant; the items of all queues for it |
//! | [`thread_locks`] | which segments a thread has locks in |
//! | [`wait`] | waiting for a variable to change, watchers |
//! | [`wait_any`] | waiting for the first of several variables to change |
//! | [`changes`], `known` | every change of any variable, in order; the indexes that an iterator knows |
//! | `removal_order` | the removals that it has heard of, and their places in the order |
//! | [`changes_wait`] | waiting for the next of them |
//! | [`above`] | answers to the calls of lower floors |

pub mod above;
pub mod changes;
pub mod changes_wait;
pub mod dump;
mod known;
pub mod lock_acquire;
pub mod lock_limit;
pub mod lock_release;
pub mod lock_slot;
pub mod lock_state;
pub mod lock_turn;
#[cfg(feature = "python")]
pub mod lock_watch;
pub mod queue_dump;
pub mod queue_edit;
pub mod queue_finish;
mod queue_holders;
pub mod queue_keys;
pub mod queue_look;
pub mod queue_put;
pub mod queue_record;
pub mod queue_state;
pub mod queue_take;
mod removal_order;
pub mod thread_locks;
pub mod wait;
pub mod wait_any;

use crate::error::Result;
use crate::heap::{Heap, HeapWriter};
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::variables::{Variables, VariablesWriter};
use ref_cast::RefCast;
use std::ops::{Deref, DerefMut};

/// Private to the process: an attachment as this floor sees it. It is the same object with more methods.
#[derive(RefCast)]
#[repr(transparent)]
pub struct Coordination(Variables);

impl Deref for Coordination {
    type Target = Variables;

    #[inline(always)]
    fn deref(&self) -> &Variables {
        &self.0
    }
}

/// Looks at an attachment as this floor does.
pub trait AsCoordination {
    /// Returns the same attachment, with the methods of this floor.
    fn coordination(&self) -> &Coordination;
}

impl AsCoordination for Attachment {
    #[inline(always)]
    fn coordination(&self) -> &Coordination {
        Coordination::ref_cast(Variables::ref_cast(Heap::ref_cast(self)))
    }
}

/// Private to the process: the writer lock held, with the methods of this floor.
#[derive(RefCast)]
#[repr(transparent)]
pub struct CoordinationWriter<'a>(VariablesWriter<'a>);

impl<'a> Deref for CoordinationWriter<'a> {
    type Target = VariablesWriter<'a>;

    #[inline(always)]
    fn deref(&self) -> &VariablesWriter<'a> {
        &self.0
    }
}

impl DerefMut for CoordinationWriter<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Coordination {
    /// Acquires the writer lock: see [`Attachment::write`].
    #[inline(always)]
    pub fn write(&self, policy: &dyn WaitPolicy) -> Result<CoordinationWriter<'_>> {
        self.0.write(policy).map(CoordinationWriter)
    }

    /// Acquires the writer lock, also where not all zones can be mapped: see [`Attachment::write_unmapped`].
    pub fn write_unmapped(&self, policy: &dyn WaitPolicy) -> Result<CoordinationWriter<'_>> {
        let writer = Attachment::write_unmapped(self, policy)?;
        Ok(CoordinationWriter(VariablesWriter::from(HeapWriter::from(writer))))
    }

    /// Acquires the writer lock if it is free: see [`Attachment::try_write`].
    pub fn try_write(&self) -> Option<CoordinationWriter<'_>> {
        self.0.try_write().map(CoordinationWriter)
    }
}
