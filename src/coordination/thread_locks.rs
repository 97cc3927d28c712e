//! Which segments a thread has locks in, so that the locks are released when the thread ends.
//!
//! The protocol is "Named locks" in docs/protocol.md (*Release*). Which locks those are, `process/held_locks.rs` knows.

use crate::coordination::AsCoordination;
use crate::error::Result;
use crate::fallible;
use crate::process::attachment::Attachment;
use crate::process::held_locks::LockOwner;
use std::cell::RefCell;
use std::sync::Weak;

thread_local! {
    /// The attachments through which this thread has acquired locks. When the thread ends, the locks are released.
    static SEGMENTS: ThreadLocks = const { ThreadLocks(RefCell::new(Vec::new())) };
}

/// Private to the process: the list of one thread.
struct ThreadLocks(RefCell<Vec<Weak<Attachment>>>);

impl Drop for ThreadLocks {
    fn drop(&mut self) {
        let thread = LockOwner::thread(0);
        for attachment in self.0.take().iter().filter_map(Weak::upgrade) {
            attachment.coordination().release_locks_of(|owner| thread.id != 0 && owner.id == thread.id);
        }
    }
}

/// Obtains the memory for `remember`, before a lock is acquired.
pub fn reserve_memory() -> Result<()> {
    let reserved =
        SEGMENTS.try_with(|list| fallible::reserve(&mut list.0.borrow_mut(), 1, "a list of segments with locks"));
    reserved.unwrap_or(Ok(()))
}

/// Remembers that this thread has acquired a lock through an attachment.
pub fn remember(att: &Attachment) {
    // A destructor of a thread that is ending may find the list gone; then it has to release what it acquires itself.
    let _ = SEGMENTS.try_with(|list| {
        let mut list = list.0.borrow_mut();
        if !list.iter().any(|weak| std::ptr::eq(weak.as_ptr(), att)) {
            list.retain(|weak| weak.strong_count() > 0);
            // `reserve_memory` has obtained the memory, unless a signal handler of this very thread has acquired other
            // locks since.
            if list.try_reserve(1).is_ok() {
                list.push(att.downgrade());
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn a_thread_remembers_no_segment_that_is_gone() {
        for number in 0..20 {
            let key = format!("thread-locks-{}-{number}", crate::os::pid());
            let key = crate::key::Key::text(&key).unwrap();
            let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
            drop(segment.lock(1, None).unwrap());
            segment.destroy().unwrap();
        }
        assert!(SEGMENTS.with(|list| list.0.borrow().len()) <= 1);
    }
}
