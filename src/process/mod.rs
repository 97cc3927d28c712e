//! A process that is attached to a segment.

pub mod access;
pub mod at_fork;
pub mod attachment;
pub mod deferred_free;
pub mod descriptor;
pub mod extent;
pub mod held_locks;
pub mod nap;
pub mod notify;
pub mod pages;
pub mod pin_table;
pub mod pins;
pub mod read_section;
pub mod reaping;
pub mod registration;
pub mod registry_lock;
pub mod wait_policy;
pub mod walk;
pub mod writer;
pub mod writer_wait;
