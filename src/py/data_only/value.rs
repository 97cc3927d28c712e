//! What the decoder knows of each Python object that it has built: how costly the object is to hash, and how deep it
//! goes.
//!
//! The rules that use these numbers are in `nesting` and `containers`.

use pyo3::prelude::*;

/// A finished object.
#[derive(Clone)]
pub struct Value<'py> {
    pub obj: Bound<'py, PyAny>,
    /// Steps to hash the object; 0 if it cannot be hashed.
    pub weight: u32,
    /// Number of deques inside each other in the object, if it cannot grow. CPython frees deques by recursion.
    pub deques: u32,
    pub nesting: Nesting,
}

impl<'py> Value<'py> {
    /// An object that contains no other object of the decoder.
    pub fn leaf(obj: Bound<'py, PyAny>, weight: usize) -> Self {
        Value { obj, weight: u32::try_from(weight).unwrap_or(u32::MAX), deques: 0, nesting: Nesting::Fixed(0) }
    }
}

/// How deep an object's contents go.
#[derive(Clone, Copy)]
pub enum Nesting {
    /// An immutable object of this height: it cannot become deeper.
    Fixed(u32),
    /// A container with this number in [`Containers`]. It may still grow while the stack or the memo refers to it.
    Node(u32),
    /// The same container, fetched from the memo before it was put into another object. So it is being filled now, and
    /// this is a reference to it from within.
    Within(u32),
    /// A tuple of only this container: the arguments of `set` in protocols 2 and 3.
    TupleOf(u32),
}

/// One list, dict, set or deque, as far as it has grown.
#[derive(Clone, Copy, Default)]
pub struct ContainerNode {
    /// How many containers are inside each other in it.
    pub height: u32,
    /// The greatest weight among the items of a list.
    pub heaviest: u32,
    /// Whether an item of a list cannot be hashed.
    pub unhashable: bool,
    pub class: ContainerClass,
    /// Whether it was put into another object.
    pub placed: bool,
    /// Number of deques inside each other, itself included.
    pub deques: u32,
    /// How many of these the containers around it have not counted, because it grew after it was placed in them.
    pub uncounted: u32,
}

/// Whose methods fill a container: of list, dict and set, of `OrderedDict`, or of `deque`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum ContainerClass {
    #[default]
    Builtin,
    Ordered,
    Deque,
}

/// The lists, dicts, sets and deques that the decoder has built, by the numbers in [`Nesting`].
#[derive(Default)]
pub struct Containers {
    pub nodes: Vec<ContainerNode>,
    /// The sum of [`ContainerNode::uncounted`].
    pub uncounted: u32,
}
