//! Named locks of a thread that ends.

use crate::coordination::AsCoordination;
use crate::error::Result;
use crate::fallible;
use crate::process::attachment::Attachment;
use crate::process::held_locks::LockOwner;
use std::cell::RefCell;
use std::sync::Weak;

thread_local! {
    /// Attachments whose locks this thread has taken: let go when it ends.
    static SEGMENTS: ThreadLocks = const { ThreadLocks(RefCell::new(Vec::new())) };
}

struct ThreadLocks(RefCell<Vec<Weak<Attachment>>>);

impl Drop for ThreadLocks {
    fn drop(&mut self) {
        let thread = LockOwner::thread(0);
        for attachment in self.0.take().iter().filter_map(Weak::upgrade) {
            attachment.coordination().release_locks_of(|owner| thread.id != 0 && owner.id == thread.id);
        }
    }
}

/// Before this thread takes a lock: to remember through which attachment.
pub fn reserve_memory() -> Result<()> {
    let room = SEGMENTS.try_with(|of| fallible::reserve(&mut of.0.borrow_mut(), 1, "a list of segments with locks"));
    room.unwrap_or(Ok(()))
}

/// This thread has taken a lock through this attachment.
pub fn remember(att: &Attachment) {
    // While a thread ends, what it takes it must let go itself.
    let _ = SEGMENTS.try_with(|of| {
        let mut of = of.0.borrow_mut();
        if !of.iter().any(|weak| std::ptr::eq(weak.as_ptr(), att)) {
            of.retain(|weak| weak.strong_count() > 0);
            // There is room, unless a signal handler of this very thread took other locks meanwhile.
            if of.try_reserve(1).is_ok() {
                of.push(att.downgrade());
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
        assert!(SEGMENTS.with(|of| of.0.borrow().len()) <= 1);
    }
}
