//! Values as bytes: pickles, and records with out-of-band buffers. Pure Rust, without Python.
//!
//! This floor knows the opcodes of pickle protocols 2 to 5 and the layout of a value with buffers ("Record" in
//! `docs/format.md`). It knows neither segments nor Python objects, and it never runs what a pickle describes. It
//! offers a reader of opcodes ([`opcode::OpReader`]) and what is built on it. All input may be hostile.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `code` | the bytes of the opcodes of containers and scalars |
//! | `opcode` | a reader of pickle opcodes, one at a time |
//! | `scalar` | pickles of `None`, bool, int, float, str and bytes: writing and reading them |
//! | `writer` | writing pickles of containers |
//! | `stack` | stack, marks and memo of the pickle machine |
//! | `kind` | the name of the type of a pickled value (tests in `kind_tests`) |
//! | `arrays` | which arrays of a pickle a reader may write, and changing that |
//! | `lone_array` | the pickle of a value that is one array: reading and writing it without a pickler |
//! | `buffers` | values with out-of-band buffers: layout, parsing, and a pickle without buffers |
//! | `value_check` | whether bytes that come piece by piece are a whole value |
//! | `dump_line`, `flat_json` | the lines of a dump: writing and reading them; the JSON that they are |

pub mod arrays;
pub mod buffers;
pub mod code;
pub mod dump_line;
pub mod flat_json;
pub mod kind;
pub mod lone_array;
pub mod opcode;
pub mod scalar;
pub mod stack;
pub mod value_check;
pub mod writer;
