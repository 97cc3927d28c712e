//! `shmvar.Segment`.
//!
//! | file | what |
//! | --- | --- |
//! | `handle` | the object |
//! | `methods` | its methods, as Python calls them |
//! | `variable` | one variable: read, stored, removed |
//! | `mapping` | what it does as a mapping |
//! | `atomic_ops` | `add`, `swap`, `modify` |
//! | `batches` | `put_many`, `update`, `get_many` |
//! | `waiting` | `wait`, and waiting for asyncio's tasks |

mod atomic_ops;
mod batches;
mod handle;
mod mapping;
mod methods;
mod variable;
mod waiting;

pub use handle::PySegment;
