//! The kernel objects of an attachment: the segment's object, and the lock object, which carries the lock bytes of
//! participants. They are one object, or two: see "Who is alive" in `docs/protocol.md`.

use crate::os::map::Mapping;
use crate::os::object::Status;
use crate::process::descriptor::Descriptor;
use std::sync::Arc;

/// Private to the process: the kernel objects that it has of a segment.
pub struct SegmentObject {
    /// The name of the segment's object.
    pub name: String,
    /// What the system said of the segment's object when it was opened.
    pub status: Status,
    /// What the system said of the lock object when it was opened.
    pub lock_status: Status,
    /// The first map of the segment's object. It lives as long as the attachment.
    pub mapping: Arc<Mapping>,
    /// A descriptor of the segment's object, for `pread`, `pwrite` and `fallocate`.
    pub file: Arc<Descriptor>,
    /// The query description: a descriptor of the lock object, for asking which bytes are locked.
    pub query: Descriptor,
}
