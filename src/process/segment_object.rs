//! The kernel objects of an attachment: the segment's file, and the object that carries the locks of participants.

use crate::os::map::Mapping;
use crate::os::object::Status;
use crate::process::descriptor::Descriptor;
use std::sync::Arc;

/// The kernel objects that a process has of a segment.
pub struct SegmentObject {
    /// The name of the segment's object.
    pub name: String,
    /// What the system said of the segment's object when it was opened.
    pub status: Status,
    /// The same of the object that carries the lock bytes.
    pub lock_status: Status,
    /// The first map of the segment's object. It lives as long as the attachment.
    pub mapping: Arc<Mapping>,
    /// For `pread`, `pwrite` and `fallocate` on the segment's object.
    pub file: Arc<Descriptor>,
    /// For questions about locks, on the object that carries the lock bytes.
    pub query: Descriptor,
}
