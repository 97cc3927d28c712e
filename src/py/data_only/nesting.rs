//! How deep the objects built so far are: exactly where CPython recurses over them, roughly elsewhere. What is bounded
//! here keeps CPython from running out of stack when it hashes or frees the value.

use super::decoder::Decoder;
use super::error::{DataOnlyResult, too_much};
use super::stack_item::StackItem;
use super::value::{ContainerClass, Nesting, Value};

impl<'py> Decoder<'_, 'py> {
    /// The number of containers inside each other in an object.
    pub(super) fn height(&self, nesting: Nesting) -> u32 {
        match nesting {
            Nesting::Fixed(height) => height,
            Nesting::Node(node) => self.containers.nodes[node as usize].height,
            Nesting::TupleOf(node) => self.containers.nodes[node as usize].height.saturating_add(1),
            // A reference back to a container around it makes nothing deeper.
            Nesting::Within(_) => 0,
        }
    }

    /// Called for an item that comes out of the memo: notes if it is a reference to a container from within.
    pub(super) fn note_way_back(&self, item: &mut StackItem<'py>) {
        if let StackItem::Value(Value { nesting, .. }) = item {
            if let Nesting::Node(node) = *nesting {
                *nesting = if self.containers.nodes[node as usize].placed { *nesting } else { Nesting::Within(node) };
            }
        }
    }

    /// The value of an item that goes into a container, and the height that the container then has at least.
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
                self.count_late(node, self.containers.nodes[node as usize].deques)?;
            }
            Nesting::Fixed(_) | Nesting::TupleOf(_) => {}
        }
        Ok((value, height))
    }

    /// The number of deques inside each other in `value`, as far as the container around it counts them.
    pub(super) fn deques(&self, value: &Value<'py>) -> u32 {
        match value.nesting {
            Nesting::Fixed(_) => value.deques,
            Nesting::Node(node) | Nesting::TupleOf(node) => self.containers.nodes[node as usize].deques,
            Nesting::Within(_) => 0,
        }
    }

    /// Counts deques in a container that was already placed in another one, which no longer notices. A path from the
    /// outermost value downwards leaves each container once. So it meets at most the deques that its first container
    /// has counted, plus the sum of those counted here.
    fn count_late(&mut self, node: u32, deques: u32) -> DataOnlyResult<()> {
        let node = &mut self.containers.nodes[node as usize];
        if deques > node.uncounted {
            self.containers.uncounted = self.containers.uncounted.saturating_add(deques - node.uncounted);
            node.uncounted = deques;
        }
        if self.containers.uncounted > self.budget.limits.deques {
            return Err(too_much("deques inside each other", self.budget.limits.deques.into()));
        }
        Ok(())
    }

    /// Notes that `value` now lies in `target`. If `target` was already inside another container, that one is not
    /// updated. A malicious pickle can therefore nest mutable containers deeper than the limit. That does no harm,
    /// because CPython frees and walks these without recursion. Tuples, which it hashes by recursion, are counted
    /// exactly. Deques, which it frees by recursion, are bounded from above.
    pub(super) fn grow(&mut self, target: &Value<'py>, value: &Value<'py>, height: u32) -> DataOnlyResult<()> {
        let (Nesting::Node(node) | Nesting::Within(node)) = target.nesting else { return Ok(()) };
        // A container in itself does not become deeper.
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
        if placed { self.count_late(node, deques) } else { Ok(()) }
    }
}
