//! The floor `heap`: reserving and freeing memory of the arena, as whole spans for large records and as blocks of slabs
//! for small ones. It knows spans, slabs and pages, but neither the hash tables nor what a record means. It offers
//! [`Heap`] and [`HeapWriter`].
//!
//! | file | what |
//! | --- | --- |
//! | `reserve` | reserving a span for this process, which frees it again unless it is published |
//! | `zones` | bringing zones into use where no run of free granules is long enough |
//! | `span_writer` | copying a large record into a reserved span |
//! | `slabs` | finding a free block, making slabs, freeing them |
//! | `occupancy` | how many bytes are present, free or retired |
//! | `memory_map` | what each part of the arena is used for, for displays |
//! | `pin_pages` | giving back the pages of pin bitmaps |
//!
//! # Why a type of its own
//!
//! So that the compiler lets a floor call only itself and the floors below it.
//!
//! A [`Heap`] is an attachment, and nothing more: it is the same object in memory, seen through another type
//! (`ref-cast`). The floors share one attachment, but each floor has a type of its own for it, and hangs its methods on
//! that type. `Heap` dereferences to [`Attachment`], so code of this floor can call what stands here and on the floors
//! below. A method of a floor above cannot be called by mistake: it belongs to a type that is not imported here, and
//! the compiler does not find it. The same holds for [`HeapWriter`] and [`Writer`]. (The few calls that must go up are
//! listed in the trait [`FloorsAbove`](crate::process::writer::FloorsAbove).)

pub mod memory_map;
pub mod occupancy;
pub mod pin_pages;
pub mod reserve;
pub mod slabs;
pub mod span_writer;
pub mod zones;

use crate::error::Result;
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::process::writer::Writer;
use ref_cast::RefCast;
use std::ops::{Deref, DerefMut};

/// Private to the process: an attachment, as this floor and those above see it.
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

/// Turns an attachment into a [`Heap`].
pub trait AsHeap {
    /// Returns the same attachment, as this floor sees it.
    fn heap(&self) -> &Heap;
}

impl AsHeap for Attachment {
    #[inline(always)]
    fn heap(&self) -> &Heap {
        Heap::ref_cast(self)
    }
}

/// Private to the process: the writer lock while it is held, as this floor and those above see it.
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
    /// Acquires the writer lock: see [`Attachment::write`].
    #[inline(always)]
    pub fn write(&self, policy: &dyn WaitPolicy) -> Result<HeapWriter<'_>> {
        self.0.write(policy).map(HeapWriter)
    }

    /// Acquires the writer lock if it is free: see [`Attachment::try_write`].
    pub fn try_write(&self) -> Option<HeapWriter<'_>> {
        self.0.try_write().map(HeapWriter)
    }
}
