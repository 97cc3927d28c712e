//! The class `shmvar.Segment`. It adds Python to [`crate::segment::Segment`], and nothing else.
//!
//! | file | what |
//! | --- | --- |
//! | `handle` | the object, and what all its methods need |
//! | `methods` | the methods as Python calls them |
//! | `variable` | reads, stores and removes one variable |
//! | `contents` | all indexes, all items; `copy`, `\|` |
//! | `mapping` | `pop`, `popitem`, `setdefault`, comparison, views |
//! | `atomic_ops` | `add`, `swap`, `modify` |
//! | `batches` | `put_many`, `update`, `get_many` |
//! | `in_place` | `array`, `buffer` |
//! | `waiting` | `wait`, and what asyncio's tasks need to wait |
//! | `waiting_any` | `wait_any`, and the same for asyncio's tasks |

mod atomic_ops;
mod batches;
mod contents;
mod handle;
mod in_place;
mod mapping;
mod methods;
mod variable;
mod waiting;
mod waiting_any;

pub use batches::items;
pub use contents::_look;
pub use handle::PySegment;
