//! Prepares values for a segment: from Python objects to pickles. The way out is `decode`.
//!
//! | file | what |
//! | --- | --- |
//! | `value` | the entry: encodes scalars, passes on the rest |
//! | `pickler` | pickles other values with the C pickler |
//! | `out_of_band` | collects the buffers that the pickler leaves out of the pickle |
//! | `bare_buffer` | encodes large bytes-like values without the pickler |
//! | `encoded` | the result: the parts that are stored one after the other |

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
