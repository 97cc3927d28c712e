//! How deep what was made so far is: exactly where the interpreter recurses over it, roughly elsewhere.

use super::decoder::Decoder;
use super::error::{DataOnlyResult, too_much};
use super::stack_item::StackItem;
use super::value::{ContainerClass, Nesting, Value};

impl<'py> Decoder<'_, 'py> {
    pub(super) fn height(&self, nesting: Nesting) -> u32 {
        match nesting {
            Nesting::Fixed(height) => height,
            Nesting::Node(node) => self.containers.nodes[node as usize].height,
            Nesting::TupleOf(node) => self.containers.nodes[node as usize].height.saturating_add(1),
            // No deeper for it: a way back up.
            Nesting::Within(_) => 0,
        }
    }

    /// Called for what comes out of the memo.
    pub(super) fn note_way_back(&self, item: &mut StackItem<'py>) {
        if let StackItem::Value(Value { nesting, .. }) = item {
            if let Nesting::Node(node) = *nesting {
                *nesting = if self.containers.nodes[node as usize].placed { *nesting } else { Nesting::Within(node) };
            }
        }
    }

    /// The item as something that goes into a container, and the height the container then has.
    pub(super) fn child<'s>(&mut self, item: &'s StackItem<'py>) -> DataOnlyResult<(&'s Value<'py>, u32)> {
        let StackItem::Value(value) = item else { return Err(self.not_a_value(item)) };
        let height = self.height(value.nesting).saturating_add(1);
        if height > self.budget.limits.depth {
            return Err(too_much("depth", self.budget.limits.depth.into()));
        }
        match value.nesting {
            Nesting::Node(node) => self.containers.nodes[node as usize].placed = true,
            Nesting::Within(node) => {
                self.containers.nodes[node as usize].placed = true;
                self.untold(node, self.containers.nodes[node as usize].deques)?;
            }
            Nesting::Fixed(_) | Nesting::TupleOf(_) => {}
        }
        Ok((value, height))
    }

    /// Deques inside each other in `value`, as far as what holds it is told.
    pub(super) fn deques(&self, value: &Value<'py>) -> u32 {
        match value.nesting {
            Nesting::Fixed(_) => value.deques,
            Nesting::Node(node) | Nesting::TupleOf(node) => self.containers.nodes[node as usize].deques,
            Nesting::Within(_) => 0,
        }
    }

    /// A node that lies in something already has, or gets, so many deques below it. A path from the outermost value
    /// leaves each node once, so what it meets is at most what its first node was told, and the sum of these.
    fn untold(&mut self, node: u32, deques: u32) -> DataOnlyResult<()> {
        let node = &mut self.containers.nodes[node as usize];
        if deques > node.untold {
            self.containers.untold = self.containers.untold.saturating_add(deques - node.untold);
            node.untold = deques;
        }
        if self.containers.untold > self.budget.limits.deques {
            return Err(too_much("deques inside each other", self.budget.limits.deques.into()));
        }
        Ok(())
    }

    /// Notes that `value` now lies in `target`. A container that was already inside another when it grew is not
    /// followed upwards, so a stream made for it can nest mutable containers deeper than the limit: the interpreter
    /// frees and walks those without recursion. Tuples, which it hashes recursively, are exact; deques, which it frees
    /// recursively, are bounded from above.
    pub(super) fn grow(&mut self, target: &Value<'py>, value: &Value<'py>, height: u32) -> DataOnlyResult<()> {
        let (Nesting::Node(node) | Nesting::Within(node)) = target.nesting else { return Ok(()) };
        // A list in itself is no deeper for it.
        if matches!(value.nesting, Nesting::Node(own) | Nesting::Within(own) if own == node) {
            return Ok(());
        }
        let deques = self.deques(value);
        let entry = &mut self.containers.nodes[node as usize];
        entry.height = entry.height.max(height);
        let deques = deques + u32::from(entry.class == ContainerClass::Deque);
        entry.deques = entry.deques.max(deques);
        let placed = entry.placed;
        if deques > self.budget.limits.deques {
            return Err(too_much("deques inside each other", self.budget.limits.deques.into()));
        }
        if placed { self.untold(node, deques) } else { Ok(()) }
    }
}
