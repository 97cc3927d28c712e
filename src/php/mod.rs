//! What PHP shares through System V: segments of `shm_attach`, semaphores, message queues, raw segments, and the text
//! that `serialize` makes of a value. `docs/php.md` is the authority.
//!
//! This floor stands beside `segment`, which does not know it, and uses `os` and `sync` alone.
//!
//! | file or folder | what is in it |
//! | --- | --- |
//! | `message_queue`, `message_queue_errors` | message queues, and their errors |
//! | `semaphore`, `semaphore_errors` | PHP's semaphores, and their errors |
//! | `semaphore_holders` | which thread holds a semaphore through another handle |
//! | `serialize` | the format of `serialize`: a strict reader and a writer |
//! | `shmop` | raw segments |
//! | `waiting` | how a call waits in the kernel |
//! | [`layout`] | where the numbers of a segment stand, the sizes of chunks |
//! | [`header`] | the header: reading, checking and changing it |
//! | [`chain`] | the chain of chunks: walking it, checking each |
//! | [`run`] | walking faster over chunks of one size |
//! | [`read`] | reading a variable without a lock |
//! | [`writer`] | the steps that changes are made of |
//! | [`change`] | where each change begins, and what it does with one that was not finished |
//! | [`unfinished`] | what a process has left that was killed in a change, and what it will be |
//! | [`put`] | storing a variable |
//! | [`replace`] | where the new chunk of a variable goes |
//! | [`room`] | how much room a put may leave in gaps |
//! | [`remove`] | removing one, or all |
//! | [`close_gaps`] | moving chunks down, giving back what is left |
//! | [`patience`] | looking again where another process is in the middle of a change |
//! | [`format_new`] | the header of a new segment |
//! | [`variables`] | the list of all variables, a private copy of all |
//! | [`attach`] | finding or creating a segment by its key |
//! | [`segment`] | the handle |
//! | `tests` | tests of all that |

pub mod message_queue;
mod message_queue_errors;
pub mod semaphore;
mod semaphore_errors;
mod semaphore_holders;
pub mod serialize;
pub mod shmop;
pub mod waiting;

mod attach;
mod chain;
mod change;
mod close_gaps;
mod format_new;
mod header;
mod layout;
mod patience;
mod put;
mod read;
mod remove;
mod replace;
mod room;
mod run;
pub mod segment;
#[cfg(test)]
mod tests;
mod unfinished;
mod variables;
mod writer;

pub use layout::{is_reserved, own_size};
