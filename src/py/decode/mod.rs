//! Reads values out of a segment: from pickles to Python objects. The way in is `encode`.
//!
//! | file | what |
//! | --- | --- |
//! | `read` | reads one variable |
//! | `large` | reads a value that has a span of its own, with buffers or without |
//! | `value` | decodes a pickle |
//! | `failure` | the exceptions of values that cannot be decoded |

mod failure;
mod large;
mod read;
#[allow(unsafe_code, reason = "the interpreter's C interface for scalars")]
mod value;

pub use large::LargeRead;
pub use read::read;
pub use value::decode;
