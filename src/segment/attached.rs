//! What an attach gives, and giving it back.

use crate::process::attachment::Attachment;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An attached segment.
pub struct Attached {
    /// The process's half.
    pub attachment: Arc<Attachment>,
    /// Did this call create it?
    pub created: bool,
    /// May values run code?
    pub trusted: bool,
}

/// A handle is detached or dropped: with the last one the participant number goes.
pub fn release(attachment: &Attachment) {
    if attachment.registration.handles.fetch_sub(1, Ordering::SeqCst) == 1 {
        attachment.deregister();
    }
}
