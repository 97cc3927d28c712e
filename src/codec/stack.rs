//! Stack, marks and memo of the pickle machine, with the underflow rules of CPython's C unpickler.
//!
//! The items are generic: `kind` runs a pickle with tags, the data-only decoder with Python objects. Stack and marks
//! grow by at most one entry for each opcode, the memo by at most one for each byte, so memory is linear in the input.

use std::collections::TryReserveError;

/// The reason of a failure that is not the pickle's fault: this process has no memory.
pub const NO_MEMORY: &str = "no memory";
const UNDERFLOW: &str = "an opcode needs more values than there are";

/// A stack that is divided by marks. Items below the last mark (the fence) cannot be popped.
pub struct Stack<T> {
    items: Vec<T>,
    marks: Vec<usize>,
    memo: Vec<Option<T>>,
    /// Number of memo entries that were stored.
    memo_len: usize,
}

impl<T: Clone> Stack<T> {
    /// Makes an empty stack.
    pub fn new() -> Self {
        Stack { items: Vec::new(), marks: Vec::new(), memo: Vec::new(), memo_len: 0 }
    }

    /// Returns where the items above the last mark begin.
    fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    /// Pushes an item. The caller has called [`Stack::make_room`].
    pub fn push(&mut self, item: T) {
        self.items.push(item);
    }

    /// Pops the top item, if it is above the last mark.
    pub fn pop(&mut self) -> Result<T, &'static str> {
        if self.items.len() <= self.fence() {
            return Err(UNDERFLOW);
        }
        self.items.pop().ok_or(UNDERFLOW)
    }

    /// Returns the top item, if it is above the last mark, and leaves it there.
    pub fn top(&self) -> Result<&T, &'static str> {
        self.under(self.items.len())
    }

    /// Executes `MARK`: sets a mark on top.
    pub fn mark(&mut self) {
        self.marks.push(self.items.len());
    }

    /// Executes `POP`: removes the mark on top if there is one, else the top item.
    pub fn pop_item_or_mark(&mut self) -> Result<(), &'static str> {
        if self.marks.last() == Some(&self.items.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    /// Removes the last mark and returns where the items above it begin.
    pub fn pop_mark(&mut self) -> Result<usize, &'static str> {
        self.marks.pop().ok_or("an opcode needs a mark and there is none")
    }

    /// Returns where the top `count` items begin. All of them must be above the last mark.
    pub fn last(&self, count: usize) -> Result<usize, &'static str> {
        let start = self.items.len().checked_sub(count).ok_or(UNDERFLOW)?;
        if start < self.fence() {
            return Err(UNDERFLOW);
        }
        Ok(start)
    }

    /// Returns the item directly below `start`, if it is above the last mark.
    pub fn under(&self, start: usize) -> Result<&T, &'static str> {
        if start <= self.fence() {
            return Err(UNDERFLOW);
        }
        self.items.get(start - 1).ok_or(UNDERFLOW)
    }

    /// Returns the items from `start` up.
    pub fn from(&self, start: usize) -> &[T] {
        self.items.get(start..).unwrap_or_default()
    }

    /// Removes the items from `start` up, and returns them.
    pub fn split_off(&mut self, start: usize) -> Result<Vec<T>, TryReserveError> {
        let start = start.min(self.items.len());
        let mut removed = Vec::new();
        removed.try_reserve_exact(self.items.len() - start)?;
        removed.extend(self.items.drain(start..));
        Ok(removed)
    }

    /// Reserves memory for one more item, mark and memo entry. After that, no opcode needs memory, except a `PUT` far
    /// ahead, which reserves its own.
    pub fn make_room(&mut self) -> Result<(), TryReserveError> {
        self.items.try_reserve(1)?;
        self.marks.try_reserve(1)?;
        self.memo.try_reserve(1)
    }

    /// Removes and drops the items from `start` up.
    pub fn truncate(&mut self, start: usize) {
        self.items.truncate(start);
    }

    /// Returns the lowest item on the stack, if no mark is below it.
    pub fn bottom(&self) -> Option<&T> {
        if self.marks.first() == Some(&0) {
            return None;
        }
        self.items.first()
    }

    /// Executes `MEMOIZE`: stores the top item in the memo under the next number.
    pub fn memoize(&mut self) -> Result<(), &'static str> {
        let item = self.top()?.clone();
        self.store(self.memo_len, item)
    }

    /// Executes `PUT`: stores the top item in the memo. `at` is the offset of the opcode in the stream. Picklers number
    /// memo entries upwards from 0, and each entry takes a byte or more. So no pickler writes an index above `at`; it
    /// is refused, because it would make the memo large for nothing.
    pub fn put(&mut self, index: u32, at: usize) -> Result<(), &'static str> {
        let item = self.top()?.clone();
        match usize::try_from(index) {
            Ok(index) if index <= at => self.store(index, item),
            _ => Err("a memo index far ahead of the stream"),
        }
    }

    /// Stores an item in the memo.
    fn store(&mut self, index: usize, item: T) -> Result<(), &'static str> {
        if index >= self.memo.len() {
            self.memo.try_reserve(index + 1 - self.memo.len()).map_err(|_| NO_MEMORY)?;
            self.memo.resize(index + 1, None);
        }
        if self.memo[index].replace(item).is_none() {
            self.memo_len += 1;
        }
        Ok(())
    }

    /// Executes `GET`: returns an entry of the memo.
    pub fn get(&self, index: u32) -> Result<T, &'static str> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.memo.get(index)?.clone())
            .ok_or("a memo entry that was never stored")
    }
}

impl<T: Clone> Default for Stack<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_below_a_mark_can_be_taken() {
        let mut stack = Stack::new();
        stack.push(1);
        stack.mark();
        assert!(stack.pop().is_err());
        assert!(stack.top().is_err());
        assert!(stack.last(1).is_err());
        assert!(stack.memoize().is_err());
        stack.pop_item_or_mark().unwrap();
        assert_eq!(stack.pop(), Ok(1));
        assert!(stack.pop_item_or_mark().is_err());
        assert!(stack.pop_mark().is_err());
    }

    #[test]
    fn the_target_of_a_batch_is_the_item_under_the_mark() {
        let mut stack = Stack::new();
        stack.push(1);
        stack.mark();
        stack.push(2);
        stack.push(3);
        let start = stack.pop_mark().unwrap();
        assert_eq!(stack.under(start), Ok(&1));
        assert_eq!(stack.from(start), [2, 3]);
        stack.truncate(start);
        assert_eq!(stack.top(), Ok(&1));
        assert!(stack.under(0).is_err());
    }

    #[test]
    fn items_are_taken_from_a_place_up() {
        let mut stack = Stack::new();
        stack.make_room().unwrap();
        stack.push(1);
        stack.push(2);
        assert_eq!(stack.split_off(1).unwrap(), [2]);
        assert!(stack.split_off(9).unwrap().is_empty());
        assert_eq!(stack.pop(), Ok(1));
    }

    #[test]
    fn memoize_counts_entries_and_a_wild_index_is_refused() {
        let mut stack = Stack::new();
        stack.push('a');
        stack.put(3, 9).unwrap();
        stack.memoize().unwrap();
        assert_eq!(stack.get(1), Ok('a'));
        assert!(stack.get(0).is_err());
        assert!(stack.put(u32::MAX, 9).is_err());
    }
}
