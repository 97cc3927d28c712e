//! Who could have written to a segment: whether its values may run code when they are read. Only owner and mode count
//! here; what an untrusted segment may do all the same is in SECURITY.md.

use crate::os::object::Status;

/// Could nobody but this user and root have written to the object?
pub fn is_trusted(status: &Status) -> bool {
    distrust(status).is_none()
}

/// Why an object is not trusted: who else could have written to it. `None` if nobody else could.
pub fn distrust(status: &Status) -> Option<&'static str> {
    // In a user namespace every owner that is not mapped shows as the overflow uid.
    if status.uid == crate::os::overflow_uid() {
        return Some("its owner has no uid in this user namespace");
    }
    if status.uid != crate::os::euid() && status.uid != 0 {
        return Some("it is another user's");
    }
    (status.mode & 0o022 != 0).then_some("group or others may write to it")
}
