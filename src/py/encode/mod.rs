//! Prepares values for a segment: from Python objects to pickles. The way out is `decode`.
//!
//! | file | what |
//! | --- | --- |
//! | `value` | the entry: encodes scalars, passes on the rest |
//! | `containers` | pickles exact containers of scalars without the pickler |
//! | `address_memo` | which objects stand in a pickle already |
//! | `refused_shapes` | which containers are left to the pickler at once |
//! | `pickler` | pickles other values with the C pickler |
//! | `out_of_band` | collects the buffers that the pickler leaves out of the pickle |
//! | `bare_buffer` | encodes large bytes-like values without the pickler |
//! | `encoded` | the result: the parts that are stored one after the other |
//! | `batch` | indexes and results of a large batch |

mod address_memo;
#[allow(unsafe_code, reason = "the interpreter's C interface for a look at buffers and types")]
mod bare_buffer;
mod batch;
#[allow(unsafe_code, reason = "the interpreter's C interface for a walk through containers")]
mod containers;
#[allow(unsafe_code, reason = "the bytes of exported buffers")]
mod encoded;
mod out_of_band;
mod pickler;
#[allow(unsafe_code, reason = "the interpreter's C interface for a look at containers")]
mod refused_shapes;
#[allow(unsafe_code, reason = "the interpreter's C interface for scalars")]
mod value;

pub use batch::EncodedBatch;
pub use encoded::{Encoded, WholeParts};
pub use value::encode;
