//! The decoder's entry and its loop: what each opcode of a pickle does. What takes more than a few lines is in the
//! files beside this one, by subject.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyMemoryView, PySet, PyTuple};

use super::arguments::is_buffer;
use super::budget::{Budget, EqualityCost};
use super::decoder::{Decoder, Input};
use super::dtype_description::KnownDtypes;
use super::error::{DataOnlyError, DataOnlyResult, needs, no_memory, to_pyerr, too_much};
use super::limits::Limits;
use super::object_size::{self, text_weight};
use super::stack_item::StackItem;
use super::value::{ContainerClass, Containers};
use crate::codec::opcode::{HIGHEST_PROTOCOL, Op, OpReader};
use crate::codec::stack::Stack;
use crate::py::create;
use crate::py::read_mode::ReadMode;

/// Decodes `pickle`, if it is plain data. `buffers` are the buffers beside the pickle, copied to memory that nobody
/// else writes to; they become part of the value. Arrays are writable with [`ReadMode::Own`] and read-only with
/// [`ReadMode::View`], whatever the pickle says of their memory.
pub fn decode<'py>(
    py: Python<'py>,
    pickle: &[u8],
    buffers: Vec<Bound<'py, PyByteArray>>,
    mode: ReadMode,
    limits: &Limits,
) -> DataOnlyResult<Py<PyAny>> {
    let len = buffers.iter().fold(pickle.len(), |sum, buffer| sum.saturating_add(buffer.len()));
    let buffers = create::collect(buffers.into_iter().map(|buffer| Ok(buffer.into_any())))?;
    decode_over(py, pickle, (buffers, false), mode, (limits, len))
}

/// Decodes the pickle of an array over `memory`, a `memoryview` of bytes that others may change at any time. Items that
/// must be checked before use, which are bools and text, are refused.
pub fn decode_in_place<'py>(py: Python<'py>, pickle: &[u8], memory: Bound<'py, PyAny>) -> DataOnlyResult<Py<PyAny>> {
    decode_over(py, pickle, (vec![memory], true), ReadMode::Own, (&Limits::default(), pickle.len()))
}

/// Decodes `pickle` over these buffers. `in_place`: others may change them.
fn decode_over<'py>(
    py: Python<'py>,
    pickle: &[u8],
    (buffers, in_place): (Vec<Bound<'py, PyAny>>, bool),
    mode: ReadMode,
    (limits, len): (&Limits, usize),
) -> DataOnlyResult<Py<PyAny>> {
    let decoder = Decoder {
        py,
        mode,
        input: Input { reader: OpReader::new(pickle), protocol: 0, buffers: buffers.into_iter(), in_place },
        stack: Stack::new(),
        two_step: Vec::new(),
        containers: Containers::default(),
        dtypes: KnownDtypes::default(),
        budget: Budget::new(limits, len),
        equality: EqualityCost::default(),
    };
    Ok(decoder.run()?.unbind())
}

/// Decodes a pickle. With `preview` it may take no longer than what is only looked at.
#[pyfunction]
#[pyo3(signature = (data, buffers = Vec::new(), *, preview = false))]
pub fn _decode_data_only<'py>(
    py: Python<'py>,
    data: &[u8],
    buffers: Vec<Bound<'py, PyByteArray>>,
    preview: bool,
) -> PyResult<Py<PyAny>> {
    let limits = if preview { Limits::of_preview() } else { Limits::default() };
    decode(py, data, buffers, ReadMode::Own, &limits).map_err(|error| to_pyerr(py, error))
}

/// Decodes a pickle, for the fuzz target: the value, or why there is none.
#[cfg(fuzzing)]
pub fn fuzz_data_only<'py>(
    py: Python<'py>,
    data: &[u8],
    buffers: Vec<Bound<'py, PyByteArray>>,
) -> std::result::Result<Py<PyAny>, String> {
    match decode(py, data, buffers, ReadMode::Own, &Limits::default()) {
        Err(DataOnlyError::Python(error)) => panic!("{error}"),
        decoded => decoded.map_err(|error| error.to_string()),
    }
}

impl<'a, 'py> Decoder<'a, 'py> {
    /// Carries out all opcodes and returns the value.
    fn run(mut self) -> DataOnlyResult<Bound<'py, PyAny>> {
        for _ in 0..self.budget.limits.opcodes {
            let op =
                self.input.reader.next_op().map_err(|error| DataOnlyError::Damaged { at: error.at, why: error.why })?;
            if op == Op::Stop {
                return Ok(self.pop_value()?.obj);
            }
            self.stack.make_room().map_err(no_memory)?;
            self.step(op)?;
        }
        Err(too_much("opcodes", self.budget.limits.opcodes))
    }

    fn step(&mut self, op: Op<'a>) -> DataOnlyResult<()> {
        let py = self.py;
        match op {
            Op::Proto(proto) if proto > HIGHEST_PROTOCOL => return Err(DataOnlyError::NewerProtocol(proto)),
            Op::Proto(proto) => self.input.protocol = proto,
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
                let at = self.input.reader.op_at();
                self.stack.put(index, at).map_err(|why| self.damaged(why))?;
            }
            Op::Get(index) => {
                let mut item = self.stack.get(index).map_err(|why| self.damaged(why))?;
                self.note_way_back(&mut item);
                self.stack.push(item);
            }
            Op::None => self.push(py.None().into_bound(py), 1, 0)?,
            Op::Bool(value) => self.push(value.into_pyobject(py).map_err(PyErr::from)?.to_owned().into_any(), 1, 0)?,
            Op::Int(value) => self.push(create::int(py, value.into())?.into_any(), 1, 32)?,
            Op::Long(digits) => {
                let int = self.int(digits)?;
                self.push(int, 1 + digits.len() / 16, 40 + digits.len())?;
            }
            Op::Float(value) => self.push(create::float(py, value)?.into_any(), 1, 24)?,
            Op::Str(utf8) => {
                // An ASCII str takes one byte for each character, any other str up to four.
                let width = if utf8.is_ascii() { 1 } else { 4 };
                self.budget.memory(object_size::TEXT + width * utf8.len())?;
                let text = self.text(utf8)?;
                self.push(text, text_weight(utf8.len()), 0)?;
            }
            Op::Bytes(bytes) => {
                let object = self.bytes(bytes)?;
                self.push(object, text_weight(bytes.len()), 0)?;
            }
            Op::ByteArray(bytes) => {
                let object = self.bytearray(bytes)?;
                self.push(object, 0, 0)?;
            }
            Op::EmptyTuple => self.push(PyTuple::empty(py).into_any(), 1, 0)?,
            Op::EmptyList => self.push_node(create::list(py, std::iter::empty())?.into_any(), object_size::LIST)?,
            Op::EmptyDict => self.push_node(create::dict(py)?.into_any(), object_size::DICT)?,
            Op::EmptySet => self.push_node(PySet::empty(py)?.into_any(), object_size::SET)?,
            Op::List => {
                let start = self.pop_mark()?;
                self.budget.memory(object_size::LIST)?;
                let list = self.new_node(create::list(py, std::iter::empty())?.into_any(), ContainerClass::Builtin)?;
                self.append(&list, start)?;
                self.stack.push(StackItem::Value(list));
            }
            Op::Dict => {
                let start = self.pop_mark()?;
                self.budget.memory(object_size::DICT)?;
                let dict = self.new_node(create::dict(py)?.into_any(), ContainerClass::Builtin)?;
                self.set_items(&dict, start)?;
                self.stack.push(StackItem::Value(dict));
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
            Op::Obj | Op::NewObjEx => return Err(needs("a class to create an object")),
            Op::Build => self.build()?,
            Op::PersId | Op::BinPersId => return Err(needs("a persistent id")),
            Op::Ext(_) => return Err(needs("a copyreg extension")),
            Op::NextBuffer => {
                let buffer = self.input.buffers.next().ok_or_else(|| needs("a buffer"))?;
                let view = PyMemoryView::from(&buffer)?;
                let view = match self.mode {
                    ReadMode::Own => view.into_any(),
                    ReadMode::View => view.call_method0("toreadonly")?,
                };
                self.push(view, 0, object_size::OBJECT)?;
            }
            Op::ReadonlyBuffer => {
                let value = self.pop_value()?;
                if !is_buffer(&value.obj) {
                    return Err(needs("a buffer"));
                }
                let view = PyMemoryView::from(&value.obj)?.call_method0("toreadonly")?;
                self.push(view, 0, object_size::OBJECT)?;
            }
        }
        Ok(())
    }
}
