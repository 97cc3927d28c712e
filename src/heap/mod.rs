//! The heap.

pub mod pages;
pub mod pin_pages;
pub mod slabs;
pub mod span_writer;
