//! What this process does after it has released the writer lock.

use crate::os::fork::ForkMutex;
use crate::process::reaping_progress::Reaping;
use std::sync::atomic::AtomicBool;

/// Work that waits for the next release of the writer lock.
#[derive(Default)]
pub struct AfterRelease {
    /// Is there any? Then whoever waits for anything is woken, and `reaping` goes on.
    pub due: AtomicBool,
    /// A reaping that was begun.
    pub reaping: ForkMutex<Option<Reaping>>,
}
