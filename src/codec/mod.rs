//! How values look as bytes: pure Rust, no Python.

pub mod arrays;
pub mod buffers;
pub mod kind;
pub mod opcode;
pub mod scalar;
pub mod stack;
