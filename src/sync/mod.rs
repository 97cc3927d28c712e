//! Protocols over atomics: the part of the crate that the loom models run.
//!
//! This floor knows the words of `format` and the order of loads and stores on them. It does not know where the words
//! are, and it makes no system call: whatever waits or asks the kernel is handed in ([`lock_word::Waiting`]). It offers
//! the sequence lock of a slot ([`slot::Seqlock`]), the writer lock's word, the intent ([`intent::Change`]), wake
//! words, and [`revocable::Revocable`], which is private to a process.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `slot` | one variable's place in the table: a sequence lock |
//! | `lock_word` | the word of the writer lock |
//! | `intent` | the change under way, which is described before it is made |
//! | `edits` | parts of a change that several files describe |
//! | `slot_set` | several slots in one change |
//! | `removals` | the ring of the last removals |
//! | `bound` | up to which version every change is made |
//! | `wake_word` | the words that waiters sleep on: marking and notifying |
//! | `revocable` | a value that a handle lends to its calls until the handle is detached |

pub mod bound;
pub mod edits;
pub mod intent;
pub mod lock_word;
pub mod removals;
pub mod revocable;
pub mod slot;
pub mod slot_set;
pub mod wake_word;
