//! Tuples, lists, dicts and sets, from the items on the stack; and the checks of a key before CPython hashes it. How
//! deep containers lie in each other is counted in `nesting`.

use pyo3::prelude::*;
use pyo3::types::frozenset::PyFrozenSetBuilder;
use pyo3::types::{PyDict, PyList, PySet};

use super::decoder::Decoder;
use super::error::{DataOnlyResult, too_much};
use super::object_size;
use super::stack_item::StackItem;
use super::value::{ContainerClass, Nesting, Value};
use crate::py::create;

const NO_KEY: &str = "a dict key or set member that cannot be hashed or compared";

impl<'py> Decoder<'_, 'py> {
    /// Pushes a tuple of the items from `start` on.
    pub(super) fn tuple(&mut self, start: usize) -> DataOnlyResult<()> {
        let items = self.take_items(start)?;
        self.budget.memory(object_size::TUPLE + 8 * items.len())?;
        if items.iter().any(|item| matches!(item, StackItem::Global(global) if global.is_argument())) {
            self.stack.push(StackItem::Arguments(items.into()));
            return Ok(());
        }
        let mut value = self.immutable(&items)?;
        if let [StackItem::Value(Value { nesting: Nesting::Node(node) | Nesting::Within(node), .. })] = items.as_slice()
        {
            value.nesting = Nesting::TupleOf(*node);
        }
        let py = self.py;
        let object = |item: &StackItem<'py>| Ok(item.object().map_or_else(|| py.None().into_bound(py), Bound::clone));
        value.obj = create::tuple(py, items.iter().map(object))?.into_any();
        self.stack.push(StackItem::Value(value));
        Ok(())
    }

    /// Pushes a frozenset of the items from `start` on.
    pub(super) fn frozen_set(&mut self, start: usize) -> DataOnlyResult<()> {
        let items = self.take_items(start)?;
        let mut value = self.immutable(&items)?;
        self.budget.memory(object_size::SET + object_size::ENTRY * items.len())?;
        let mut builder = PyFrozenSetBuilder::new(self.py)?;
        for item in &items {
            let (member, _) = self.child(item)?;
            self.check_key(member)?;
            let added = builder.add(&member.obj);
            self.or_damaged(added, NO_KEY)?;
        }
        value.obj = builder.finalize().into_any();
        self.stack.push(StackItem::Value(value));
        Ok(())
    }

    /// What is known of a tuple or frozenset of `items`. The object is still missing.
    fn immutable(&mut self, items: &[StackItem<'py>]) -> DataOnlyResult<Value<'py>> {
        let (mut weight, mut height, mut deques, mut hashable) = (1u32, 0, 0, true);
        for item in items {
            let (value, above) = self.child(item)?;
            hashable &= value.weight != 0;
            weight = weight.saturating_add(value.weight);
            height = height.max(above);
            deques = deques.max(self.deques(value));
        }
        let weight = if hashable { weight } else { 0 };
        Ok(Value { obj: self.py.None().into_bound(self.py), weight, deques, nesting: Nesting::Fixed(height) })
    }

    /// Appends the items from `start` on to a list or deque.
    pub(super) fn append(&mut self, target: &Value<'py>, start: usize) -> DataOnlyResult<()> {
        let items = self.take_items(start)?;
        let class = self.class(target);
        let (list, Nesting::Node(node) | Nesting::Within(node)) = (target.obj.cast_exact::<PyList>(), target.nesting)
        else {
            return Err(self.damaged("items for something that is not a list"));
        };
        if list.is_err() && class != ContainerClass::Deque {
            return Err(self.damaged("items for something that is not a list"));
        }
        self.budget.memory(object_size::LIST_ITEM * items.len())?;
        for item in &items {
            let (value, height) = self.child(item)?;
            match list {
                Ok(list) => list.append(&value.obj)?,
                Err(_) => drop(target.obj.call_method1("append", (&value.obj,))?),
            }
            let entry = &mut self.containers.nodes[node as usize];
            entry.heaviest = entry.heaviest.max(value.weight);
            entry.unhashable |= value.weight == 0;
            self.grow(target, value, height)?;
        }
        Ok(())
    }

    /// Puts the items from `start` on, which are keys and values in turn, into a dict.
    pub(super) fn set_items(&mut self, target: &Value<'py>, start: usize) -> DataOnlyResult<()> {
        let items = self.take_items(start)?;
        let ordered = self.class(target) == ContainerClass::Ordered;
        let dict = target.obj.cast_exact::<PyDict>().ok();
        if dict.is_none() && !ordered {
            return Err(self.damaged("keys and values for something that is not a dict"));
        }
        if !items.len().is_multiple_of(2) {
            return Err(self.damaged("a key without a value"));
        }
        if !items.is_empty() && dict.is_some_and(|dict| dict.is_empty()) {
            self.budget.memory(object_size::DICT_TABLE)?;
        }
        self.budget.memory(object_size::ENTRY * (items.len() / 2) * (1 + usize::from(ordered)))?;
        for pair in items.chunks_exact(2) {
            let (key, key_height) = self.child(&pair[0])?;
            let (value, height) = self.child(&pair[1])?;
            self.check_key(key)?;
            let set = match dict {
                Some(dict) => dict.set_item(&key.obj, &value.obj),
                None => target.obj.set_item(&key.obj, &value.obj),
            };
            self.or_damaged(set, NO_KEY)?;
            self.grow(target, value, height)?;
            self.grow(target, key, key_height)?;
        }
        Ok(())
    }

    /// Adds the items from `start` on to a set.
    pub(super) fn add_items(&mut self, target: &Value<'py>, start: usize) -> DataOnlyResult<()> {
        let items = self.take_items(start)?;
        let Ok(set) = target.obj.cast_exact::<PySet>() else {
            return Err(self.damaged("members for something that is not a set"));
        };
        self.budget.memory(object_size::ENTRY * items.len())?;
        for item in &items {
            let (value, height) = self.child(item)?;
            self.check_key(value)?;
            let added = set.add(&value.obj);
            self.or_damaged(added, NO_KEY)?;
            self.grow(target, value, height)?;
        }
        Ok(())
    }

    fn class(&self, target: &Value<'py>) -> ContainerClass {
        match target.nesting {
            Nesting::Node(node) | Nesting::Within(node) => self.containers.nodes[node as usize].class,
            Nesting::Fixed(_) | Nesting::TupleOf(_) => ContainerClass::Builtin,
        }
    }

    /// All checks of a dict key or set member before CPython hashes it.
    pub(super) fn check_key(&mut self, key: &Value<'py>) -> DataOnlyResult<()> {
        if key.weight == 0 {
            return Err(self.damaged("a dict key or set member that cannot be hashed"));
        }
        self.check_key_cost(key.weight, self.height(key.nesting))?;
        if self.equality.has_slow_value() { self.budget.look() } else { self.budget.tick() }
    }

    /// Fails if a key is too costly to hash.
    pub(super) fn check_key_cost(&self, weight: u32, height: u32) -> DataOnlyResult<()> {
        if weight > self.budget.limits.key_weight {
            return Err(too_much("steps to hash a key", self.budget.limits.key_weight.into()));
        }
        if height > self.budget.limits.key_depth {
            return Err(too_much("depth of a key", self.budget.limits.key_depth.into()));
        }
        Ok(())
    }

    /// Puts the last `count` items into the container below them.
    pub(super) fn fill(&mut self, count: usize, how: FillContainer<Self, Value<'py>>) -> DataOnlyResult<()> {
        let start = self.last(count)?;
        self.fill_from(start, how)
    }

    /// Puts the items behind the last mark into the container below them.
    pub(super) fn fill_marked(&mut self, how: FillContainer<Self, Value<'py>>) -> DataOnlyResult<()> {
        let start = self.pop_mark()?;
        self.fill_from(start, how)
    }

    fn fill_from(&mut self, start: usize, how: FillContainer<Self, Value<'py>>) -> DataOnlyResult<()> {
        let target = self.stack.under(start).map_err(|why| self.damaged(why))?.clone();
        match self.settled(target) {
            StackItem::Value(target) => how(self, &target, start),
            other => Err(self.not_a_value(&other)),
        }
    }
}

/// A method that puts the items from a place of the stack on into a container.
type FillContainer<D, V> = fn(&mut D, &V, usize) -> DataOnlyResult<()>;
