//! What the decoder of untrusted values keeps about each Python object it has made.

use std::rc::Rc;

use super::table::Known;
use crate::os::thread_cpu_ns;
use pyo3::prelude::*;

/// One item of the pickle machine's stack.
#[derive(Clone)]
pub enum Slot<'py> {
    Value(Value<'py>),
    Known(Known),
    /// A tuple with a [`Known`] in it: the arguments of a call, and nothing else.
    Arguments(Rc<[Slot<'py>]>),
    /// An object that its state will make: see this entry of the decoder's list.
    Pending(u32),
}

impl<'py> Slot<'py> {
    pub fn object(&self) -> Option<&Bound<'py, PyAny>> {
        match self {
            Slot::Value(value) => Some(&value.obj),
            _ => None,
        }
    }
}

/// What pickle makes in two steps, a call and then `BUILD`.
pub enum Pending<'py> {
    Uuid,
    /// With its kind and size, as in `i8`.
    Dtype(u8, usize),
    /// Of numpy's `record`, the size of which its state tells.
    RecordDtype,
    /// Of that class.
    Array(Known),
    /// Over data of that class.
    Masked(Known),
    Built(Value<'py>),
}

#[derive(Clone)]
pub struct Value<'py> {
    pub obj: Bound<'py, PyAny>,
    /// Steps to hash it, 0 if it cannot be hashed.
    pub weight: u32,
    /// Deques inside each other in it, where it cannot grow: the interpreter frees these by recursion.
    pub deques: u32,
    pub shape: Shape,
}

impl<'py> Value<'py> {
    /// Something that contains nothing which the decoder made.
    pub fn leaf(obj: Bound<'py, PyAny>, weight: usize) -> Self {
        Value { obj, weight: u32::try_from(weight).unwrap_or(u32::MAX), deques: 0, shape: Shape::Fixed(0) }
    }
}

/// How deep an object's contents go.
#[derive(Clone, Copy)]
pub enum Shape {
    /// Immutable, so for ever.
    Fixed(u32),
    /// A container that may still grow while the stack and the memo both hold it: see this node.
    Node(u32),
    /// The same, fetched from the memo before it lay in anything: what is being filled now, referred to from within.
    Within(u32),
    /// A tuple of just that container: the arguments of `set` in protocols 2 and 3.
    TupleOf(u32),
}

/// One list, dict, set or deque, as grown so far.
#[derive(Clone, Copy, Default)]
pub struct Node {
    pub height: u32,
    /// The greatest weight among the items of a list.
    pub heaviest: u32,
    pub unhashable: bool,
    pub class: Class,
    /// It lies in something.
    pub placed: bool,
    /// Deques inside each other, itself included.
    pub deques: u32,
    /// Of these, what those above it were not told of: it grew after it was placed.
    pub untold: u32,
}

/// Whose methods fill a container.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Class {
    #[default]
    Builtin,
    Ordered,
    Deque,
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

    pub fn memory(&mut self, bytes: usize) -> Result<(), super::DataOnlyError> {
        match self.memory_left.checked_sub(bytes as u64) {
            Some(left) => {
                self.memory_left = left;
                Ok(())
            }
            None => Err(super::too_much("bytes of memory", self.memory)),
        }
    }

    /// Called for each insertion of a key: the only step of builtin containers whose time does not show in the stream.
    pub fn tick(&mut self) -> Result<(), super::DataOnlyError> {
        self.ticks += 1;
        if self.ticks < TICKS {
            return Ok(());
        }
        self.look()
    }

    /// Looks at the clock.
    pub fn look(&mut self) -> Result<(), super::DataOnlyError> {
        self.ticks = 0;
        if thread_cpu_ns() > self.cpu_end {
            return Err(super::too_much("nanoseconds of processor time", self.cpu));
        }
        Ok(())
    }

    /// Time that is not the stream's doing.
    pub fn forgive(&mut self, since: u64) {
        self.cpu_end = self.cpu_end.saturating_add(thread_cpu_ns().saturating_sub(since));
    }
}
