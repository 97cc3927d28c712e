//! Trust.

use crate::os::object::Status;

/// Could nobody but this user and root have written to it?
pub fn is_trusted(status: &Status) -> bool {
    distrust(status).is_none()
}

/// Who else could have written to it?
pub fn distrust(status: &Status) -> Option<&'static str> {
    // In a user namespace every unmapped owner shows as the overflow uid.
    if status.uid == crate::os::overflow_uid() {
        return Some("its owner has no number of his own here");
    }
    if status.uid != crate::os::euid() && status.uid != 0 {
        return Some("it is another user's");
    }
    (status.mode & 0o022 != 0).then_some("group or others may write to it")
}
