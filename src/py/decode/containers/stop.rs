//! Why an attempt to read containers ends early.

use super::object_stack::NoRoom;

/// Why an attempt ends early.
pub(super) enum Stop {
    /// The pickle is left to the unpickler.
    NotOurs,
    /// There is no memory.
    NoMemory,
}

impl From<NoRoom> for Stop {
    fn from(_: NoRoom) -> Self {
        Stop::NoMemory
    }
}
