//! What one decoding of containers leaves to the next: the keys that were met, and memory.

use super::key_cache::KeyCache;
use super::object_stack::ObjectStack;
use pyo3::ffi;
use std::sync::{Mutex, MutexGuard};

/// Memory for more references than this is not kept.
const KEPT: usize = 4096;

/// What stands above a mark.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Above {
    /// Items of any container.
    Items,
    /// Keys and values of the dict under the mark.
    OfDict,
    /// Keys and values of a dict that is not made yet. Its place is under the mark.
    OfNewDict,
}

/// What is kept.
pub(super) struct Workspace {
    pub keys: KeyCache,
    /// Empty between two decodings.
    vectors: Vectors,
}

/// The vectors that the pickle machine works with.
#[derive(Default)]
pub(super) struct Vectors {
    pub stack: ObjectStack,
    /// For each mark but the last: where the items above it begin, and what they are.
    pub marks: Vec<(usize, Above)>,
    /// Borrowed from the stack and from what stands there.
    pub memo: Vec<*mut ffi::PyObject>,
}

// SAFETY: they are sent to another thread only in the workspace, where they are empty.
unsafe impl Send for Vectors {}

static WORKSPACE: Mutex<Workspace> = Mutex::new(Workspace {
    keys: KeyCache::new(),
    vectors: Vectors { stack: ObjectStack::new(), marks: Vec::new(), memo: Vec::new() },
});

/// The workspace, if nobody else has it. A thread that does not get it at once does without.
pub(super) fn workspace() -> Option<MutexGuard<'static, Workspace>> {
    WORKSPACE.try_lock().ok()
}

impl Workspace {
    /// Empty vectors, with the memory that is kept.
    #[inline(always)]
    pub fn take(&mut self) -> Vectors {
        std::mem::take(&mut self.vectors)
    }

    /// Gives the references back, and keeps the memory.
    #[inline(always)]
    pub fn give_back(&mut self, mut vectors: Vectors) {
        vectors.stack.truncate(0);
        vectors.marks.clear();
        vectors.memo.clear();
        if vectors.stack.capacity().max(vectors.memo.capacity()).max(vectors.marks.capacity()) <= KEPT {
            self.vectors = vectors;
        }
    }
}
