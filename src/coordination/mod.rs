//! Named locks, and waiting.

pub mod lock_room;
pub mod lock_slot;
#[cfg(feature = "python")]
pub mod lock_watch;
pub mod locks;
pub mod wait;
