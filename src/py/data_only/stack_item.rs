//! The items on the stack of the pickle machine. Their values are described in `value`.

use std::rc::Rc;

use super::globals::Global;
use super::value::Value;
use pyo3::prelude::*;

/// One item of the stack.
#[derive(Clone)]
pub enum StackItem<'py> {
    Value(Value<'py>),
    Global(Global),
    /// A tuple with a [`Global`] in it. It can be used only as the arguments of a call.
    Arguments(Rc<[StackItem<'py>]>),
    /// An object that is built when its state follows: the number of a [`TwoStep`] in the decoder's list.
    TwoStep(u32),
}

impl<'py> StackItem<'py> {
    /// The object of a finished value.
    pub fn object(&self) -> Option<&Bound<'py, PyAny>> {
        match self {
            StackItem::Value(value) => Some(&value.obj),
            _ => None,
        }
    }
}

/// An object that pickle builds in two steps: a call, then the opcode `BUILD` with the object's state.
pub enum TwoStep<'py> {
    Uuid,
    /// A numpy dtype of this kind and size, as in `i8`.
    Dtype(u8, usize),
    /// A dtype of numpy's `record`, whose state says the size.
    RecordDtype,
    /// An array of this class.
    Array(Global),
    /// A masked array over data of this class.
    Masked(Global),
    /// The second step is done.
    Built(Value<'py>),
}
