//! The decoder for values of a segment that is not trusted: plain data, and nothing that could run code.
//!
//! It builds real Python objects from the opcodes, without recursion, and imports and calls nothing that the pickle names:
//! names are compared with a short table ([`table`]), and what that holds is made here. Work and memory are bounded by
//! [`Limits`]; what was half built is freed on every error. On what it accepts it agrees with `pickle.loads`; it accepts
//! less.

mod build;
mod call;
mod depth;
mod dtype;
mod error;
mod masked;
mod ndarray;
mod standard;
mod table;
mod value;

use std::collections::{HashMap, TryReserveError};
use std::rc::Rc;

use pyo3::exceptions::{PyException, PyMemoryError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyMemoryView, PySet, PyTuple};

use call::is_buffer;
use dtype::Desc;
pub use error::{DataOnlyError, Limits, to_pyerr};
use value::{Budget, Class, Node, Pending, Shape, Slot, Value};

use crate::codec::kind::{current_name, dotted};
use crate::codec::opcode::{HIGHEST_PROTOCOL, Op, OpReader};
use crate::codec::stack::{NO_MEMORY, Stack};
use crate::py::decode::Want;
use crate::py::made;

type Result<T> = std::result::Result<T, DataOnlyError>;

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
    /// A small object of the standard library or numpy, with what it consists of.
    pub const OBJECT: usize = 256;
    /// And a deque's first block.
    pub const BLOCK: usize = 528;
}

/// The value of `pickle`, if it is plain data. `buffers` are those beside it, copied to where nobody else writes; they
/// become part of the value. An array can be written for [`Want::Own`] and cannot for [`Want::View`], whatever the pickle
/// says of its memory.
pub fn decode<'py>(
    py: Python<'py>,
    pickle: &[u8],
    buffers: Vec<Bound<'py, PyByteArray>>,
    want: Want,
    limits: &Limits,
) -> Result<Py<PyAny>> {
    let input = buffers.iter().fold(pickle.len(), |sum, buffer| sum.saturating_add(buffer.len()));
    let decoder = Decoder {
        py,
        want,
        limits,
        reader: OpReader::new(pickle),
        stack: Stack::new(),
        nodes: Vec::new(),
        pending: Vec::new(),
        dtypes: HashMap::new(),
        buffers: buffers.into_iter(),
        budget: Budget::new(limits, input),
        untold: 0,
        wide_int: false,
        slow_equality: false,
        proto: 0,
    };
    Ok(decoder.run()?.unbind())
}

/// For the tests only.
#[pyfunction]
#[pyo3(signature = (data, buffers = Vec::new()))]
pub fn _decode_data_only<'py>(
    py: Python<'py>,
    data: &[u8],
    buffers: Vec<Bound<'py, PyByteArray>>,
) -> PyResult<Py<PyAny>> {
    decode(py, data, buffers, Want::Own, &Limits::default()).map_err(|error| to_pyerr(py, error))
}

/// For the fuzz target: a value, or why there is none.
#[cfg(fuzzing)]
pub fn fuzz_plain<'py>(
    py: Python<'py>,
    data: &[u8],
    buffers: Vec<Bound<'py, PyByteArray>>,
) -> std::result::Result<Py<PyAny>, String> {
    match decode(py, data, buffers, Want::Own, &Limits::default()) {
        Err(DataOnlyError::Python(error)) => panic!("{error}"),
        decoded => decoded.map_err(|error| error.to_string()),
    }
}

fn too_much(limit: &'static str, value: u64) -> DataOnlyError {
    DataOnlyError::TooMuch { limit, value }
}

/// The weight of a str or bytes: hashed once, but compared with every equal key it meets.
fn compared(length: usize) -> usize {
    1 + length / 64
}

fn no_memory(_: TryReserveError) -> DataOnlyError {
    DataOnlyError::Python(made::no_memory())
}

fn needs(what: impl Into<String>) -> DataOnlyError {
    DataOnlyError::NeedsCode { what: what.into() }
}

struct Decoder<'a, 'py> {
    py: Python<'py>,
    want: Want,
    limits: &'a Limits,
    reader: OpReader<'a>,
    stack: Stack<Slot<'py>>,
    nodes: Vec<Node>,
    pending: Vec<Pending<'py>>,
    /// By address. The object is kept, so no other can have it.
    dtypes: HashMap<usize, (Bound<'py, PyAny>, Rc<Desc>)>,
    buffers: std::vec::IntoIter<Bound<'py, PyByteArray>>,
    budget: Budget,
    /// The sum of [`Node::untold`].
    untold: u32,
    /// An int was met that is slow to compare with what sets the other one. See [`Decoder::keep_equality_quick`].
    wide_int: bool,
    slow_equality: bool,
    proto: u8,
}

impl<'a, 'py> Decoder<'a, 'py> {
    fn run(mut self) -> Result<Bound<'py, PyAny>> {
        for _ in 0..self.limits.opcodes {
            let op = self.reader.next_op().map_err(|error| DataOnlyError::Damaged { at: error.at, why: error.why })?;
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
                return Err(DataOnlyError::NewerProtocol(proto));
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
                let mut slot = self.stack.get(index).map_err(|why| self.damaged(why))?;
                self.note_way_back(&mut slot);
                self.stack.push(slot);
            }
            Op::None => self.push(py.None().into_bound(py), 1, 0)?,
            Op::Bool(value) => self.push(value.into_pyobject(py).map_err(PyErr::from)?.to_owned().into_any(), 1, 0)?,
            Op::Int(value) => self.push(made::int(py, value.into())?.into_any(), 1, 32)?,
            Op::Long(digits) => {
                let int = self.int(digits)?;
                self.push(int, 1 + digits.len() / 16, 40 + digits.len())?;
            }
            Op::Float(value) => self.push(made::float(py, value)?.into_any(), 1, 24)?,
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
            Op::EmptyList => self.push_node(made::list(py, std::iter::empty())?.into_any(), size::LIST)?,
            Op::EmptyDict => self.push_node(made::dict(py)?.into_any(), size::DICT)?,
            Op::EmptySet => self.push_node(PySet::empty(py)?.into_any(), size::SET)?,
            Op::List => {
                let start = self.pop_mark()?;
                self.budget.memory(size::LIST)?;
                let list = self.new_node(made::list(py, std::iter::empty())?.into_any(), Class::Builtin)?;
                self.append(&list, start)?;
                self.stack.push(Slot::Value(list));
            }
            Op::Dict => {
                let start = self.pop_mark()?;
                self.budget.memory(size::DICT)?;
                let dict = self.new_node(made::dict(py)?.into_any(), Class::Builtin)?;
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
            Op::NewObj => self.new_object()?,
            Op::Obj | Op::NewObjEx => return Err(needs("a class to make an object of")),
            Op::Build => self.build()?,
            Op::PersId | Op::BinPersId => return Err(needs("a persistent id")),
            Op::Ext(_) => return Err(needs("a copyreg extension")),
            Op::NextBuffer => {
                let buffer = self.buffers.next().ok_or_else(|| needs("a buffer"))?;
                let view = PyMemoryView::from(&buffer)?;
                let view = match self.want {
                    Want::Own => view.into_any(),
                    Want::View => view.call_method0("toreadonly")?,
                };
                self.push(view, 0, size::OBJECT)?;
            }
            Op::ReadonlyBuffer => {
                let value = self.pop_value()?;
                if !is_buffer(&value.obj) {
                    return Err(needs("a buffer"));
                }
                let view = PyMemoryView::from(&value.obj)?.call_method0("toreadonly")?;
                self.push(view, 0, size::OBJECT)?;
            }
        }
        Ok(())
    }

    fn damaged(&self, why: &'static str) -> DataOnlyError {
        if why == NO_MEMORY {
            return DataOnlyError::Python(made::no_memory());
        }
        DataOnlyError::Damaged { at: self.reader.op_at(), why }
    }

    fn refuse(&self, module: &[u8], name: &[u8]) -> DataOnlyError {
        let (module, name) = current_name(module, name, self.proto);
        DataOnlyError::NeedsCode { what: dotted(module, name) }
    }

    /// What our own call of the interpreter or a library gave; an exception about the values is damage.
    fn made<T>(&self, result: PyResult<T>, why: &'static str) -> Result<T> {
        result.map_err(|error| match error {
            error if error.is_instance_of::<PyMemoryError>(self.py) => error.into(),
            // Not Ctrl-C, which may come between any two steps of Python code.
            error if error.is_instance_of::<PyException>(self.py) => self.damaged(why),
            error => error.into(),
        })
    }

    fn push(&mut self, obj: Bound<'py, PyAny>, weight: usize, size: usize) -> Result<()> {
        self.budget.memory(size)?;
        self.stack.push(Slot::Value(Value::leaf(obj, weight)));
        Ok(())
    }

    fn new_node(&mut self, obj: Bound<'py, PyAny>, class: Class) -> Result<Value<'py>> {
        let index = u32::try_from(self.nodes.len()).map_err(|_| too_much("containers", u32::MAX.into()))?;
        self.nodes.try_reserve(1).map_err(no_memory)?;
        self.nodes.push(Node { class, deques: u32::from(class == Class::Deque), ..Node::default() });
        Ok(Value { obj, weight: 0, deques: 0, shape: Shape::Node(index) })
    }

    fn push_node(&mut self, obj: Bound<'py, PyAny>, size: usize) -> Result<()> {
        self.budget.memory(size)?;
        let value = self.new_node(obj, Class::Builtin)?;
        self.stack.push(Slot::Value(value));
        Ok(())
    }

    fn push_pending(&mut self, pending: Pending<'py>) -> Result<()> {
        self.budget.memory(size::OBJECT)?;
        let index = u32::try_from(self.pending.len()).map_err(|_| too_much("objects", u32::MAX.into()))?;
        self.pending.try_reserve(1).map_err(no_memory)?;
        self.pending.push(pending);
        self.stack.push(Slot::Pending(index));
        Ok(())
    }

    /// The object itself, once its state has made it.
    fn settled(&self, slot: Slot<'py>) -> Slot<'py> {
        match slot {
            Slot::Pending(index) => match &self.pending[index as usize] {
                Pending::Built(value) => Slot::Value(value.clone()),
                _ => slot,
            },
            _ => slot,
        }
    }

    fn pop_slot(&mut self) -> Result<Slot<'py>> {
        let slot = self.stack.pop().map_err(|why| self.damaged(why))?;
        Ok(self.settled(slot))
    }

    fn pop_value(&mut self) -> Result<Value<'py>> {
        match self.pop_slot()? {
            Slot::Value(value) => Ok(value),
            slot => Err(self.no_value(&slot)),
        }
    }

    fn no_value(&self, slot: &Slot<'py>) -> DataOnlyError {
        match slot {
            Slot::Known(known) => needs(known.name()),
            _ => self.damaged("an object without its state, or the arguments of a call, in the place of a value"),
        }
    }

    fn take(&mut self, start: usize) -> Result<Vec<Slot<'py>>> {
        let mut slots = self.stack.split_off(start).map_err(no_memory)?;
        if !self.pending.is_empty() {
            for slot in &mut slots {
                if let Slot::Pending(_) = slot {
                    *slot = self.settled(slot.clone());
                }
            }
        }
        Ok(slots)
    }

    fn pop_mark(&mut self) -> Result<usize> {
        self.stack.pop_mark().map_err(|why| self.damaged(why))
    }

    fn last(&self, count: usize) -> Result<usize> {
        self.stack.last(count).map_err(|why| self.damaged(why))
    }

    /// Decimals and Fractions compare with ints by arithmetic, which is quadratic in C: not with giant ones.
    fn keep_equality_quick(&self) -> Result<()> {
        match self.wide_int && self.slow_equality {
            true => Err(too_much("bytes of an int beside a Decimal, Fraction or long double", WIDE_INT as u64)),
            false => Ok(()),
        }
    }
}

/// Wider ints count as such, in bytes.
const WIDE_INT: usize = 2_048;
