//! How deep what was made so far is: exactly where the interpreter recurses over it, roughly elsewhere.

use super::value::{Class, Shape, Slot, Value};
use super::{Decoder, Result, too_much};

impl<'py> Decoder<'_, 'py> {
    pub(super) fn height(&self, shape: Shape) -> u32 {
        match shape {
            Shape::Fixed(height) => height,
            Shape::Node(node) => self.nodes[node as usize].height,
            Shape::TupleOf(node) => self.nodes[node as usize].height.saturating_add(1),
            // No deeper for it: a way back up.
            Shape::Within(_) => 0,
        }
    }

    /// Called for what comes out of the memo.
    pub(super) fn note_way_back(&self, slot: &mut Slot<'py>) {
        if let Slot::Value(Value { shape, .. }) = slot {
            if let Shape::Node(node) = *shape {
                *shape = if self.nodes[node as usize].placed { *shape } else { Shape::Within(node) };
            }
        }
    }

    /// The item as something that goes into a container, and the height the container then has.
    pub(super) fn child<'s>(&mut self, slot: &'s Slot<'py>) -> Result<(&'s Value<'py>, u32)> {
        let Slot::Value(value) = slot else { return Err(self.no_value(slot)) };
        let height = self.height(value.shape).saturating_add(1);
        if height > self.limits.depth {
            return Err(too_much("depth", self.limits.depth.into()));
        }
        match value.shape {
            Shape::Node(node) => self.nodes[node as usize].placed = true,
            Shape::Within(node) => {
                self.nodes[node as usize].placed = true;
                self.untold(node, self.nodes[node as usize].deques)?;
            }
            Shape::Fixed(_) | Shape::TupleOf(_) => {}
        }
        Ok((value, height))
    }

    /// Deques inside each other in `value`, as far as what holds it is told.
    pub(super) fn deques(&self, value: &Value<'py>) -> u32 {
        match value.shape {
            Shape::Fixed(_) => value.deques,
            Shape::Node(node) | Shape::TupleOf(node) => self.nodes[node as usize].deques,
            Shape::Within(_) => 0,
        }
    }

    /// A node that lies in something already has, or gets, so many deques below it. A path from the outermost value
    /// leaves each node once, so what it meets is at most what its first node was told, and the sum of these.
    fn untold(&mut self, node: u32, deques: u32) -> Result<()> {
        let node = &mut self.nodes[node as usize];
        if deques > node.untold {
            self.untold = self.untold.saturating_add(deques - node.untold);
            node.untold = deques;
        }
        if self.untold > self.limits.deques {
            return Err(too_much("deques inside each other", self.limits.deques.into()));
        }
        Ok(())
    }

    /// Notes that `value` now lies in `target`. A container that was already inside another when it grew is not
    /// followed upwards, so a stream made for it can nest mutable containers deeper than the limit: the interpreter
    /// frees and walks those without recursion. Tuples, which it hashes recursively, are exact; deques, which it frees
    /// recursively, are bounded from above.
    pub(super) fn grow(&mut self, target: &Value<'py>, value: &Value<'py>, height: u32) -> Result<()> {
        let (Shape::Node(node) | Shape::Within(node)) = target.shape else { return Ok(()) };
        // A list in itself is no deeper for it.
        if matches!(value.shape, Shape::Node(own) | Shape::Within(own) if own == node) {
            return Ok(());
        }
        let deques = self.deques(value);
        let entry = &mut self.nodes[node as usize];
        entry.height = entry.height.max(height);
        let deques = deques + u32::from(entry.class == Class::Deque);
        entry.deques = entry.deques.max(deques);
        let placed = entry.placed;
        if deques > self.limits.deques {
            return Err(too_much("deques inside each other", self.limits.deques.into()));
        }
        if placed { self.untold(node, deques) } else { Ok(()) }
    }
}
