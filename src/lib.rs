//! Python values shared between processes, by number, through memory: any number of processes, any of them killed at
//! any instruction, no server, no torn value, reads without a lock.
//!
//! `docs/format.md` states the bytes and `docs/protocol.md` the order in which processes store them; both stand above
//! this code. `docs/architecture.md` says which file does what.
//!
//! # Words
//!
//! | word | meaning |
//! | --- | --- |
//! | segment | the shared object, named by a [`Key`] |
//! | variable | one value in a segment, named by an [`Index`] |
//! | handle | a [`Segment`]: what a program holds after it has attached |
//! | attachment | the process's half of a segment, shared by all of its handles on it |
//! | participant | a process that is attached for writing, by its participant number |
//! | register, release | to become a participant, and to stop being one |
//! | reap | to undo what a dead process left in its participant's name |
//! | slot | the 32 bytes of a variable in the hash table: a seqlock whose sequence is the version |
//! | leaf, directory, root | the hash table: slots of one range of hashes; a word for each leaf; the word that names the directory |
//! | record | what a variable stores outside of its slot |
//! | granule | 4 KiB of the arena, one page |
//! | zone | 4,096 granules with their metadata |
//! | span | a run of granules with one purpose: a large value, a slab, a leaf or a directory |
//! | slab, block | a span cut into blocks of one size; a block holds one record |
//! | version | a number that grows with every change |
//! | intent | the change under way, described before it is made: a redo log of one entry |
//! | commit | one change, made through the intent |
//! | batch | several changes that are made together or not at all |
//! | writer lock | the lock that every change of a segment takes |
//! | registry lock | the lock that guards which process has which participant number |
//! | named lock | a lock of the user's, which is data in the segment |
//! | lock owner | the thread, greenlet or task of a process that holds a named lock |
//! | queue, item | a queue of the user's, whose items are values that each go to one caller |
//! | ticket | the number of an item in its queue |
//! | entry | what a queue's record says of an item that was taken |
//! | hold | what a process knows of an item that it has taken |
//! | pin | a process's mark on a span: not to be freed; an *owned pin* outlives the call |
//! | value in place | a value whose bytes processes change where they lie, without a put |
//! | creation lock | the lock of an index that whoever makes a value in place holds meanwhile |
//! | retired | a span that no slot names any more, and that a process may still have pinned |
//! | deferred free | a span that this process frees at its next acquisition of the writer lock |
//! | read section | the part of a read in which memory is looked at that others might give back to the system |
//! | wake word | what waiters sleep on; who changes what they wait for *notifies* them |
//! | wait policy | how a call waits, and lets the other threads of its process run meanwhile |
//! | backoff | what a call does between two attempts, and when it gives up |
//!
//! # Floors
//!
//! Arrows point down: `py` → `segment` → `coordination` → `variables` → `heap` → `process` → `arena` → `os` → `codec` →
//! `sync` → `format`; `php` stands beside them, on `os` and `sync` alone. Only `py` knows Python, only `os` makes system
//! calls. `unsafe` stands in `os`, in `sync::revocable`, in the marker impls of `format::layout`, and in `py`.
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
pub mod php;
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
pub use py::{fuzz_containers, fuzz_data_only};

#[cfg(not(loom))]
#[doc(hidden)]
pub use crate::{
    coordination::{AsCoordination, changes::Changes, changes_wait::Step, dump::Dumped, wait_any::Awaited},
    heap::AsHeap,
    segment::{DumpError, DumpPlan, DumpReader, DumpValue, ItemPart},
    variables::{AsVariables, leaf::TableOf},
};

#[cfg(not(loom))]
pub use crate::{
    coordination::queue_look::QueueInfo,
    error::{Error, Lack, Result},
    format::Eviction,
    heap::memory_map::MemoryUse,
    key::{INDEX_MAX, Index, IndexBuf, KEY_MAX, Key},
    os::ftok,
    process::wait_policy::{Blocking, WaitPolicy},
    segment::{
        Activity, AttachedProcess, LockGuard, Options, Report, Segment, SegmentInfo, SharedBytes, Standing, TakenBytes,
        VariableInfo, destroy, exists, segments,
    },
    variables::{add::Number, change::Condition},
};
