//! Values on their way out of a segment: from pickles to objects.
//!
//! | file | what |
//! | --- | --- |
//! | `read` | reads a variable |
//! | `large` | reads one whose value has a span of its own, with buffers or without |
//! | `value` | decodes a pickle |
//! | `failure` | why a value could not be read |

mod failure;
mod large;
mod read;
#[allow(unsafe_code, reason = "the interpreter's C interface for scalars")]
mod value;

pub use large::LargeRead;
pub use read::read;
pub use value::decode;
