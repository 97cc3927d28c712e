//! The heap.

pub mod occupancy;
pub mod pin_pages;
pub mod reserve;
pub mod slabs;
pub mod span_writer;

use crate::error::Result;
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::process::writer::Writer;
use ref_cast::RefCast;
use std::ops::{Deref, DerefMut};

/// An attached segment, as this floor sees it.
#[derive(RefCast)]
#[repr(transparent)]
pub struct Heap(Attachment);

impl Deref for Heap {
    type Target = Attachment;

    #[inline(always)]
    fn deref(&self) -> &Attachment {
        &self.0
    }
}

/// Sees an attachment as this floor does.
pub trait AsHeap {
    /// The same attachment.
    fn heap(&self) -> &Heap;
}

impl AsHeap for Attachment {
    #[inline(always)]
    fn heap(&self) -> &Heap {
        Heap::ref_cast(self)
    }
}

/// The writer lock, as this floor holds it.
#[derive(RefCast)]
#[repr(transparent)]
pub struct HeapWriter<'a>(Writer<'a>);

impl<'a> Deref for HeapWriter<'a> {
    type Target = Writer<'a>;

    #[inline(always)]
    fn deref(&self) -> &Writer<'a> {
        &self.0
    }
}

impl<'a> From<Writer<'a>> for HeapWriter<'a> {
    fn from(writer: Writer<'a>) -> Self {
        HeapWriter(writer)
    }
}

impl<'a> From<HeapWriter<'a>> for Writer<'a> {
    fn from(writer: HeapWriter<'a>) -> Self {
        writer.0
    }
}

impl DerefMut for HeapWriter<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Heap {
    /// Takes the writer lock: see [`Attachment::write`].
    #[inline(always)]
    pub fn write(&self, policy: &dyn WaitPolicy) -> Result<HeapWriter<'_>> {
        self.0.write(policy).map(HeapWriter)
    }

    /// The writer lock if it is free: see [`Attachment::try_write`].
    pub fn try_write(&self) -> Option<HeapWriter<'_>> {
        self.0.try_write().map(HeapWriter)
    }
}
