//! Protocols over atomics in shared memory, without a system call: the part of the crate that the loom models run.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `slot` | one variable's place in the table: a seqlock |
//! | `lock_word` | the writer lock's word |
//! | `intent` | the change under way, described before it is made |
//! | `wake_word` | what waiters sleep on, and how it is moved |
//! | `revocable` | what a handle lends to its calls until it is detached |

pub mod intent;
pub mod lock_word;
pub mod revocable;
pub mod slot;
pub mod wake_word;
