//! Work that this process does after it has released the writer lock.

use crate::os::fork::ForkMutex;
use crate::process::reaping_progress::ReapingProgress;
use std::sync::atomic::AtomicBool;

/// Private to the process: work that is done after the next release of the writer lock.
#[derive(Default)]
pub struct AfterRelease {
    /// Whether there is any such work: all wake words are notified, and `reaping` goes on.
    pub due: AtomicBool,
    /// A reaping that was begun and is not at its end.
    pub reaping: ForkMutex<Option<ReapingProgress>>,
}
