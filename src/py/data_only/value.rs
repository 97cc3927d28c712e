//! What the decoder keeps about each Python object that it has made: how costly it is to hash, and how deep it goes.
//!
//! The rules that use these numbers are in [`super::nesting`] and [`super::containers`].

use pyo3::prelude::*;

/// A finished object.

#[derive(Clone)]
pub struct Value<'py> {
    pub obj: Bound<'py, PyAny>,
    /// Steps to hash it, 0 if it cannot be hashed.
    pub weight: u32,
    /// Deques inside each other in it, where it cannot grow: the interpreter frees these by recursion.
    pub deques: u32,
    pub nesting: Nesting,
}

impl<'py> Value<'py> {
    /// Something that contains nothing which the decoder made.
    pub fn leaf(obj: Bound<'py, PyAny>, weight: usize) -> Self {
        Value { obj, weight: u32::try_from(weight).unwrap_or(u32::MAX), deques: 0, nesting: Nesting::Fixed(0) }
    }
}

/// How deep an object's contents go.
#[derive(Clone, Copy)]
pub enum Nesting {
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
pub struct ContainerNode {
    pub height: u32,
    /// The greatest weight among the items of a list.
    pub heaviest: u32,
    pub unhashable: bool,
    pub class: ContainerClass,
    /// It lies in something.
    pub placed: bool,
    /// Deques inside each other, itself included.
    pub deques: u32,
    /// Of these, what those above it were not told of: it grew after it was placed.
    pub untold: u32,
}

/// Whose methods fill a container.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum ContainerClass {
    #[default]
    Builtin,
    Ordered,
    Deque,
}

/// The lists, dicts, sets and deques that the decoder has made, by the numbers in [`Nesting`].
#[derive(Default)]
pub struct Containers {
    pub nodes: Vec<ContainerNode>,
    /// The sum of [`ContainerNode::untold`].
    pub untold: u32,
}
