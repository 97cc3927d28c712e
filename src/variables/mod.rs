//! Variables.

pub mod add;
pub mod batch;
pub mod batch_apply;
pub mod batch_list;
pub mod capacity;
pub mod change;
pub mod clear;
pub mod compact;
pub mod defrag;
pub mod directory;
pub mod expiry;
pub mod found;
pub mod growth;
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
pub mod store_plan;
pub mod stored;
#[cfg(feature = "python")]
pub mod table_iter;
pub mod trim;

use crate::error::Result;
use crate::heap::{Heap, HeapWriter};
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::process::writer::Writer;
use ref_cast::RefCast;
use std::ops::{Deref, DerefMut};

/// An attached segment, as this floor sees it.
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

/// Sees an attachment as this floor does.
pub trait AsVariables {
    /// The same attachment.
    fn variables(&self) -> &Variables;
}

impl AsVariables for Attachment {
    #[inline(always)]
    fn variables(&self) -> &Variables {
        Variables::ref_cast(Heap::ref_cast(self))
    }
}

/// The writer lock, as this floor holds it.
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
    /// Takes the writer lock: see [`Attachment::write`].
    #[inline(always)]
    pub fn write(&self, policy: &dyn WaitPolicy) -> Result<VariablesWriter<'_>> {
        self.0.write(policy).map(VariablesWriter)
    }

    /// The writer lock if it is free: see [`Attachment::try_write`].
    pub fn try_write(&self) -> Option<VariablesWriter<'_>> {
        self.0.try_write().map(VariablesWriter)
    }
}
