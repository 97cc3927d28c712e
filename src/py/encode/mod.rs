//! Values on their way into a segment: from objects to pickles.
//!
//! | file | what |
//! | --- | --- |
//! | `value` | the entry: scalars, and who does the rest |
//! | `pickler` | by the C pickler |
//! | `out_of_band` | what the pickler hands its buffers to |
//! | `bare_buffer` | large bytes-like values, without the pickler |
//! | `encoded` | the result, in the parts that it is stored from |

#[allow(unsafe_code, reason = "the interpreter's C interface for a look at buffers and types")]
mod bare_buffer;
#[allow(unsafe_code, reason = "the bytes of exported buffers")]
mod encoded;
mod out_of_band;
mod pickler;
#[allow(unsafe_code, reason = "the interpreter's C interface for scalars")]
mod value;

pub use encoded::Encoded;
pub use value::encode;
