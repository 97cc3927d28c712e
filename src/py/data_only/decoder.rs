//! The state of one decoding, and the small steps that all files of the decoder use: stack, errors, new containers.
//!
//! What each opcode does is in `run`.

use pyo3::exceptions::{PyException, PyMemoryError};
use pyo3::prelude::*;

use super::budget::{Budget, EqualityCost};
use super::dtype_description::KnownDtypes;
use super::error::{DataOnlyError, DataOnlyResult, needs, no_memory, too_much};
use super::object_size;
use super::stack_item::{StackItem, TwoStep};
use super::value::{ContainerClass, ContainerNode, Containers, Nesting, Value};
use crate::codec::kind::{current_name, dotted};
use crate::codec::opcode::OpReader;
use crate::codec::stack::{NO_MEMORY, Stack};
use crate::py::create;
use crate::py::read_mode::ReadMode;

/// The pickle that is decoded.
pub(super) struct Input<'a, 'py> {
    pub reader: OpReader<'a>,
    /// The protocol that the pickle says it is of.
    pub protocol: u8,
    /// The buffers beside the pickle that the pickle has not used yet.
    pub buffers: std::vec::IntoIter<Bound<'py, PyAny>>,
    /// Others may change the buffers at any time, so what is found in them now proves nothing.
    pub in_place: bool,
}

/// The state of one decoding. It has nine fields because almost every opcode needs the input, the stack, what is known
/// of the objects built so far, and what they cost.
pub(super) struct Decoder<'a, 'py> {
    pub py: Python<'py>,
    pub mode: ReadMode,
    pub input: Input<'a, 'py>,
    pub stack: Stack<StackItem<'py>>,
    /// The objects that are built in two steps.
    pub two_step: Vec<TwoStep<'py>>,
    pub containers: Containers,
    pub dtypes: KnownDtypes<'py>,
    pub budget: Budget<'a>,
    pub equality: EqualityCost,
}

impl<'py> Decoder<'_, 'py> {
    /// The error of a damaged pickle, at the current opcode.
    pub(super) fn damaged(&self, why: &'static str) -> DataOnlyError {
        if why == NO_MEMORY {
            return DataOnlyError::Python(create::no_memory());
        }
        DataOnlyError::Damaged { at: self.input.reader.op_at(), why }
    }

    /// The error of a global that is not in the table.
    pub(super) fn refuse(&self, module: &[u8], name: &[u8]) -> DataOnlyError {
        let (module, name) = current_name(module, name, self.input.protocol);
        DataOnlyError::NeedsCode { what: dotted(module, name) }
    }

    /// The result of a call that the decoder itself made. If it raised an exception because of the values, the pickle
    /// is damaged.
    pub(super) fn or_damaged<T>(&self, result: PyResult<T>, why: &'static str) -> DataOnlyResult<T> {
        result.map_err(|error| match error {
            error if error.is_instance_of::<PyMemoryError>(self.py) => error.into(),
            // Ctrl-C is no `Exception`: it may come between any two steps of Python code.
            error if error.is_instance_of::<PyException>(self.py) => self.damaged(why),
            error => error.into(),
        })
    }

    /// Pushes an object that contains no others.
    pub(super) fn push(&mut self, obj: Bound<'py, PyAny>, weight: usize, size: usize) -> DataOnlyResult<()> {
        self.budget.memory(size)?;
        self.stack.push(StackItem::Value(Value::leaf(obj, weight)));
        Ok(())
    }

    /// Makes a container known.
    pub(super) fn new_node(&mut self, obj: Bound<'py, PyAny>, class: ContainerClass) -> DataOnlyResult<Value<'py>> {
        let index = u32::try_from(self.containers.nodes.len()).map_err(|_| too_much("containers", u32::MAX.into()))?;
        self.containers.nodes.try_reserve(1).map_err(no_memory)?;
        self.containers.nodes.push(ContainerNode {
            class,
            deques: u32::from(class == ContainerClass::Deque),
            ..ContainerNode::default()
        });
        Ok(Value { obj, weight: 0, deques: 0, nesting: Nesting::Node(index) })
    }

    /// Pushes an empty built-in container.
    pub(super) fn push_node(&mut self, obj: Bound<'py, PyAny>, size: usize) -> DataOnlyResult<()> {
        self.budget.memory(size)?;
        let value = self.new_node(obj, ContainerClass::Builtin)?;
        self.stack.push(StackItem::Value(value));
        Ok(())
    }

    /// Pushes an object whose state will follow.
    pub(super) fn push_two_step(&mut self, object: TwoStep<'py>) -> DataOnlyResult<()> {
        self.budget.memory(object_size::OBJECT)?;
        let index = u32::try_from(self.two_step.len()).map_err(|_| too_much("objects", u32::MAX.into()))?;
        self.two_step.try_reserve(1).map_err(no_memory)?;
        self.two_step.push(object);
        self.stack.push(StackItem::TwoStep(index));
        Ok(())
    }

    /// The item itself, or the finished object if the item was built in two steps.
    pub(super) fn settled(&self, item: StackItem<'py>) -> StackItem<'py> {
        match item {
            StackItem::TwoStep(index) => match &self.two_step[index as usize] {
                TwoStep::Built(value) => StackItem::Value(value.clone()),
                _ => item,
            },
            _ => item,
        }
    }

    /// Pops an item.
    pub(super) fn pop_item(&mut self) -> DataOnlyResult<StackItem<'py>> {
        let item = self.stack.pop().map_err(|why| self.damaged(why))?;
        Ok(self.settled(item))
    }

    /// Pops a value.
    pub(super) fn pop_value(&mut self) -> DataOnlyResult<Value<'py>> {
        match self.pop_item()? {
            StackItem::Value(value) => Ok(value),
            item => Err(self.not_a_value(&item)),
        }
    }

    /// The error of an item that is not a value.
    pub(super) fn not_a_value(&self, item: &StackItem<'py>) -> DataOnlyError {
        match item {
            StackItem::Global(global) => needs(global.name()),
            _ => self.damaged("an object without its state, or the arguments of a call, in the place of a value"),
        }
    }

    /// Takes the items from `start` on off the stack.
    pub(super) fn take_items(&mut self, start: usize) -> DataOnlyResult<Vec<StackItem<'py>>> {
        let mut items = self.stack.split_off(start).map_err(no_memory)?;
        if !self.two_step.is_empty() {
            for item in &mut items {
                if let StackItem::TwoStep(_) = item {
                    *item = self.settled(item.clone());
                }
            }
        }
        Ok(items)
    }

    /// Takes off the last mark. Returns where the items behind it begin.
    pub(super) fn pop_mark(&mut self) -> DataOnlyResult<usize> {
        self.stack.pop_mark().map_err(|why| self.damaged(why))
    }

    /// Where the last `count` items begin.
    pub(super) fn last(&self, count: usize) -> DataOnlyResult<usize> {
        self.stack.last(count).map_err(|why| self.damaged(why))
    }
}
