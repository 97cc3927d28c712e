//! The heap.

pub mod occupancy;
pub mod pin_pages;
pub mod reserve;
pub mod slabs;
pub mod span_writer;
