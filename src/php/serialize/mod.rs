//! PHP's `serialize` format: reading and writing its texts. Nothing here knows Python.
//!
//! The reader believes no number of a text before it has compared it with the bytes that are left, does not recurse,
//! and allocates only what the bytes that it has read can account for.
//!
//! | file | what |
//! | --- | --- |
//! | `scanner` | one token after the other: a value's beginning, a key, the end of an array |
//! | `number` | the digits of ints, floats and lengths |
//! | `numeric_key` | which strings PHP takes for an int where they are keys |
//! | `class_name` | which names of classes PHP reads |
//! | `walk` | the whole text: nesting, limits, references; drives a `Visitor` |
//! | `list_shapes` | a visitor that finds out which arrays are lists |
//! | `damage` | why a text is refused, and where |
//! | `writer` | the text of one token after the other |
//! | `float_text` | floats as PHP spells them |

mod class_name;
mod damage;
mod float_text;
mod list_shapes;
mod number;
mod numeric_key;
mod scanner;
mod walk;
mod writer;

pub use class_name::is_class_name;
pub use damage::{Damage, Why};
pub use list_shapes::{ListShapes, list_shapes};
pub use numeric_key::numeric_key;
pub use scanner::{Container, Key, Reference, Scalar, Scanner, Token};
pub use walk::{Frame, Limits, Visitor, walk};
pub use writer::{LONGEST_FLOAT, LONGEST_INT, Unwritten, Writer, float_text, int_text, string_text};
