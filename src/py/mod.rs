//! The extension module `shmvar._core`: thin Python classes over [`crate::segment`]. Only this folder knows Python.
//!
//! | file or folder | what |
//! | --- | --- |
//! | `module` | the classes and functions of the module |
//! | `interpreter` | only one interpreter of a process may use the module |
//! | `open` | `attach` and the functions around it |
//! | `remote` | what segments on a server need of the core |
//! | `segment`, `lock`, `queue`, `changes`, `info` | the classes `Segment`, `Lock`, `Queue`, `Changes`, and what `info`, `stat` and `check` return |
//! | `inspect`, `command_line` | functions for the command-line program |
//! | `displays` | what displays need, in a notebook and on a terminal |
//! | `dump` | dumps: writing and reading them |
//! | `encode`, `numpy` | from values to pickles; how numpy's arrays are pickled |
//! | `decode`, `pickle` | from pickles to values |
//! | `data_only` | the decoder that runs no code, for segments that are not trusted |
//! | `read_mode`, `read_only`, `buffer_views` | independent values, or read-only ones over the segment's memory |
//! | `php` | the classes and functions of `shmvar.php` |
//! | `wait`, `greenlets`, `lock_owner` | how calls wait, also among greenlets; who owns a lock |
//! | `convert`, `errors` | arguments from Python, exceptions to Python |
//! | `collector` | pausing the garbage collector |
//! | `kept_error` | the exception that is on its way, while something else runs |
//! | `create`, `calls` | Python objects and calls where a lack of memory is a `MemoryError` |
//! | `emergency_memory` | blocks for short allocations when the system has no memory |

// Defines the macro `stub!`, which gives the docstrings of `_core.pyi`; `build.rs` writes it. It must precede the
// modules, which use it.
include!(concat!(env!("OUT_DIR"), "/stub.rs"));

#[allow(unsafe_code, reason = "the buffer protocol")]
mod buffer_views;
#[allow(unsafe_code, reason = "the interpreter's C interface for what may fail")]
mod calls;
mod changes;
#[allow(unsafe_code, reason = "the interpreter's C interface to its garbage collector")]
mod collector;
mod command_line;
mod convert;
#[allow(unsafe_code, reason = "the interpreter's C interface for what may fail")]
mod create;
mod data_only;
mod decode;
mod displays;
mod dump;
#[allow(unsafe_code, reason = "an allocator")]
mod emergency_memory;
mod encode;
mod errors;
mod greenlets;
mod info;
mod inspect;
#[allow(unsafe_code, reason = "the interpreter's own dict")]
mod interpreter;
#[allow(unsafe_code, reason = "the exception that is set")]
mod kept_error;
mod lock;
mod lock_owner;
mod module;
mod numpy;
mod open;
mod php;
#[allow(unsafe_code, reason = "a search in a pickle")]
mod pickle;
mod queue;
mod read_mode;
#[allow(unsafe_code, reason = "the C interface for a look at buffers")]
mod read_only;
mod remote;
mod segment;
mod wait;

#[cfg(fuzzing)]
pub use data_only::fuzz_data_only;
#[cfg(fuzzing)]
pub use decode::fuzz_containers;
