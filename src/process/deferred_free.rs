//! Spans that this process frees at its next acquisition of the writer lock.

use crate::error::Result;
use crate::fallible;
use crate::os::fork::ForkMutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// A span to be freed under the writer lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferredFree {
    /// The span was seen retired when the last pin of this process went: it is freed if it is still retired and not pinned.
    Retired(u64),
    /// This process took the span to fill it, or to give it back, and that came to nothing.
    Unpublished(u64),
}

/// The spans that this process has still to free.
#[derive(Default)]
pub struct DeferredFrees {
    list: ForkMutex<Vec<DeferredFree>>,
    /// Is there any, or a lock that was abandoned? Asked at each acquisition of the writer lock.
    pub any: AtomicBool,
}

impl DeferredFrees {
    /// Leaves a span to the next acquisition of the writer lock.
    pub fn push(&self, free: DeferredFree) {
        let mut list = self.list.lock();
        // A call that takes a span has reserved room for it here. Where there is none, a retired span waits for a sweep.
        let unpublished = matches!(free, DeferredFree::Unpublished(_));
        if unpublished || list.len() < list.capacity() || list.try_reserve(1).is_ok() {
            list.push(free);
        }
        drop(list);
        self.any.store(true, Ordering::Release);
    }

    /// Before a span is taken, which may come to nothing: reserves room, so that leaving the span later needs no memory.
    pub fn reserve(&self) -> Result<()> {
        // At most so many threads take a span at the same time; more of them ask for memory when they leave it.
        fallible::reserve(&mut self.list.lock(), 32, "a list of spans to be freed")
    }

    /// The next one. The list keeps its room.
    pub fn pop(&self) -> Option<DeferredFree> {
        self.list.lock().pop()
    }

    /// Nothing is left to be freed.
    pub fn is_empty(&self) -> bool {
        self.list.lock().is_empty()
    }

    /// Forgets them: whoever reaps this process's number frees them.
    pub fn clear(&self) {
        self.list.lock().clear();
    }
}
