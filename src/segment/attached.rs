//! What opening and creating both give, and how a handle gives it back. An attachment is shared by all handles of a
//! process on one segment; its own life is in `process/attachment.rs`. Protocol: docs/protocol.md, "Releasing a
//! number".

use crate::process::attachment::Attachment;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An attached segment: what a new handle is made of.
pub struct AttachedSegment {
    /// The process's half of the segment.
    pub attachment: Arc<Attachment>,
    /// Did this call create the segment?
    pub created: bool,
    /// May values run code when they are read?
    pub trusted: bool,
}

/// Gives one handle's share of an attachment back. With the last one the process releases its participant number.
pub fn release(attachment: &Attachment) {
    if attachment.registration.handles.fetch_sub(1, Ordering::SeqCst) == 1 {
        attachment.deregister();
    }
}
