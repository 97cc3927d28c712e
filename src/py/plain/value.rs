//! What the decoder of untrusted values keeps about each Python object it has made.

use crate::os::thread_cpu_ns;
use pyo3::prelude::*;

/// One item of the pickle machine's stack.
#[derive(Clone)]
pub enum Slot<'py> {
    Value(Value<'py>),
    Known(Known),
}

impl<'py> Slot<'py> {
    pub fn object(&self) -> Option<&Bound<'py, PyAny>> {
        match self {
            Slot::Value(value) => Some(&value.obj),
            Slot::Known(_) => None,
        }
    }
}

#[derive(Clone)]
pub struct Value<'py> {
    pub obj: Bound<'py, PyAny>,
    /// Steps to hash it, 0 if it cannot be hashed.
    pub weight: u32,
    pub shape: Shape,
}

/// How deep an object's contents go.
#[derive(Clone, Copy)]
pub enum Shape {
    /// Immutable, so for ever.
    Fixed(u32),
    /// A list, dict or set: see this node, for it may still grow while the stack and the memo both hold it.
    Node(u32),
    /// A tuple of just that list, dict or set: the arguments of `set` in protocols 2 and 3.
    TupleOf(u32),
}

/// One list, dict or set, as grown so far.
#[derive(Clone, Copy, Default)]
pub struct Node {
    pub height: u32,
    /// The greatest weight among the items of a list.
    pub heaviest: u32,
    pub unhashable: bool,
}

/// The handful of globals that CPython writes for plain values where the protocol has no opcode for them. They are
/// recognised by name; nothing is looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Set,
    FrozenSet,
    ByteArray,
    Bytes,
    Complex,
    /// `_codecs.encode(text, 'latin1')`: bytes in protocol 2.
    Encode,
}

impl Known {
    pub fn find(module: &[u8], name: &[u8]) -> Option<Self> {
        Some(match (module, name) {
            (b"builtins", b"set") => Known::Set,
            (b"builtins", b"frozenset") => Known::FrozenSet,
            (b"builtins", b"bytearray") => Known::ByteArray,
            (b"builtins", b"bytes") => Known::Bytes,
            (b"builtins", b"complex") => Known::Complex,
            (b"_codecs", b"encode") => Known::Encode,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Known::Set => "builtins.set",
            Known::FrozenSet => "builtins.frozenset",
            Known::ByteArray => "builtins.bytearray",
            Known::Bytes => "builtins.bytes",
            Known::Complex => "builtins.complex",
            Known::Encode => "_codecs.encode",
        }
    }
}

/// What has been spent, against the limits for this input.
pub struct Budget {
    memory_left: u64,
    memory: u64,
    cpu_end: u64,
    cpu: u64,
    ticks: u32,
}

/// Insertions or opcodes between looks at the clock, which costs a system call.
const TICKS: u32 = 64;

impl Budget {
    pub fn new(limits: &super::Limits, input: usize) -> Self {
        let scaled = |base: u64, each: u64| base.saturating_add(each.saturating_mul(input as u64));
        let memory = scaled(limits.memory_base, limits.memory_per_byte);
        let cpu = scaled(limits.cpu_base_ns, limits.cpu_ns_per_byte);
        Budget { memory_left: memory, memory, cpu_end: thread_cpu_ns().saturating_add(cpu), cpu, ticks: 0 }
    }

    pub fn memory(&mut self, bytes: usize) -> Result<(), super::PlainError> {
        match self.memory_left.checked_sub(bytes as u64) {
            Some(left) => {
                self.memory_left = left;
                Ok(())
            }
            None => Err(super::too_much("bytes of memory", self.memory)),
        }
    }

    /// Called for each insertion of a key: the only step whose time does not show in the stream.
    pub fn tick(&mut self) -> Result<(), super::PlainError> {
        self.ticks += 1;
        if self.ticks < TICKS {
            return Ok(());
        }
        self.ticks = 0;
        if thread_cpu_ns() > self.cpu_end {
            return Err(super::too_much("nanoseconds of processor time", self.cpu));
        }
        Ok(())
    }
}
