//! The opcodes that call something: CPython writes values without an opcode of their own as such calls. The global is
//! looked up in the table, and the decoder builds the value from the arguments. Any other global ends the decoding.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::arguments::is_flag;
use super::decoder::Decoder;
use super::error::{DataOnlyResult, needs};
use super::globals::Global;
use super::stack_item::{StackItem, TwoStep};
use super::value::Value;
use crate::codec::kind::current_name;

/// The most arguments of any call. A path has one for each of its parts.
const MOST_ARGUMENTS: usize = 1_000;

impl<'py> Decoder<'_, 'py> {
    /// `GLOBAL`: a name.
    pub(super) fn global(&mut self, module: &[u8], name: &[u8]) -> DataOnlyResult<()> {
        let (recent, plain) = current_name(module, name, self.input.protocol);
        let found = Global::find(recent, plain).ok_or_else(|| self.refuse(module, name))?;
        self.stack.push(StackItem::Global(found));
        Ok(())
    }

    /// `STACK_GLOBAL`: a name whose parts lie on the stack.
    pub(super) fn stack_global(&mut self) -> DataOnlyResult<()> {
        let (name, module) = (self.pop_value()?, self.pop_value()?);
        let texts = (module.obj.cast_exact::<PyString>(), name.obj.cast_exact::<PyString>());
        let (Ok(module), Ok(name)) = texts else {
            return Err(self.damaged("STACK_GLOBAL of something that is not a name"));
        };
        self.global(module.to_string_lossy().as_bytes(), name.to_string_lossy().as_bytes())
    }

    /// `REDUCE`: a call.
    pub(super) fn reduce(&mut self) -> DataOnlyResult<()> {
        let arguments = self.pop_item()?;
        let StackItem::Global(global) = self.pop_item()? else {
            return Err(self.damaged("a call of something that is not a function"));
        };
        let arguments = match arguments {
            StackItem::Value(value) => value,
            StackItem::Arguments(items) => return self.call_with_class(global, &items),
            other => return Err(self.not_a_value(&other)),
        };
        let Ok(tuple) = arguments.obj.cast_exact::<PyTuple>() else {
            return Err(self.damaged("a call whose arguments are not a tuple"));
        };
        // This check comes before the arguments are copied.
        if tuple.len() > MOST_ARGUMENTS {
            return Err(needs(global.name()));
        }
        let items: Vec<_> = tuple.iter().collect();
        let item = match global {
            Global::Dtype => return self.dtype(&items),
            Global::FromBuffer | Global::Scalar | Global::Masked => StackItem::Value(self.array_call(global, &items)?),
            _ => match self.builtin(global, &items, &arguments)? {
                Some(item) => item,
                None => StackItem::Value(self.standard(global, &items)?),
            },
        };
        self.stack.push(item);
        Ok(())
    }

    /// `NEWOBJ`: an object of a class in the table, without arguments. Its state follows.
    pub(super) fn new_object(&mut self) -> DataOnlyResult<()> {
        let arguments = self.pop_item()?;
        let StackItem::Global(global) = self.pop_item()? else {
            return Err(needs("a class to create an object"));
        };
        match arguments.object().map(|arguments| arguments.cast_exact::<PyTuple>()) {
            Some(Ok(none)) if global == Global::Uuid && none.is_empty() => self.push_two_step(TwoStep::Uuid),
            _ => Err(needs(global.name())),
        }
    }

    /// `BUILD`: the state of an object.
    pub(super) fn build(&mut self) -> DataOnlyResult<()> {
        let state = self.pop_value()?;
        let StackItem::TwoStep(index) = *self.stack.top().map_err(|why| self.damaged(why))? else {
            return Err(needs("__setstate__"));
        };
        let built = match &self.two_step[index as usize] {
            TwoStep::Uuid => self.uuid(&state.obj)?,
            TwoStep::Dtype(letter, number) => self.dtype_state(*letter, *number, &state.obj)?,
            TwoStep::RecordDtype => self.record_state(&state.obj)?,
            TwoStep::Array(class) => self.array_state(*class, &state.obj)?,
            TwoStep::Masked(class) => self.masked_state(*class, &state.obj)?,
            TwoStep::Built(_) => return Err(self.damaged("a second state for one object")),
        };
        self.two_step[index as usize] = TwoStep::Built(built);
        Ok(())
    }

    /// A call with a global among its arguments.
    fn call_with_class(&mut self, global: Global, items: &[StackItem<'py>]) -> DataOnlyResult<()> {
        match (global, items) {
            (Global::Reconstruct, [StackItem::Global(class), StackItem::Value(shape), StackItem::Value(kind)])
                if class.is_array_class() && self.is_nothing(shape, kind)? =>
            {
                self.push_two_step(TwoStep::Array(*class))
            }
            (
                Global::ReconstructMasked,
                [
                    StackItem::Global(Global::Masked),
                    StackItem::Global(class),
                    StackItem::Value(shape),
                    StackItem::Value(kind),
                ],
            ) if class.is_array_class() && self.is_nothing(shape, kind)? => self.push_two_step(TwoStep::Masked(*class)),
            (
                Global::Dtype,
                [StackItem::Global(Global::Record), StackItem::Value(aligned), StackItem::Value(copied)],
            ) if is_flag(&aligned.obj, false) && is_flag(&copied.obj, true) => self.push_two_step(TwoStep::RecordDtype),
            (Global::GetAttr, [StackItem::Global(Global::NdArray), StackItem::Value(name)])
                if name.obj.cast_exact::<PyString>().is_ok_and(|name| *name == *"__new__") =>
            {
                self.stack.push(StackItem::Global(Global::NewArray));
                Ok(())
            }
            (Global::NewArray, [StackItem::Global(class), rest @ ..]) if class.is_array_class() => {
                let rest: Vec<_> = rest.iter().filter_map(|item| item.object().cloned()).collect();
                let value = self.new_array(*class, &rest)?;
                self.stack.push(StackItem::Value(value));
                Ok(())
            }
            (
                Global::ArrayOf,
                [
                    StackItem::Global(Global::Array),
                    StackItem::Value(code),
                    StackItem::Value(format),
                    StackItem::Value(bytes),
                ],
            ) => {
                let value = self.array_of(&code.obj, &format.obj, &bytes.obj)?;
                self.stack.push(StackItem::Value(value));
                Ok(())
            }
            _ => Err(needs(global.name())),
        }
    }

    /// Whether these are the arguments with which numpy creates an array that its state then fills.
    fn is_nothing(&self, shape: &Value<'py>, kind: &Value<'py>) -> DataOnlyResult<bool> {
        let is_byte = kind.obj.cast_exact::<PyBytes>().is_ok_and(|kind| kind.as_bytes() == b"b")
            || kind.obj.cast_exact::<PyString>().is_ok_and(|kind| *kind == *"b");
        Ok(is_byte && self.sizes(&shape.obj)? == [0])
    }
}
