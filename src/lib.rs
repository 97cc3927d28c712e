//! Python values shared between processes, by number, through memory: any number of processes, any of them killed at any
//! instruction, no server, no torn value, reads without a lock.
//!
//! The bytes are in `docs/format.md`, the protocols in `docs/protocol.md`; both stand above this code.
//!
//! # Words
//!
//! | word | meaning |
//! | --- | --- |
//! | segment | the shared object, named by a [`Key`] |
//! | variable | one value in it, named by an [`Index`] |
//! | handle | a [`Segment`] of this process |
//! | attachment | a process's half of a segment, behind all of its handles on it |
//! | participant | a process attached for writing, by number |
//! | slot | a variable's place in the table |
//! | record | what a variable stores outside of its slot |
//! | slab | a span cut into blocks for short records |
//! | span | a run of granules: a large record, a slab, a leaf or a directory |
//! | leaf | slots of the variables whose hashes begin alike; the directory names all leaves |
//! | granule | 4 KiB of the arena, one page |
//! | intent | the change under way, described before it is made |
//! | pin | a reader's mark on a span: do not free |
//! | version | a number that grows with every change |
//! | batch | several changes that are made together or not at all |
//! | lock | a named lock; the *writer lock* guards changes of the segment itself |
//! | bell | what waiters sleep on, rung by who changes what they wait for |
//!
//! # Layers
//!
//! Arrows point down: `py` → `segment` → `arena`, `slot`, `lock`, `bell`, `intent` → `layout`, `mem` → `os`. Only `py` knows
//! Python, only `os` makes system calls; `unsafe` lives in `os`, `mem`, `revocable`, the marker
//! impls of `layout`, and `py`.
#![deny(unsafe_code)]

#[macro_use]
#[cfg(not(feature = "crash-points"))]
mod crash_point;
#[macro_use]
#[cfg(feature = "crash-points")]
pub mod crash_point;

pub mod atomic;
pub mod format;
pub mod sync;

mod hash;

#[cfg(not(loom))]
mod arena;
#[cfg(not(loom))]
mod bit_runs;
#[cfg(not(loom))]
pub mod codec;
#[cfg(not(loom))]
mod coordination;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod fallible;
#[cfg(all(fuzzing, not(loom)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(not(loom))]
mod heap;
#[cfg(not(loom))]
mod key;
#[cfg(not(loom))]
mod os;
#[cfg(not(loom))]
mod process;
#[cfg(all(feature = "python", not(loom)))]
mod py;
#[cfg(not(loom))]
mod segment;
#[cfg(not(loom))]
mod variables;

#[cfg(all(feature = "crash-points", not(loom)))]
pub use crate::segment::PinnedValue;

#[cfg(all(fuzzing, feature = "python", not(loom)))]
#[doc(hidden)]
pub use py::fuzz_data_only;

#[cfg(not(loom))]
#[doc(hidden)]
pub use crate::{
    coordination::AsCoordination,
    heap::AsHeap,
    variables::{AsVariables, leaf::TableOf},
};

#[cfg(not(loom))]
pub use crate::{
    error::{Error, Result},
    key::{INDEX_MAX, Index, IndexBuf, KEY_MAX, Key},
    os::ftok,
    process::wait_policy::{Blocking, WaitPolicy},
    segment::{LockGuard, Options, Report, Segment, SegmentInfo, Standing, VariableInfo, destroy, exists, segments},
    variables::{add::Number, change::Condition},
};
