//! The extension module `shmvar._core`: thin classes over [`crate::segment`].
//!
//! | file or folder | what |
//! | --- | --- |
//! | `module` | the classes and functions of the module |
//! | `interpreter` | which interpreter of the process may have it |
//! | `open` | `attach` and the functions around it |
//! | `segment`, `lock`, `info` | the classes `Segment`, `Lock`, and what `info`, `stat` and `check` return |
//! | `inspect`, `command_line` | for the command line |
//! | `encode`, `numpy` | values to pickles, and what numpy's arrays need for that |
//! | `decode`, `pickle`, `data_only` | pickles to values; without running code, where the segment is not trusted |
//! | `read_mode`, `read_only`, `buffer_views` | values that are independent, or read-only over the segment's memory |
//! | `wait`, `greenlets`, `lock_owner` | waiting, among greenlets too; who takes a lock |
//! | `convert`, `errors` | arguments, and exceptions |
//! | `create`, `calls`, `emergency_memory` | objects, calls and short allocations where memory may lack |

// `stub!`: the docstrings of `_core.pyi`, made by `build.rs`. Before the modules, which use it.
include!(concat!(env!("OUT_DIR"), "/stub.rs"));

#[allow(unsafe_code, reason = "the buffer protocol")]
mod buffer_views;
#[allow(unsafe_code, reason = "the interpreter's C interface for what may fail")]
mod calls;
mod command_line;
mod convert;
#[allow(unsafe_code, reason = "the interpreter's C interface for what may fail")]
mod create;
mod data_only;
mod decode;
#[allow(unsafe_code, reason = "an allocator")]
mod emergency_memory;
mod encode;
mod errors;
mod greenlets;
mod info;
mod inspect;
#[allow(unsafe_code, reason = "the interpreter's own dict")]
mod interpreter;
mod lock;
mod lock_owner;
mod module;
mod numpy;
mod open;
#[allow(unsafe_code, reason = "a search in a pickle")]
mod pickle;
mod read_mode;
#[allow(unsafe_code, reason = "the C interface for a look at buffers")]
mod read_only;
mod segment;
mod wait;

#[cfg(fuzzing)]
pub use data_only::fuzz_data_only;
