//! Objects of built-in types that a pickle writes as a call: sets in old protocols, bytes, bytearrays, complex numbers.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::frozenset::PyFrozenSetBuilder;
use pyo3::types::{PyBytes, PyComplex, PyFloat, PyList, PySet, PyString};

use super::arguments::is_buffer;
use super::decoder::Decoder;
use super::error::{DataOnlyResult, needs, no_memory};
use super::globals::Global;
use super::object_size::{self, text_weight};
use super::stack_item::StackItem;
use super::value::{ContainerClass, ContainerNode, Nesting, Value};

impl<'py> Decoder<'_, 'py> {
    /// The object that a call builds. `None` if it is another global, or has other arguments.
    pub(super) fn builtin(
        &mut self,
        global: Global,
        items: &[Bound<'py, PyAny>],
        arguments: &Value<'py>,
    ) -> DataOnlyResult<Option<StackItem<'py>>> {
        Ok(Some(match (global, items) {
            (Global::Set | Global::FrozenSet, []) => {
                self.set_of(global, &PyList::empty(self.py), ContainerNode::default())?
            }
            (Global::Set | Global::FrozenSet, [items]) => match (items.cast_exact::<PyList>(), arguments.nesting) {
                (Ok(list), Nesting::TupleOf(node)) => {
                    self.set_of(global, list, self.containers.nodes[node as usize])?
                }
                _ => return Err(needs(global.name())),
            },
            (Global::Bytes, []) => self.bytes_item(&[])?,
            (Global::Bytes | Global::ByteArray, [source]) if is_buffer(source) => {
                // The time of a copy is not bounded by the length of the pickle.
                self.budget.look()?;
                let buffer = PyBuffer::<u8>::get(source)?;
                let mut copy = Vec::new();
                copy.try_reserve_exact(buffer.item_count()).map_err(no_memory)?;
                copy.resize(buffer.item_count(), 0);
                buffer.copy_to_slice(self.py, &mut copy)?;
                match global {
                    Global::Bytes => self.bytes_item(&copy)?,
                    _ => self.bytearray_item(&copy)?,
                }
            }
            (Global::Encode, [text, encoding]) => {
                let bytes = self.latin1(text, encoding, global)?;
                self.bytes_item(&bytes)?
            }
            (Global::ByteArray, []) => self.bytearray_item(&[])?,
            (Global::ByteArray, [bytes]) => match bytes.cast_exact::<PyBytes>() {
                Ok(bytes) => self.bytearray_item(bytes.as_bytes())?,
                Err(_) => return Err(needs(global.name())),
            },
            (Global::ByteArray, [text, encoding]) => {
                let bytes = self.latin1(text, encoding, global)?;
                self.bytearray_item(&bytes)?
            }
            (Global::Complex, [real, imaginary]) => {
                match (real.cast_exact::<PyFloat>(), imaginary.cast_exact::<PyFloat>()) {
                    (Ok(real), Ok(imaginary)) => {
                        self.budget.memory(32)?;
                        let complex = PyComplex::from_doubles(self.py, real.value(), imaginary.value());
                        StackItem::Value(Value::leaf(complex.into_any(), 1))
                    }
                    _ => return Err(needs(global.name())),
                }
            }
            _ => return Ok(None),
        }))
    }

    /// A set or frozenset of the items of a list. Their weights were noted when they were put into the list.
    fn set_of(
        &mut self,
        global: Global,
        list: &Bound<'py, PyList>,
        items: ContainerNode,
    ) -> DataOnlyResult<StackItem<'py>> {
        if items.unhashable {
            return Err(self.damaged("a set member that cannot be hashed"));
        }
        self.check_key_cost(items.heaviest, items.height.saturating_sub(1))?;
        self.budget.memory(object_size::SET + object_size::ENTRY * list.len())?;
        if global == Global::Set {
            let set = PySet::empty(self.py)?;
            for item in list {
                self.budget.tick()?;
                let added = set.add(item);
                self.or_damaged(added, "a set member that cannot be hashed or compared")?;
            }
            let value = self.new_node(set.into_any(), ContainerClass::Builtin)?;
            if let Nesting::Node(node) = value.nesting {
                self.containers.nodes[node as usize].height = items.height;
            }
            return Ok(StackItem::Value(value));
        }
        let mut builder = PyFrozenSetBuilder::new(self.py)?;
        for item in list {
            self.budget.tick()?;
            let added = builder.add(item);
            self.or_damaged(added, "a set member that cannot be hashed or compared")?;
        }
        let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
        Ok(StackItem::Value(Value {
            obj: builder.finalize().into_any(),
            weight: items.heaviest.saturating_mul(count).saturating_add(1),
            deques: items.deques,
            nesting: Nesting::Fixed(items.height),
        }))
    }

    /// A bytes object, as an item of the stack.
    fn bytes_item(&mut self, bytes: &[u8]) -> DataOnlyResult<StackItem<'py>> {
        Ok(StackItem::Value(Value::leaf(self.bytes(bytes)?, text_weight(bytes.len()))))
    }

    /// A bytearray, as an item of the stack.
    fn bytearray_item(&mut self, bytes: &[u8]) -> DataOnlyResult<StackItem<'py>> {
        Ok(StackItem::Value(Value::leaf(self.bytearray(bytes)?, 0)))
    }

    /// The bytes of a text, from the arguments `(text, 'latin1')`.
    fn latin1(
        &self,
        text: &Bound<'py, PyAny>,
        encoding: &Bound<'py, PyAny>,
        global: Global,
    ) -> DataOnlyResult<Vec<u8>> {
        let (Ok(text), Ok(encoding)) = (text.cast_exact::<PyString>(), encoding.cast_exact::<PyString>()) else {
            return Err(needs(global.name()));
        };
        if !matches!(&*encoding.to_string_lossy(), "latin1" | "latin-1") {
            return Err(needs(global.name()));
        }
        self.latin1_bytes(text)
    }
}
