//! What PHP shares through System V: segments of `shm_attach`, semaphores, message queues, raw segments, and the text
//! that `serialize` makes of a value. `docs/php.md` is the authority.
//!
//! This floor stands beside `segment`, which does not know it, and uses `os` alone.
//!
//! | file or folder | what is in it |
//! | --- | --- |
//! | `message_queue`, `message_queue_errors` | message queues, and their errors |
//! | `semaphore`, `semaphore_errors` | PHP's semaphores, and their errors |
//! | `serialize` | the format of `serialize`: a strict reader and a writer |
//! | `shmop` | raw segments |
//! | `waiting` | how a call waits in the kernel |

pub mod message_queue;
mod message_queue_errors;
pub mod semaphore;
mod semaphore_errors;
pub mod serialize;
pub mod shmop;
pub mod waiting;
