//! The calls that are data, as CPython writes values that have no opcode: found in the table by name, made here from
//! checked arguments. Any other global ends the decoding.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::frozenset::PyFrozenSetBuilder;
use pyo3::types::{PyByteArray, PyBytes, PyComplex, PyFloat, PyList, PyMemoryView, PySet, PyString, PyTuple};

use super::masked::is_flag;
use super::table::Known;
use super::value::{Class, Node, Pending, Shape, Slot, Value};
use super::{Decoder, Result, compared, needs, no_memory, size};
use crate::codec::kind::current_name;

/// Most arguments of any call in the table; a path has one for each of its parts.
const MOST_ARGUMENTS: usize = 1_000;

impl<'py> Decoder<'_, 'py> {
    pub(super) fn global(&mut self, module: &[u8], name: &[u8]) -> Result<()> {
        let (recent, plain) = current_name(module, name, self.proto);
        let known = Known::find(recent, plain).ok_or_else(|| self.refuse(module, name))?;
        self.stack.push(Slot::Known(known));
        Ok(())
    }

    pub(super) fn stack_global(&mut self) -> Result<()> {
        let (name, module) = (self.pop_value()?, self.pop_value()?);
        let texts = (module.obj.cast_exact::<PyString>(), name.obj.cast_exact::<PyString>());
        let (Ok(module), Ok(name)) = texts else {
            return Err(self.damaged("STACK_GLOBAL of something that is no name"));
        };
        self.global(module.to_string_lossy().as_bytes(), name.to_string_lossy().as_bytes())
    }

    pub(super) fn reduce(&mut self) -> Result<()> {
        let arguments = self.pop_slot()?;
        let Slot::Known(known) = self.pop_slot()? else {
            return Err(self.damaged("a call of something that is no function"));
        };
        let arguments = match arguments {
            Slot::Value(value) => value,
            Slot::Arguments(slots) => return self.call_with_class(known, &slots),
            other => return Err(self.no_value(&other)),
        };
        let Ok(tuple) = arguments.obj.cast_exact::<PyTuple>() else {
            return Err(self.damaged("a call with something that is no argument tuple"));
        };
        // Before anything is copied.
        if tuple.len() > MOST_ARGUMENTS {
            return Err(needs(known.name()));
        }
        let items: Vec<_> = tuple.iter().collect();
        let slot = match known {
            Known::Dtype => return self.dtype(&items),
            Known::FromBuffer | Known::Scalar | Known::Masked => Slot::Value(self.array_call(known, &items)?),
            _ => match self.builtin(known, &items, &arguments)? {
                Some(slot) => slot,
                None => Slot::Value(self.standard(known, &items)?),
            },
        };
        self.stack.push(slot);
        Ok(())
    }

    /// A class of the table without arguments, made before its state is known.
    pub(super) fn new_object(&mut self) -> Result<()> {
        let arguments = self.pop_slot()?;
        let Slot::Known(known) = self.pop_slot()? else {
            return Err(needs("a class to make an object of"));
        };
        match arguments.object().map(|arguments| arguments.cast_exact::<PyTuple>()) {
            Some(Ok(none)) if known == Known::Uuid && none.is_empty() => self.push_pending(Pending::Uuid),
            _ => Err(needs(known.name())),
        }
    }

    pub(super) fn build(&mut self) -> Result<()> {
        let state = self.pop_value()?;
        let Slot::Pending(index) = *self.stack.top().map_err(|why| self.damaged(why))? else {
            return Err(needs("__setstate__"));
        };
        let built = match &self.pending[index as usize] {
            Pending::Uuid => self.uuid(&state.obj)?,
            Pending::Dtype(letter, number) => self.dtype_state(*letter, *number, &state.obj)?,
            Pending::RecordDtype => self.record_state(&state.obj)?,
            Pending::Array(class) => self.array_state(*class, &state.obj)?,
            Pending::Masked(class) => self.masked_state(*class, &state.obj)?,
            Pending::Built(_) => return Err(self.damaged("a second state for one object")),
        };
        self.pending[index as usize] = Pending::Built(built);
        Ok(())
    }

    fn call_with_class(&mut self, known: Known, slots: &[Slot<'py>]) -> Result<()> {
        match (known, slots) {
            (Known::Reconstruct, [Slot::Known(class), Slot::Value(shape), Slot::Value(kind)])
                if class.is_array_class() && self.is_nothing(shape, kind)? =>
            {
                self.push_pending(Pending::Array(*class))
            }
            (
                Known::ReconstructMasked,
                [Slot::Known(Known::Masked), Slot::Known(class), Slot::Value(shape), Slot::Value(kind)],
            ) if class.is_array_class() && self.is_nothing(shape, kind)? => self.push_pending(Pending::Masked(*class)),
            (Known::Dtype, [Slot::Known(Known::Record), Slot::Value(aligned), Slot::Value(copied)])
                if is_flag(&aligned.obj, false) && is_flag(&copied.obj, true) =>
            {
                self.push_pending(Pending::RecordDtype)
            }
            (Known::GetAttr, [Slot::Known(Known::NdArray), Slot::Value(name)])
                if name.obj.cast_exact::<PyString>().is_ok_and(|name| *name == *"__new__") =>
            {
                self.stack.push(Slot::Known(Known::NewArray));
                Ok(())
            }
            (Known::NewArray, [Slot::Known(class), rest @ ..]) if class.is_array_class() => {
                let rest: Vec<_> = rest.iter().filter_map(|slot| slot.object().cloned()).collect();
                let value = self.new_array(*class, &rest)?;
                self.stack.push(Slot::Value(value));
                Ok(())
            }
            (
                Known::ArrayOf,
                [Slot::Known(Known::Array), Slot::Value(code), Slot::Value(format), Slot::Value(bytes)],
            ) => {
                let value = self.array_of(&code.obj, &format.obj, &bytes.obj)?;
                self.stack.push(Slot::Value(value));
                Ok(())
            }
            _ => Err(needs(known.name())),
        }
    }

    /// The arguments with which numpy makes an array that its state will fill.
    fn is_nothing(&self, shape: &Value<'py>, kind: &Value<'py>) -> Result<bool> {
        let is_byte = kind.obj.cast_exact::<PyBytes>().is_ok_and(|kind| kind.as_bytes() == b"b")
            || kind.obj.cast_exact::<PyString>().is_ok_and(|kind| *kind == *"b");
        Ok(is_byte && self.sizes(&shape.obj)? == [0])
    }

    /// `None`: none of these, or not with such arguments.
    fn builtin(
        &mut self,
        known: Known,
        items: &[Bound<'py, PyAny>],
        arguments: &Value<'py>,
    ) -> Result<Option<Slot<'py>>> {
        Ok(Some(match (known, items) {
            (Known::Set | Known::FrozenSet, []) => self.set_of(known, &PyList::empty(self.py), Node::default())?,
            (Known::Set | Known::FrozenSet, [items]) => match (items.cast_exact::<PyList>(), arguments.shape) {
                (Ok(list), Shape::TupleOf(node)) => self.set_of(known, list, self.nodes[node as usize])?,
                _ => return Err(needs(known.name())),
            },
            (Known::Bytes, []) => self.bytes_slot(&[])?,
            (Known::Bytes | Known::ByteArray, [source]) if is_buffer(source) => {
                // The time of a copy does not show in the stream.
                self.budget.look()?;
                let buffer = PyBuffer::<u8>::get(source)?;
                let mut copy = Vec::new();
                copy.try_reserve_exact(buffer.item_count()).map_err(no_memory)?;
                copy.resize(buffer.item_count(), 0);
                buffer.copy_to_slice(self.py, &mut copy)?;
                match known {
                    Known::Bytes => self.bytes_slot(&copy)?,
                    _ => self.bytearray_slot(&copy)?,
                }
            }
            (Known::Encode, [text, encoding]) => {
                let bytes = self.latin1(text, encoding, known)?;
                self.bytes_slot(&bytes)?
            }
            (Known::ByteArray, []) => self.bytearray_slot(&[])?,
            (Known::ByteArray, [bytes]) => match bytes.cast_exact::<PyBytes>() {
                Ok(bytes) => self.bytearray_slot(bytes.as_bytes())?,
                Err(_) => return Err(needs(known.name())),
            },
            (Known::ByteArray, [text, encoding]) => {
                let bytes = self.latin1(text, encoding, known)?;
                self.bytearray_slot(&bytes)?
            }
            (Known::Complex, [real, imaginary]) => {
                match (real.cast_exact::<PyFloat>(), imaginary.cast_exact::<PyFloat>()) {
                    (Ok(real), Ok(imaginary)) => {
                        self.budget.memory(32)?;
                        let complex = PyComplex::from_doubles(self.py, real.value(), imaginary.value());
                        Slot::Value(Value::leaf(complex.into_any(), 1))
                    }
                    _ => return Err(needs(known.name())),
                }
            }
            _ => return Ok(None),
        }))
    }

    /// A set of a list's items, which were weighed when they went into the list.
    fn set_of(&mut self, known: Known, list: &Bound<'py, PyList>, items: Node) -> Result<Slot<'py>> {
        if items.unhashable {
            return Err(self.damaged("a set member that cannot be hashed"));
        }
        self.check_key_cost(items.heaviest, items.height.saturating_sub(1))?;
        self.budget.memory(size::SET + size::ENTRY * list.len())?;
        if known == Known::Set {
            let set = PySet::empty(self.py)?;
            for item in list {
                self.budget.tick()?;
                let added = set.add(item);
                self.made(added, "a set member that cannot be hashed or compared")?;
            }
            let value = self.new_node(set.into_any(), Class::Builtin)?;
            if let Shape::Node(node) = value.shape {
                self.nodes[node as usize].height = items.height;
            }
            return Ok(Slot::Value(value));
        }
        let mut builder = PyFrozenSetBuilder::new(self.py)?;
        for item in list {
            self.budget.tick()?;
            let added = builder.add(item);
            self.made(added, "a set member that cannot be hashed or compared")?;
        }
        let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
        Ok(Slot::Value(Value {
            obj: builder.finalize().into_any(),
            weight: items.heaviest.saturating_mul(count).saturating_add(1),
            deques: items.deques,
            shape: Shape::Fixed(items.height),
        }))
    }

    fn bytes_slot(&mut self, bytes: &[u8]) -> Result<Slot<'py>> {
        Ok(Slot::Value(Value::leaf(self.bytes(bytes)?, compared(bytes.len()))))
    }

    fn bytearray_slot(&mut self, bytes: &[u8]) -> Result<Slot<'py>> {
        Ok(Slot::Value(Value::leaf(self.bytearray(bytes)?, 0)))
    }

    fn latin1(&self, text: &Bound<'py, PyAny>, encoding: &Bound<'py, PyAny>, known: Known) -> Result<Vec<u8>> {
        let (Ok(text), Ok(encoding)) = (text.cast_exact::<PyString>(), encoding.cast_exact::<PyString>()) else {
            return Err(needs(known.name()));
        };
        if !matches!(&*encoding.to_string_lossy(), "latin1" | "latin-1") {
            return Err(needs(known.name()));
        }
        self.latin1_bytes(text)
    }

    pub(super) fn latin1_bytes(&self, text: &Bound<'py, PyString>) -> Result<Vec<u8>> {
        let text = self.made(text.to_str(), "a str that is not Latin-1")?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(text.len()).map_err(no_memory)?;
        for character in text.chars() {
            bytes.push(u8::try_from(character).map_err(|_| self.damaged("a str that is not Latin-1"))?);
        }
        Ok(bytes)
    }
}

/// What a buffer is before anything is called on it.
pub(super) fn is_buffer(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<PyByteArray>() || object.is_exact_instance_of::<PyMemoryView>()
}
