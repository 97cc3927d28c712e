//! Spans that this process frees at its next acquisition of the writer lock, because it did not hold the lock when it
//! was done with them. Freeing them stands in `free_spans.rs`. The protocol is "Large records: spans and pins" in
//! `docs/protocol.md`.

use crate::error::Result;
use crate::fallible;
use crate::os::fork::ForkMutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// A span that is to be freed under the writer lock, by its first granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferredFree {
    /// The span was found retired when this process dropped its last pin of it. It is freed if it is still retired, and
    /// no participant has it pinned.
    Retired(u64),
    /// This process reserved the span, to fill it or to give its pages back, and did not finish. The span is freed if
    /// it is still filling or freeing in this process's name.
    Unpublished(u64),
}

/// Private to the process: the spans that it has still to free.
#[derive(Default)]
pub struct DeferredFrees {
    list: ForkMutex<Vec<DeferredFree>>,
    /// Whether there may be such a span, or a named lock that was abandoned. Loaded at each acquisition of the writer
    /// lock.
    pub any: AtomicBool,
}

impl DeferredFrees {
    /// Adds a span: it is freed at the next acquisition of the writer lock. Returns whether there was none before.
    pub fn push(&self, free: DeferredFree) -> bool {
        let mut list = self.list.lock();
        let first = list.is_empty();
        // A call that reserves a span has made sure that the list has space for it. If the list has no space for a
        // retired span, the next sweep frees the span.
        let unpublished = matches!(free, DeferredFree::Unpublished(_));
        if unpublished || list.len() < list.capacity() || list.try_reserve(1).is_ok() {
            list.push(free);
        }
        drop(list);
        self.any.store(true, Ordering::Release);
        first
    }

    /// Makes sure that the list has space, so that adding an unpublished span needs no memory. Called before a span is
    /// reserved.
    pub fn reserve(&self) -> Result<()> {
        // Enough for 32 threads that have a span reserved at the same time. The spans of more threads need memory when
        // they are added.
        fallible::reserve(&mut self.list.lock(), 32, "a list of spans to be freed")
    }

    /// Takes one span from the list. The list keeps its space.
    pub fn pop(&self) -> Option<DeferredFree> {
        self.list.lock().pop()
    }

    /// Tells whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.list.lock().is_empty()
    }

    /// Forgets all of them: the process that reaps this process's number frees them.
    pub fn clear(&self) {
        self.list.lock().clear();
    }
}
