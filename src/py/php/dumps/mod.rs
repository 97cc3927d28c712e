//! From Python values to texts of PHP's `serialize`.
//!
//! | file | what |
//! | --- | --- |
//! | `text` | the text of a value: short scalars at once, everything else by a walk |
//! | `walk` | the walk through a value, without recursion |
//! | `open` | the containers that the walk is in |
//! | `keys` | keys of arrays, names of properties |
//! | `strings` | the bytes of `str`, `bytes` and what is like them |
//! | `other` | numbers of other classes; what to do with what PHP does not have |
//! | `place` | where in the value something is |
//! | `stop` | why a walk ends early, and the exceptions |
//! | `options` | what the caller may choose |
//! | `function` | `php.dumps` |

pub mod function;
#[allow(unsafe_code, reason = "the quickest calls of the interpreter's C interface")]
mod keys;
#[allow(unsafe_code, reason = "the quickest calls of the interpreter's C interface")]
mod open;
mod options;
mod other;
#[allow(unsafe_code, reason = "the quickest calls of the interpreter's C interface")]
mod place;
mod stop;
#[allow(unsafe_code, reason = "the bytes of objects")]
mod strings;
#[allow(unsafe_code, reason = "the quickest calls of the interpreter's C interface")]
mod text;
#[allow(unsafe_code, reason = "the quickest calls of the interpreter's C interface")]
mod walk;

pub use options::DumpOptions;
pub use strings::with_str;
pub use text::with_text;
