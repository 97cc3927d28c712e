//! Waiting as a Python program wants it: other threads and greenlets go on, Ctrl-C gets through.
//!
//! | file | waits |
//! | --- | --- |
//! | `policy` | the usual way |
//! | `stop_when_detached` | without end, perhaps, but not on a handle that was detached |
//! | `lock_queue` | the same for a named lock, in line with the greenlets of its thread |
//! | `uninterruptible` | for what must come to its end |
//! | `sleeper` | how all of these sleep |

mod lock_queue;
mod policy;
mod sleeper;
mod stop_when_detached;
mod uninterruptible;

pub use lock_queue::LockQueueWait;
pub use policy::PyWait;
pub use stop_when_detached::StopWhenDetached;
pub use uninterruptible::UninterruptibleWait;
