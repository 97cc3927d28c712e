//! Reads values out of a segment: from pickles to Python objects. The way in is `encode`.
//!
//! | file | what |
//! | --- | --- |
//! | `read` | reads one variable |
//! | `large` | reads a value that has a span of its own, with buffers or without |
//! | `in_place` | objects over the memory of a value in place |
//! | `apart` | reads a value with buffers that lies in memory of the process's own |
//! | `one_buffer` | reads one `bytes` or one array without the unpickler |
//! | `value` | decodes a pickle |
//! | `containers` | decodes containers of scalars without the unpickler |
//! | `text` | a str of the text of a pickle |
//! | `failure` | the exceptions of values that cannot be decoded |

mod apart;
#[allow(unsafe_code, reason = "the interpreter's C interface for containers")]
mod containers;
mod failure;
mod in_place;
mod large;
mod one_buffer;
mod read;
#[allow(unsafe_code, reason = "the interpreter's C interface for text")]
mod text;
#[allow(unsafe_code, reason = "the interpreter's C interface for scalars")]
mod value;

pub use apart::{decode_apart, decode_buffers};
#[cfg(fuzzing)]
pub use containers::containers as fuzz_containers;
pub use containers::{_decode_containers, leave_all};
pub use failure::{ValueOf, version_of};
pub use in_place::{InPlace, open, refuse_in_place};
pub use large::LargeRead;
pub use read::{look, read};
pub use value::decode;
