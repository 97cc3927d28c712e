//! Releasing named locks: by their owner, by a thread that ends, by a handle that is detached.
//!
//! The protocol is "Named locks" in docs/protocol.md (**Release**).

use crate::coordination::Coordination;
use crate::error::Result;
use crate::key::{Index, Name};
use crate::process::deadline::WithDeadline;
use crate::process::held_locks::LockOwner;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a thread that ends, or a handle that is detached, waits for a writer that is stopped.
const RELEASE_LIMIT: Duration = Duration::from_millis(500);

impl Coordination {
    /// Releases a lock once. Returns `false` if `owner` does not hold it. After an error `owner` still holds it.
    pub fn release_lock(&self, name: &Index<'_>, owner: LockOwner, policy: &dyn WaitPolicy) -> Result<bool> {
        {
            let mut held = self.locks.held.lock();
            if held.depth(name, owner) == 0 {
                return Ok(false);
            }
            if held.release_once(name, owner) {
                return Ok(true);
            }
        }
        let mut writer = self.write_unmapped(policy)?;
        // The slot names only the process. If another thread has released the lock meanwhile (a handle was detached),
        // yet another owner in this process may hold it by now. So the process's own list is asked once more.
        let mut held = self.locks.held.lock();
        if held.depth(name, owner) == 0 {
            return Ok(false);
        }
        let reserved = writer.release_slot(name)?;
        // CRASH: before the commit the lock is a dead owner's. After it the lock is free, or reserved.
        held.remove(name, owner);
        self.locks.any.store(!held.is_empty(), Ordering::Relaxed);
        drop(held);
        drop(writer);
        self.notify_released(Name::of_lock(name).hash(self.identity.hash_key), reserved);
        Ok(true)
    }

    /// Releases the locks of those owners in this process that meet a condition: a thread that ends, a handle that is
    /// detached.
    pub fn release_locks_of(&self, condition: impl Fn(LockOwner) -> bool) {
        let until = WithDeadline::new(Instant::now().checked_add(RELEASE_LIMIT), &Blocking);
        let mut stopped = false;
        // The locks are released one by one. Each of them is released, or abandoned, and not held any longer.
        loop {
            let Some((name, owner)) = self.locks.held.lock().find_by_owner(&condition) else { return };
            while self.locks.held.lock().release_once(&name.as_index(), owner) {}
            // A stopped writer is waited for once, however many locks there are.
            stopped = stopped || self.release_lock(&name.as_index(), owner, &until).is_err();
            // A stopped process holds the segment up. The lock is left to this process's next acquisition of the writer
            // lock, and to the reaping of its participant.
            if stopped && self.locks.held.lock().abandon(&name.as_index(), owner) {
                self.deferred.any.store(true, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::AsCoordination;
    use std::cell::RefCell;

    /// Acts the first time a call waits.
    struct ActWhileWaiting<F>(RefCell<Option<F>>);

    impl<F: FnOnce()> WaitPolicy for ActWhileWaiting<F> {
        fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
            if let Some(act) = self.0.take() {
                act();
            }
            slow();
        }
        fn interrupted(&self) -> Result<()> {
            Ok(())
        }
    }

    fn segment(name: &str) -> crate::Segment {
        let key = format!("locks-rs-{}-{name}", crate::os::pid());
        crate::Segment::attach(crate::key::Key::text(&key).unwrap(), &crate::Options::default()).unwrap()
    }

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn a_release_that_comes_late_leaves_the_lock_to_its_new_owner() {
        let (segment, name) = (segment("late"), Index::Int(1));
        let att = &*segment.attachment().unwrap();
        let (first, third) = (LockOwner::task(1, 7), LockOwner::task(3, 8));
        assert!(att.coordination().acquire_lock(&name, first, None, &Blocking).unwrap());
        let writer = att.write(&Blocking).unwrap();
        // While the release waits for the writer lock, its handle is detached, and another task acquires the lock.
        let meanwhile = ActWhileWaiting(RefCell::new(Some(move || {
            drop(writer);
            att.coordination().release_locks_of(|owner| owner.handle == 7);
            assert!(att.coordination().acquire_lock(&name, third, None, &Blocking).unwrap());
        })));
        assert!(!att.coordination().release_lock(&name, first, &meanwhile).unwrap());
        assert!(att.coordination().is_locked(&name, &Blocking).unwrap());
        assert!(att.coordination().release_lock(&name, third, &Blocking).unwrap());
        segment.destroy().unwrap();
    }
}
