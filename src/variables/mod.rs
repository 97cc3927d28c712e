//! The variables of a segment: a hash table of slots, reading without a lock, changing under the writer lock.
//!
//! This floor knows the heap below it (spans, slabs, pins) and the attachment, but no named locks, no handles and no
//! Python. It offers [`Variables`], which is an attachment as this floor sees it, and [`VariablesWriter`], the writer
//! lock held. The protocols begin with "A change" and "Reading, without a lock" in docs/protocol.md; the bytes are
//! "Table" and "Slot" in docs/format.md.
//!
//! | file | |
//! | --- | --- |
//! | [`leaf`] | the way from a hash to its leaf |
//! | [`lookup`], [`pass_over`], [`found`] | a reader's search, its inner loop, what it found |
//! | [`place`] | a writer's search |
//! | [`record`], [`index_of`] | where a record lies; the index of a slot |
//! | [`read`], [`large`], [`value_stays`] | reading one value, a large one, also while its expiry changes |
//! | [`snapshot`], `snapshot_fast` | reading several as of one instant: in any case, and in the usual one |
//! | [`scan`], `table_iter` | all slots of a table; any variable |
//! | [`changes_pass`] | what has changed since a version, and what expires |
//! | [`dump_pass`], [`dump_locked`], `dump_notes` | passes of a dump without a lock, the last one under it; what is remembered between them |
//! | [`dump_log`] | what a dump writes |
//! | [`stored`], [`store_plan`], [`publish`] | the value to be stored, where it goes, the commit |
//! | [`change`], [`add`] | put and remove; adding to a number |
//! | [`in_place`], [`touch`] | making values that are changed where they lie; a new version for what is there |
//! | [`batch`], [`batch_entries`], [`batch_list`], [`batch_apply`] | several values at one instant: preparing, the entries, the list, making it |
//! | `batch_shortage` | what is missing before a batch can begin |
//! | `batch_set` | the same for a few small ones, by one commit |
//! | [`clear`] | removing every variable at one instant |
//! | [`expiry`], [`expire`] | variables with a time to live; another time to live for what is there |
//! | `evict`, `victim`, `stamps` | removing variables that others need the room of; which one; when each was used last |
//! | [`growth`], [`directory`], [`shrink`] | replacing leaves, replacing directories, smaller tables |
//! | [`compact`], [`defrag`] | moving records, moving large values |
//! | [`trim`] | giving memory back to the system |
//! | [`capacity`] | how large a value can still be stored |

pub mod add;
pub mod batch;
pub mod batch_apply;
pub mod batch_entries;
pub mod batch_list;
mod batch_set;
mod batch_shortage;
pub mod capacity;
pub mod change;
pub mod changes_pass;
pub mod clear;
pub mod compact;
pub mod defrag;
pub mod directory;
pub mod dump_locked;
pub mod dump_log;
mod dump_notes;
pub mod dump_pass;
pub mod evict;
pub mod expire;
pub mod expiry;
pub mod found;
pub mod growth;
pub mod in_place;
pub mod index_of;
pub mod large;
pub mod leaf;
pub mod lookup;
pub mod pass_over;
pub mod place;
pub mod publish;
pub mod read;
pub mod record;
pub mod scan;
pub mod shrink;
pub mod snapshot;
mod snapshot_fast;
mod stamps;
pub mod store_plan;
pub mod stored;
#[cfg(feature = "python")]
pub mod table_iter;
pub mod touch;
pub mod trim;
pub mod value_stays;
mod victim;

use crate::error::Result;
use crate::heap::{Heap, HeapWriter};
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::process::writer::Writer;
use ref_cast::RefCast;
use std::ops::{Deref, DerefMut};

/// Private to the process: an attachment as this floor sees it. It is the same object with more methods.
#[derive(RefCast)]
#[repr(transparent)]
pub struct Variables(Heap);

impl Deref for Variables {
    type Target = Heap;

    #[inline(always)]
    fn deref(&self) -> &Heap {
        &self.0
    }
}

/// Looks at an attachment as this floor does.
pub trait AsVariables {
    /// Returns the same attachment, with the methods of this floor.
    fn variables(&self) -> &Variables;
}

impl AsVariables for Attachment {
    #[inline(always)]
    fn variables(&self) -> &Variables {
        Variables::ref_cast(Heap::ref_cast(self))
    }
}

/// Private to the process: the writer lock held, with the methods of this floor.
#[derive(RefCast)]
#[repr(transparent)]
pub struct VariablesWriter<'a>(HeapWriter<'a>);

impl<'a> Deref for VariablesWriter<'a> {
    type Target = HeapWriter<'a>;

    #[inline(always)]
    fn deref(&self) -> &HeapWriter<'a> {
        &self.0
    }
}

impl<'a> From<HeapWriter<'a>> for VariablesWriter<'a> {
    fn from(writer: HeapWriter<'a>) -> Self {
        VariablesWriter(writer)
    }
}

impl<'a> From<VariablesWriter<'a>> for Writer<'a> {
    fn from(writer: VariablesWriter<'a>) -> Self {
        writer.0.into()
    }
}

impl DerefMut for VariablesWriter<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Variables {
    /// Acquires the writer lock: see [`Attachment::write`].
    #[inline(always)]
    pub fn write(&self, policy: &dyn WaitPolicy) -> Result<VariablesWriter<'_>> {
        self.0.write(policy).map(VariablesWriter)
    }

    /// Acquires the writer lock if it is free: see [`Attachment::try_write`].
    pub fn try_write(&self) -> Option<VariablesWriter<'_>> {
        self.0.try_write().map(VariablesWriter)
    }
}
