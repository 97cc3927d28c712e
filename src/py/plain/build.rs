//! Scalars from their bytes, and containers from what lies on the stack.

use pyo3::exceptions::PyUnicodeDecodeError;
use pyo3::prelude::*;
use pyo3::types::frozenset::PyFrozenSetBuilder;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyInt, PyList, PySet, PyString};

use super::value::{Class, Shape, Slot, Value};
use super::{Decoder, Result, WIDE_INT, size, too_much};
use crate::py::made;

const NO_KEY: &str = "a dict key or set member that cannot be hashed or compared";

/// From here on an allocation may fail, and the fallible constructor is worth its zeroing.
const LARGE: usize = 1 << 16;

impl<'py> Decoder<'_, 'py> {
    pub(super) fn int(&mut self, digits: &[u8]) -> Result<Bound<'py, PyAny>> {
        if digits.len() > self.limits.int_bytes {
            return Err(too_much("bytes of one int", self.limits.int_bytes as u64));
        }
        if digits.len() > WIDE_INT {
            self.wide_int = true;
            self.keep_equality_quick()?;
        }
        if digits.len() <= 8 {
            let negative = digits.last().is_some_and(|&top| top >= 0x80);
            let mut wide = if negative { [0xff; 8] } else { [0; 8] };
            wide[..digits.len()].copy_from_slice(digits);
            return Ok(made::int(self.py, i64::from_le_bytes(wide))?.into_any());
        }
        // Linear in C, unlike the way through decimal digits.
        let signed = made::dict(self.py)?;
        signed.set_item("signed", true)?;
        let arguments = (made::bytes(self.py, digits)?, "little");
        Ok(self.py.get_type::<PyInt>().call_method("from_bytes", arguments, Some(&signed))?)
    }

    pub(super) fn text(&self, utf8: &[u8]) -> Result<Bound<'py, PyAny>> {
        let error = match PyString::from_bytes(self.py, utf8) {
            Ok(text) => return Ok(text.into_any()),
            Err(error) => error,
        };
        if !error.is_instance_of::<PyUnicodeDecodeError>(self.py) {
            return Err(error.into());
        }
        let bytes = made::bytes(self.py, utf8)?;
        PyString::from_encoded_object(&bytes, Some(c"utf-8"), Some(c"surrogatepass"))
            .map(Bound::into_any)
            .or_else(|error| self.made(Err(error), "a str that is not UTF-8"))
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<Bound<'py, PyAny>> {
        self.budget.memory(40 + bytes.len())?;
        if bytes.len() < LARGE {
            return Ok(made::bytes(self.py, bytes)?.into_any());
        }
        let fill = |room: &mut [u8]| {
            room.copy_from_slice(bytes);
            Ok(())
        };
        Ok(PyBytes::new_with(self.py, bytes.len(), fill)?.into_any())
    }

    pub(super) fn bytearray(&mut self, bytes: &[u8]) -> Result<Bound<'py, PyAny>> {
        self.budget.memory(64 + bytes.len())?;
        let fill = |room: &mut [u8]| {
            room.copy_from_slice(bytes);
            Ok(())
        };
        Ok(PyByteArray::new_with(self.py, bytes.len(), fill)?.into_any())
    }

    pub(super) fn tuple(&mut self, start: usize) -> Result<()> {
        let slots = self.take(start)?;
        self.budget.memory(size::TUPLE + 8 * slots.len())?;
        if slots.iter().any(|slot| matches!(slot, Slot::Known(known) if known.is_argument())) {
            self.stack.push(Slot::Arguments(slots.into()));
            return Ok(());
        }
        let mut value = self.immutable(&slots)?;
        if let [Slot::Value(Value { shape: Shape::Node(node) | Shape::Within(node), .. })] = slots.as_slice() {
            value.shape = Shape::TupleOf(*node);
        }
        let py = self.py;
        let object = |slot: &Slot<'py>| Ok(slot.object().map_or_else(|| py.None().into_bound(py), Bound::clone));
        value.obj = made::tuple(py, slots.iter().map(object))?.into_any();
        self.stack.push(Slot::Value(value));
        Ok(())
    }

    pub(super) fn frozen_set(&mut self, start: usize) -> Result<()> {
        let slots = self.take(start)?;
        let mut value = self.immutable(&slots)?;
        self.budget.memory(size::SET + size::ENTRY * slots.len())?;
        let mut builder = PyFrozenSetBuilder::new(self.py)?;
        for slot in &slots {
            let (member, _) = self.child(slot)?;
            self.check_key(member)?;
            let added = builder.add(&member.obj);
            self.made(added, NO_KEY)?;
        }
        value.obj = builder.finalize().into_any();
        self.stack.push(Slot::Value(value));
        Ok(())
    }

    /// All but the object, of a tuple or frozenset of `slots`.
    fn immutable(&mut self, slots: &[Slot<'py>]) -> Result<Value<'py>> {
        let (mut weight, mut height, mut deques, mut hashable) = (1u32, 0, 0, true);
        for slot in slots {
            let (value, above) = self.child(slot)?;
            hashable &= value.weight != 0;
            weight = weight.saturating_add(value.weight);
            height = height.max(above);
            deques = deques.max(self.deques(value));
        }
        let weight = if hashable { weight } else { 0 };
        Ok(Value { obj: self.py.None().into_bound(self.py), weight, deques, shape: Shape::Fixed(height) })
    }

    pub(super) fn append(&mut self, target: &Value<'py>, start: usize) -> Result<()> {
        let slots = self.take(start)?;
        let class = self.class(target);
        let (list, Shape::Node(node) | Shape::Within(node)) = (target.obj.cast_exact::<PyList>(), target.shape) else {
            return Err(self.damaged("items for something that is no list"));
        };
        if list.is_err() && class != Class::Deque {
            return Err(self.damaged("items for something that is no list"));
        }
        self.budget.memory(size::LIST_ITEM * slots.len())?;
        for slot in &slots {
            let (value, height) = self.child(slot)?;
            match list {
                Ok(list) => list.append(&value.obj)?,
                Err(_) => drop(target.obj.call_method1("append", (&value.obj,))?),
            }
            let entry = &mut self.nodes[node as usize];
            entry.heaviest = entry.heaviest.max(value.weight);
            entry.unhashable |= value.weight == 0;
            self.grow(target, value, height)?;
        }
        Ok(())
    }

    pub(super) fn set_items(&mut self, target: &Value<'py>, start: usize) -> Result<()> {
        let slots = self.take(start)?;
        let ordered = self.class(target) == Class::Ordered;
        let dict = target.obj.cast_exact::<PyDict>().ok();
        if dict.is_none() && !ordered {
            return Err(self.damaged("keys and values for something that is no dict"));
        }
        if !slots.len().is_multiple_of(2) {
            return Err(self.damaged("a key without a value"));
        }
        if !slots.is_empty() && dict.is_some_and(|dict| dict.is_empty()) {
            self.budget.memory(size::DICT_TABLE)?;
        }
        self.budget.memory(size::ENTRY * (slots.len() / 2) * (1 + usize::from(ordered)))?;
        for pair in slots.chunks_exact(2) {
            let (key, key_height) = self.child(&pair[0])?;
            let (value, height) = self.child(&pair[1])?;
            self.check_key(key)?;
            let set = match dict {
                Some(dict) => dict.set_item(&key.obj, &value.obj),
                None => target.obj.set_item(&key.obj, &value.obj),
            };
            self.made(set, NO_KEY)?;
            self.grow(target, value, height)?;
            self.grow(target, key, key_height)?;
        }
        Ok(())
    }

    pub(super) fn add_items(&mut self, target: &Value<'py>, start: usize) -> Result<()> {
        let slots = self.take(start)?;
        let Ok(set) = target.obj.cast_exact::<PySet>() else {
            return Err(self.damaged("members for something that is no set"));
        };
        self.budget.memory(size::ENTRY * slots.len())?;
        for slot in &slots {
            let (value, height) = self.child(slot)?;
            self.check_key(value)?;
            let added = set.add(&value.obj);
            self.made(added, NO_KEY)?;
            self.grow(target, value, height)?;
        }
        Ok(())
    }

    fn class(&self, target: &Value<'py>) -> Class {
        match target.shape {
            Shape::Node(node) | Shape::Within(node) => self.nodes[node as usize].class,
            Shape::Fixed(_) | Shape::TupleOf(_) => Class::Builtin,
        }
    }

    /// Everything that is asked of a dict key or set member before the interpreter hashes it.
    pub(super) fn check_key(&mut self, key: &Value<'py>) -> Result<()> {
        if key.weight == 0 {
            return Err(self.damaged("a dict key or set member that cannot be hashed"));
        }
        self.check_key_cost(key.weight, self.height(key.shape))?;
        if self.slow_equality { self.budget.look() } else { self.budget.tick() }
    }

    pub(super) fn check_key_cost(&self, weight: u32, height: u32) -> Result<()> {
        if weight > self.limits.key_weight {
            return Err(too_much("steps to hash a key", self.limits.key_weight.into()));
        }
        if height > self.limits.key_depth {
            return Err(too_much("depth of a key", self.limits.key_depth.into()));
        }
        Ok(())
    }

    /// Puts the top `count` items into the one below.
    pub(super) fn fill(&mut self, count: usize, how: Fill<Self, Value<'py>>) -> Result<()> {
        let start = self.last(count)?;
        self.fill_from(start, how)
    }

    pub(super) fn fill_marked(&mut self, how: Fill<Self, Value<'py>>) -> Result<()> {
        let start = self.pop_mark()?;
        self.fill_from(start, how)
    }

    fn fill_from(&mut self, start: usize, how: Fill<Self, Value<'py>>) -> Result<()> {
        let target = self.stack.under(start).map_err(|why| self.damaged(why))?.clone();
        match self.settled(target) {
            Slot::Value(target) => how(self, &target, start),
            other => Err(self.no_value(&other)),
        }
    }
}

type Fill<D, V> = fn(&mut D, &V, usize) -> Result<()>;
