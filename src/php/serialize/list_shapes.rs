//! Finds out which arrays of a text are lists: their keys are 0, 1, 2 and so on.

use super::damage::{Damage, Why};
use super::scanner::{Container, Key, Reference, Scalar};
use super::walk::{Limits, Visitor, walk};

/// For each array and object of a text, in the order in which they begin, whether it is a list.
#[derive(Debug, Default)]
pub struct ListShapes {
    bits: Vec<u64>,
    len: usize,
}

impl ListShapes {
    /// Whether the array or object with this number, from 0, is a list. An object is none.
    pub fn is_list(&self, number: usize) -> bool {
        self.bits.get(number / 64).is_some_and(|bits| bits >> (number % 64) & 1 != 0)
    }

    fn clear(&mut self, number: usize) {
        if let Some(bits) = self.bits.get_mut(number / 64) {
            *bits &= !(1 << (number % 64));
        }
    }
}

/// An array or object that is being read.
pub struct Open {
    number: usize,
    next: i64,
}

impl Visitor for ListShapes {
    type Open = Open;
    type Error = Damage;

    fn scalar(&mut self, _: Scalar<'_>, _: usize) -> Result<(), Damage> {
        Ok(())
    }

    fn begin(&mut self, container: Container<'_>, offset: usize) -> Result<Open, Damage> {
        let number = self.len;
        if number.is_multiple_of(64) {
            let asked = self.bits.len() * 16;
            self.bits.try_reserve(1).map_err(|_| Damage { offset, why: Why::NoMemory(asked) })?;
            self.bits.push(u64::MAX);
        }
        self.len += 1;
        if container.class.is_some() {
            self.clear(number);
        }
        Ok(Open { number, next: 0 })
    }

    fn key(&mut self, open: &mut Open, key: Key<'_>, _: usize) -> Result<(), Damage> {
        if key != Key::Int(open.next) {
            self.clear(open.number);
        }
        open.next += 1;
        Ok(())
    }

    fn end(&mut self, _: Open, _: usize) -> Result<(), Damage> {
        Ok(())
    }

    fn reference(&mut self, _: Reference, _: usize) -> Result<(), Damage> {
        Ok(())
    }
}

/// Reads a whole text, and returns which of its arrays are lists.
pub fn list_shapes(text: &[u8], limits: &Limits) -> Result<ListShapes, Damage> {
    let mut shapes = ListShapes::default();
    walk(text, limits, &mut shapes, &mut Vec::new())?;
    Ok(shapes)
}
