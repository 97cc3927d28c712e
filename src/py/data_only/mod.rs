//! The data-only decoder: it reads the pickles of a segment that is not trusted, and nothing in a pickle can make it
//! run code.
//!
//! It builds Python objects from the opcodes, without recursion. It imports and calls nothing that the pickle names:
//! names are compared with a short table ([`globals`]), and this decoder itself builds what the table holds. [`Limits`]
//! bound work and memory, and on every error the objects built so far are freed. Everything that it accepts it decodes
//! as `pickle.loads` does; it accepts less.
//!
//! Values of a trusted segment are read by the interpreter's own unpickler instead: see `decode`.
//!
//! | file | what |
//! | --- | --- |
//! | `run` | the entry and the loop: what each opcode does |
//! | `decoder` | the state of one decoding, and the small steps that all files use |
//! | `stack_item` | the items of the stack |
//! | `value`, `nesting` | what is known of each object, and how deep objects are inside each other |
//! | `scalars`, `containers`, `builtins` | objects of built-in types |
//! | `globals` | the table of globals that a pickle may name |
//! | `call`, `arguments` | the calls of these globals, and checks of the arguments |
//! | `library_class`, `standard`, `dates` | objects of the standard library |
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
pub use run::{_decode_data_only, decode, decode_in_place};
