//! The decoder for values of a segment that is not trusted: plain data, and nothing that could run code.
//!
//! It builds real Python objects from the opcodes, without recursion, and imports and calls nothing that the pickle names:
//! names are compared with a short table ([`globals`]), and what that holds is made here. Work and memory are bounded by
//! [`Limits`]; what was half built is freed on every error. On what it accepts it agrees with `pickle.loads`; it accepts
//! less.
//!
//! | file | what |
//! | --- | --- |
//! | `run` | the entry, and what each opcode does |
//! | `decoder` | the state of one decoding, and small steps that all files share |
//! | `stack_item` | the items of the stack |
//! | `value`, `nesting` | what is kept of each object, and how deep objects lie in each other |
//! | `scalars`, `containers`, `builtins` | builtin types |
//! | `globals`, `call`, `arguments` | which globals a pickle may name, the calls of these, checks of their arguments |
//! | `library_class`, `standard`, `dates` | types of the standard library |
//! | `ndarray`, `masked` | numpy's arrays |
//! | `dtype`, `struct_dtype`, `dtype_description` | numpy's dtypes |
//! | `limits`, `budget`, `object_size` | what a decoding may cost |
//! | `error` | how a decoding fails |

mod arguments;
mod budget;
mod builtins;
mod call;
mod containers;
mod dates;
mod decoder;
mod dtype;
mod dtype_description;
mod error;
mod globals;
mod library_class;
mod limits;
mod masked;
mod ndarray;
mod nesting;
mod object_size;
mod run;
mod scalars;
mod stack_item;
mod standard;
mod struct_dtype;
mod value;

pub use error::DataOnlyError;
pub use limits::Limits;
#[cfg(fuzzing)]
pub use run::fuzz_data_only;
pub use run::{_decode_data_only, decode};
