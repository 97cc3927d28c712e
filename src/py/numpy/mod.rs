//! How numpy's arrays are pickled: their memory is stored beside the pickle, not copied into it. And how one array is
//! written and made without pickler and unpickler.
//!
//! numpy is never imported here; all of this applies only if the program has imported it.
//!
//! | file | what |
//! | --- | --- |
//! | `search` | checks quickly whether a value may hold arrays that numpy would copy |
//! | `reducers` | pickles these arrays without a copy |
//! | `writable_memory` | the memory of an array, as the pickler gets it |
//! | `imported` | the objects that are needed of numpy |
//! | `layout` | reads fields of an array from its memory |
//! | `number` | numpy's ints and floats as those of Python |
//! | `lone_array` | values that are one array: written without the pickler, made without the unpickler |
//!
//! Reading other arrays is the subject of `decode` and, if the segment is not trusted, of `data_only`.

#[allow(unsafe_code, reason = "numpy's binary interface")]
mod imported;
#[allow(unsafe_code, reason = "numpy's binary interface")]
mod layout;
#[allow(unsafe_code, reason = "numpy's binary interface, and the buffer protocol")]
mod lone_array;
mod number;
mod reducers;
#[allow(unsafe_code, reason = "a look at classes and containers")]
mod search;
#[allow(unsafe_code, reason = "the buffer protocol")]
mod writable_memory;

pub use lone_array::{ArrayMaker, PickledArray, is_array, pickled, prepare, remember};
pub use number::{is_bool, python_number};
pub use reducers::Reducers;
pub use search::may_hold_arrays;
