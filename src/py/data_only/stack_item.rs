//! The items of the pickle machine's stack.

use std::rc::Rc;

use super::globals::Global;
use super::value::Value;
use pyo3::prelude::*;

/// One item of the pickle machine's stack.
#[derive(Clone)]
pub enum StackItem<'py> {
    Value(Value<'py>),
    Global(Global),
    /// A tuple with a [`Global`] in it: the arguments of a call, and nothing else.
    Arguments(Rc<[StackItem<'py>]>),
    /// An object that its state will make: see this entry of the decoder's list.
    TwoStep(u32),
}

impl<'py> StackItem<'py> {
    pub fn object(&self) -> Option<&Bound<'py, PyAny>> {
        match self {
            StackItem::Value(value) => Some(&value.obj),
            _ => None,
        }
    }
}

/// What pickle makes in two steps, a call and then `BUILD`.
pub enum TwoStep<'py> {
    Uuid,
    /// With its kind and size, as in `i8`.
    Dtype(u8, usize),
    /// Of numpy's `record`, the size of which its state tells.
    RecordDtype,
    /// Of that class.
    Array(Global),
    /// Over data of that class.
    Masked(Global),
    Built(Value<'py>),
}
