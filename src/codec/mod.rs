//! How values look as bytes: pure Rust, no Python.

pub mod kind;
pub mod opcode;
pub mod scalar;
pub mod stack;
