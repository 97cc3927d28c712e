//! The class `shmvar.php.Segment`, and `attach`. It adds Python to [`crate::php::segment::Segment`], and nothing else.
//!
//! | file | what |
//! | --- | --- |
//! | `handle` | the object, its lock, and its errors |
//! | `index` | indexes from Python objects |
//! | `methods` | the methods as Python calls them |
//! | `variable` | reads, stores and removes one variable |
//! | `opening` | `attach`, and what unpickles a handle |
//! | `mapping` | `pop`, `popitem`, `setdefault`, `copy`, comparison, `repr`, views |
//! | `update` | `update`: several variables, or none |

mod handle;
mod index;
mod mapping;
mod methods;
mod opening;
mod update;
mod variable;

pub use handle::PySegment;
pub use opening::{_reattach, attach};
