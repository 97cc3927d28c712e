//! Named locks, and waiting.

pub mod above;
pub mod deadline;
pub mod lock_acquire;
pub mod lock_release;
pub mod lock_room;
pub mod lock_slot;
pub mod lock_state;
pub mod lock_turn;
#[cfg(feature = "python")]
pub mod lock_watch;
pub mod thread_locks;
pub mod wait;

use crate::error::Result;
use crate::heap::{Heap, HeapWriter};
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::variables::{Variables, VariablesWriter};
use ref_cast::RefCast;
use std::ops::{Deref, DerefMut};

/// An attached segment, as this floor sees it.
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

/// Sees an attachment as this floor does.
pub trait AsCoordination {
    /// The same attachment.
    fn coordination(&self) -> &Coordination;
}

impl AsCoordination for Attachment {
    #[inline(always)]
    fn coordination(&self) -> &Coordination {
        Coordination::ref_cast(Variables::ref_cast(Heap::ref_cast(self)))
    }
}

/// The writer lock, as this floor holds it.
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
    /// Takes the writer lock: see [`Attachment::write`].
    #[inline(always)]
    pub fn write(&self, policy: &dyn WaitPolicy) -> Result<CoordinationWriter<'_>> {
        self.0.write(policy).map(CoordinationWriter)
    }

    /// Takes the writer lock, also where not all can be mapped: see [`Attachment::write_unmapped`].
    pub fn write_unmapped(&self, policy: &dyn WaitPolicy) -> Result<CoordinationWriter<'_>> {
        let writer = Attachment::write_unmapped(self, policy)?;
        Ok(CoordinationWriter(VariablesWriter::from(HeapWriter::from(writer))))
    }

    /// The writer lock if it is free: see [`Attachment::try_write`].
    pub fn try_write(&self) -> Option<CoordinationWriter<'_>> {
        self.0.try_write().map(CoordinationWriter)
    }
}
