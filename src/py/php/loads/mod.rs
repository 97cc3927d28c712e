//! From texts of PHP's `serialize` to Python values. No class of the program is looked up, and none of its code runs.
//!
//! | file | what |
//! | --- | --- |
//! | `value` | the value of a text: scalars at once, everything else by a builder |
//! | `builder` | the visitor that builds values |
//! | `object_stack` | the references that it holds meanwhile |
//! | `memory` | the estimate of what the objects take |
//! | `options` | what the caller may choose |
//! | `function` | `php.loads` |

#[allow(unsafe_code, reason = "the quickest calls of the interpreter's C interface")]
mod builder;
pub mod function;
mod memory;
#[allow(unsafe_code, reason = "references in a vector")]
mod object_stack;
mod options;
#[allow(unsafe_code, reason = "the quickest calls of the interpreter's C interface")]
mod value;

pub use options::{LoadOptions, arrays_are_dicts, strings_are_bytes};
pub use value::{LoadError, unserialize_error, value};
