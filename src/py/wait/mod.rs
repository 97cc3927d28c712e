//! How calls wait: other threads and greenlets run meanwhile, and Ctrl-C ends the call.
//!
//! What they wait for is up to the core, which asks these policies to sleep ([`crate::process::wait_policy`]).
//!
//! | file | waits for |
//! | --- | --- |
//! | `policy` | anything, in most calls |
//! | `stop_when_detached` | something that may never come, until the handle is detached |
//! | `lock_queue` | a named lock, in a queue with the other greenlets of the thread |
//! | `uninterruptible` | something that must be finished |
//! | `sleeper` | the part that all of these share |

mod lock_queue;
mod policy;
mod sleeper;
mod stop_when_detached;
mod uninterruptible;

pub use lock_queue::LockQueueWait;
pub use policy::PyWait;
pub use stop_when_detached::StopWhenDetached;
pub use uninterruptible::UninterruptibleWait;
