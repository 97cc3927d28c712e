//! The decoder for values of a segment that is not trusted: plain data, and nothing that could run code.
//!
//! It builds real Python objects from the opcodes, without recursion, without an import and without a call of anything
//! the pickle names. Work and memory are bounded by [`Limits`]; what was half built is freed on every error. On what it
//! accepts it agrees with `pickle.loads`; it accepts less.

mod build;
mod call;
mod error;
mod value;

use std::collections::TryReserveError;

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyList, PySet, PyTuple};

pub use error::{Limits, PlainError, to_pyerr};
use value::{Budget, Node, Shape, Slot, Value};

use crate::codec::kind::{dotted, modern};
use crate::codec::opcode::{HIGHEST_PROTOCOL, Op, Reader};
use crate::codec::stack::Stack;

type Result<T> = std::result::Result<T, PlainError>;

/// Sizes charged for CPython 3.11's objects, the collector's header included, rounded up.
mod size {
    pub const LIST: usize = 72;
    pub const LIST_ITEM: usize = 10;
    pub const DICT: usize = 80;
    /// With the first item comes a table.
    pub const DICT_TABLE: usize = 168;
    pub const SET: usize = 232;
    /// Of a dict or set, as it grows.
    pub const ENTRY: usize = 64;
    pub const TUPLE: usize = 64;
    pub const TEXT: usize = 64;
}

/// The value of `pickle`, if it is plain data.
pub fn decode(py: Python<'_>, pickle: &[u8], limits: &Limits) -> Result<Py<PyAny>> {
    let decoder = Decoder {
        py,
        limits,
        reader: Reader::new(pickle),
        stack: Stack::new(),
        nodes: Vec::new(),
        budget: Budget::new(limits, pickle.len()),
        proto: 0,
    };
    Ok(decoder.run()?.unbind())
}

/// For the tests only.
#[pyfunction]
pub fn _decode_plain(py: Python<'_>, data: &[u8]) -> PyResult<Py<PyAny>> {
    decode(py, data, &Limits::default()).map_err(|error| to_pyerr(py, error))
}

fn too_much(limit: &'static str, value: u64) -> PlainError {
    PlainError::TooMuch { limit, value }
}

/// The weight of a str or bytes: hashed once, but compared with every equal key it meets.
fn compared(length: usize) -> usize {
    1 + length / 64
}

fn no_memory(_: TryReserveError) -> PlainError {
    PlainError::Python(PyMemoryError::new_err(()))
}

fn needs(what: &str) -> PlainError {
    PlainError::NeedsCode { what: what.to_owned() }
}

struct Decoder<'a, 'py> {
    py: Python<'py>,
    limits: &'a Limits,
    reader: Reader<'a>,
    stack: Stack<Slot<'py>>,
    nodes: Vec<Node>,
    budget: Budget,
    proto: u8,
}

impl<'a, 'py> Decoder<'a, 'py> {
    fn run(mut self) -> Result<Bound<'py, PyAny>> {
        for _ in 0..self.limits.opcodes {
            let op = self.reader.next_op().map_err(|error| PlainError::Damaged { at: error.at, why: error.why })?;
            if op == Op::Stop {
                return Ok(self.pop_value()?.obj);
            }
            self.stack.make_room().map_err(no_memory)?;
            self.step(op)?;
        }
        Err(too_much("opcodes", self.limits.opcodes))
    }

    fn step(&mut self, op: Op<'a>) -> Result<()> {
        let py = self.py;
        match op {
            Op::Proto(proto) if proto > HIGHEST_PROTOCOL => {
                return Err(PlainError::NewerProtocol(proto));
            }
            Op::Proto(proto) => self.proto = proto,
            Op::Frame(_) | Op::Stop => {}
            Op::Mark => self.stack.mark(),
            Op::Pop => self.stack.pop_item_or_mark().map_err(|why| self.damaged(why))?,
            Op::PopMark => {
                let start = self.pop_mark()?;
                self.stack.truncate(start);
            }
            Op::Dup => {
                let top = self.stack.top().map_err(|why| self.damaged(why))?.clone();
                self.stack.push(top);
            }
            Op::Memoize => self.stack.memoize().map_err(|why| self.damaged(why))?,
            Op::Put(index) => {
                let at = self.reader.op_at();
                self.stack.put(index, at).map_err(|why| self.damaged(why))?;
            }
            Op::Get(index) => {
                let slot = self.stack.get(index).map_err(|why| self.damaged(why))?;
                self.stack.push(slot);
            }
            Op::None => self.push(py.None().into_bound(py), 1, 0)?,
            Op::Bool(value) => self.push(value.into_pyobject(py).map_err(PyErr::from)?.to_owned().into_any(), 1, 0)?,
            Op::Int(value) => self.push(value.into_pyobject(py).map_err(PyErr::from)?.into_any(), 1, 32)?,
            Op::Long(digits) => {
                let int = self.int(digits)?;
                self.push(int, 1 + digits.len() / 16, 40 + digits.len())?;
            }
            Op::Float(value) => self.push(PyFloat::new(py, value).into_any(), 1, 24)?,
            Op::Str(utf8) => {
                // ASCII stays one byte a character; anything else may become four.
                let width = if utf8.is_ascii() { 1 } else { 4 };
                self.budget.memory(size::TEXT + width * utf8.len())?;
                let text = self.text(utf8)?;
                self.push(text, compared(utf8.len()), 0)?;
            }
            Op::Bytes(bytes) => {
                let object = self.bytes(bytes)?;
                self.push(object, compared(bytes.len()), 0)?;
            }
            Op::ByteArray(bytes) => {
                let object = self.bytearray(bytes)?;
                self.push(object, 0, 0)?;
            }
            Op::EmptyTuple => self.push(PyTuple::empty(py).into_any(), 1, 0)?,
            Op::EmptyList => self.push_node(PyList::empty(py).into_any(), size::LIST)?,
            Op::EmptyDict => self.push_node(PyDict::new(py).into_any(), size::DICT)?,
            Op::EmptySet => self.push_node(PySet::empty(py)?.into_any(), size::SET)?,
            Op::List => {
                let start = self.pop_mark()?;
                self.budget.memory(size::LIST)?;
                let list = self.new_node(PyList::empty(py).into_any())?;
                self.append(&list, start)?;
                self.stack.push(Slot::Value(list));
            }
            Op::Dict => {
                let start = self.pop_mark()?;
                self.budget.memory(size::DICT)?;
                let dict = self.new_node(PyDict::new(py).into_any())?;
                self.set_items(&dict, start)?;
                self.stack.push(Slot::Value(dict));
            }
            Op::FrozenSet => {
                let start = self.pop_mark()?;
                self.frozen_set(start)?;
            }
            Op::Tuple => {
                let start = self.pop_mark()?;
                self.tuple(start)?;
            }
            Op::TupleOf(count) => {
                let start = self.last(count)?;
                self.tuple(start)?;
            }
            Op::Append => self.fill(1, Self::append)?,
            Op::SetItem => self.fill(2, Self::set_items)?,
            Op::Appends => self.fill_marked(Self::append)?,
            Op::SetItems => self.fill_marked(Self::set_items)?,
            Op::AddItems => self.fill_marked(Self::add_items)?,
            Op::Global { module, name } => self.global(module, name)?,
            Op::StackGlobal => self.stack_global()?,
            Op::Reduce => self.reduce()?,
            Op::Inst { module, name } => return Err(self.refuse(module, name)),
            Op::Obj | Op::NewObj | Op::NewObjEx => {
                return Err(needs("a class to make an object of"));
            }
            Op::Build => return Err(needs("__setstate__")),
            Op::PersId | Op::BinPersId => return Err(needs("a persistent id")),
            Op::Ext(_) => return Err(needs("a copyreg extension")),
            Op::NextBuffer | Op::ReadonlyBuffer => return Err(needs("a buffer")),
        }
        Ok(())
    }

    fn damaged(&self, why: &'static str) -> PlainError {
        PlainError::Damaged { at: self.reader.op_at(), why }
    }

    fn refuse(&self, module: &[u8], name: &[u8]) -> PlainError {
        PlainError::NeedsCode { what: dotted(modern(module, self.proto), name) }
    }

    fn push(&mut self, obj: Bound<'py, PyAny>, weight: usize, size: usize) -> Result<()> {
        self.budget.memory(size)?;
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        self.stack.push(Slot::Value(Value { obj, weight, shape: Shape::Fixed(0) }));
        Ok(())
    }

    fn new_node(&mut self, obj: Bound<'py, PyAny>) -> Result<Value<'py>> {
        let index = u32::try_from(self.nodes.len()).map_err(|_| too_much("containers", u32::MAX.into()))?;
        self.nodes.try_reserve(1).map_err(no_memory)?;
        self.nodes.push(Node::default());
        Ok(Value { obj, weight: 0, shape: Shape::Node(index) })
    }

    fn push_node(&mut self, obj: Bound<'py, PyAny>, size: usize) -> Result<()> {
        self.budget.memory(size)?;
        let value = self.new_node(obj)?;
        self.stack.push(Slot::Value(value));
        Ok(())
    }

    fn pop_slot(&mut self) -> Result<Slot<'py>> {
        self.stack.pop().map_err(|why| self.damaged(why))
    }

    fn pop_value(&mut self) -> Result<Value<'py>> {
        match self.pop_slot()? {
            Slot::Value(value) => Ok(value),
            Slot::Known(known) => Err(needs(known.name())),
        }
    }

    fn take(&mut self, start: usize) -> Result<Vec<Slot<'py>>> {
        self.stack.split_off(start).map_err(no_memory)
    }

    fn pop_mark(&mut self) -> Result<usize> {
        self.stack.pop_mark().map_err(|why| self.damaged(why))
    }

    fn last(&self, count: usize) -> Result<usize> {
        self.stack.last(count).map_err(|why| self.damaged(why))
    }

    fn height(&self, shape: Shape) -> u32 {
        match shape {
            Shape::Fixed(height) => height,
            Shape::Node(node) => self.nodes[node as usize].height,
            Shape::TupleOf(node) => self.nodes[node as usize].height.saturating_add(1),
        }
    }

    /// The item as something that may go into a container, and the height the container then has.
    fn child<'s>(&self, slot: &'s Slot<'py>) -> Result<(&'s Value<'py>, u32)> {
        let value = match slot {
            Slot::Value(value) => value,
            Slot::Known(known) => return Err(needs(known.name())),
        };
        let height = self.height(value.shape).saturating_add(1);
        if height > self.limits.depth {
            return Err(too_much("depth", self.limits.depth.into()));
        }
        Ok((value, height))
    }
}
