//! `shmvar.Queue`, and `shmvar.TakenItem`, the context manager that `Queue.take` returns.
//!
//! How items are put, taken and given back is in [`crate::coordination`]; waiting in asyncio is `shmvar._queue`.
//!
//! | file | what |
//! | --- | --- |
//! | `class` | the methods of `Queue` |
//! | `taken_item` | the class `TakenItem` |
//! | `put` | putting a value, or a pickle; the tries of tasks |
//! | `take` | getting and taking the first item, and reading its value |
//! | `handle` | what a `Queue` is; its exceptions |

mod class;
mod handle;
mod put;
mod take;
mod taken_item;

pub use class::{_queue, queue};
pub use handle::PyQueue;
pub use taken_item::PyTakenItem;
