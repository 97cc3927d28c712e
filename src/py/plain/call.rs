//! The calls that are data: `set`, `frozenset`, `bytearray`, `bytes`, `complex` and `_codecs.encode`, as CPython writes
//! plain values in protocols without an opcode for them. Any other global ends the decoding.

use pyo3::prelude::*;
use pyo3::types::frozenset::PyFrozenSetBuilder;
use pyo3::types::{PyBytes, PyComplex, PyFloat, PyList, PySet, PyString, PyTuple};

use super::value::{Known, Node, Shape, Slot, Value};
use super::{Decoder, Result, compared, needs, size};
use crate::codec::kind::modern;

impl<'py> Decoder<'_, 'py> {
    pub(super) fn global(&mut self, module: &[u8], name: &[u8]) -> Result<()> {
        let known = Known::find(modern(module, self.proto), name);
        let known = known.ok_or_else(|| self.refuse(module, name))?;
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
        let arguments = self.pop_value()?;
        let Slot::Known(known) = self.pop_slot()? else {
            return Err(self.damaged("a call of something that is no function"));
        };
        let Ok(tuple) = arguments.obj.cast_exact::<PyTuple>() else {
            return Err(self.damaged("a call with something that is no argument tuple"));
        };
        // Two at most, before anything is copied.
        if tuple.len() > 2 {
            return Err(needs(known.name()));
        }
        let items: Vec<_> = tuple.iter().collect();
        let slot = match (known, items.as_slice()) {
            (Known::Set | Known::FrozenSet, []) => self.set_of(known, &PyList::empty(self.py), Node::default())?,
            (Known::Set | Known::FrozenSet, [items]) => match (items.cast_exact::<PyList>(), arguments.shape) {
                (Ok(list), Shape::TupleOf(node)) => self.set_of(known, list, self.nodes[node as usize])?,
                _ => return Err(needs(known.name())),
            },
            (Known::Bytes, []) => self.bytes_slot(&[])?,
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
                        scalar(PyComplex::from_doubles(self.py, real.value(), imaginary.value()).into_any(), 1)
                    }
                    _ => return Err(needs(known.name())),
                }
            }
            _ => return Err(needs(known.name())),
        };
        self.stack.push(slot);
        Ok(())
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
                set.add(item)?;
            }
            let value = self.new_node(set.into_any())?;
            if let Shape::Node(node) = value.shape {
                self.nodes[node as usize].height = items.height;
            }
            return Ok(Slot::Value(value));
        }
        let mut builder = PyFrozenSetBuilder::new(self.py)?;
        for item in list {
            self.budget.tick()?;
            builder.add(item)?;
        }
        let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
        Ok(Slot::Value(Value {
            obj: builder.finalize().into_any(),
            weight: items.heaviest.saturating_mul(count).saturating_add(1),
            shape: Shape::Fixed(items.height),
        }))
    }

    fn bytes_slot(&mut self, bytes: &[u8]) -> Result<Slot<'py>> {
        Ok(scalar(self.bytes(bytes)?, compared(bytes.len())))
    }

    fn bytearray_slot(&mut self, bytes: &[u8]) -> Result<Slot<'py>> {
        Ok(scalar(self.bytearray(bytes)?, 0))
    }

    fn latin1(&self, text: &Bound<'py, PyAny>, encoding: &Bound<'py, PyAny>, known: Known) -> Result<Vec<u8>> {
        let (Ok(text), Ok(encoding)) = (text.cast_exact::<PyString>(), encoding.cast_exact::<PyString>()) else {
            return Err(needs(known.name()));
        };
        if !matches!(&*encoding.to_string_lossy(), "latin1" | "latin-1") {
            return Err(needs(known.name()));
        }
        let text = text.to_str().map_err(|_| self.damaged("a str that is not Latin-1"))?;
        text.chars().map(|c| u8::try_from(c).map_err(|_| self.damaged("a str that is not Latin-1"))).collect()
    }
}

fn scalar(obj: Bound<'_, PyAny>, weight: usize) -> Slot<'_> {
    Slot::Value(Value { obj, weight: u32::try_from(weight).unwrap_or(u32::MAX), shape: Shape::Fixed(0) })
}
