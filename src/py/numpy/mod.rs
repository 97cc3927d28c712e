//! numpy's arrays on their way into a segment: their memory goes beside the pickle, not into it.
//!
//! | file | what |
//! | --- | --- |
//! | `search` | may a value hold arrays that numpy would copy? |
//! | `reducers` | how these are pickled instead |
//! | `writable_memory` | the memory of an array, for the pickler |
//! | `imported` | what is needed of numpy, where the program has imported it |
//! | `layout` | where an array's flags lie |
//!
//! Arrays that come out of a segment: `decode`, and `data_only` where it is not trusted.

#[allow(unsafe_code, reason = "numpy's binary interface")]
mod imported;
#[allow(unsafe_code, reason = "numpy's binary interface")]
mod layout;
mod reducers;
#[allow(unsafe_code, reason = "a look at classes and containers")]
mod search;
#[allow(unsafe_code, reason = "the buffer protocol")]
mod writable_memory;

pub use reducers::Reducers;
pub use search::may_hold_arrays;
