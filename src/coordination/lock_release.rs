//! Releasing named locks.

use crate::coordination::Coordination;
use crate::coordination::deadline::WithDeadline;
use crate::error::Result;
use crate::key::{Index, Name};
use crate::process::held_locks::LockOwner;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A thread that ends, or a handle that is detached, waits so long for a stopped writer.
const RELEASE_LIMIT: Duration = Duration::from_millis(500);

impl Coordination {
    /// Lets a lock go once. False: `who` does not hold it. An error: he still does.
    pub fn release_lock(&self, name: &Index<'_>, owner: LockOwner, policy: &dyn WaitPolicy) -> Result<bool> {
        {
            let mut held = self.locks.held.lock();
            if held.depth(name, owner) == 0 {
                return Ok(false);
            }
            if held.once_less(name, owner) {
                return Ok(true);
            }
        }
        let mut writer = self.write_unmapped(policy)?;
        // The slot names the process: let go by another thread meanwhile (a handle was detached), it may be a third one's.
        let mut held = self.locks.held.lock();
        if held.depth(name, owner) == 0 {
            return Ok(false);
        }
        let reserved = writer.release_slot(name)?;
        // CRASH: before the segment said so, it is ours and we are dead.
        held.let_go(name, owner);
        self.locks.any.store(!held.is_empty(), Ordering::Relaxed);
        drop(held);
        drop(writer);
        self.notify_released(Name::of_lock(name).hash(self.identity.hash_key), reserved);
        Ok(true)
    }

    /// Lets go what some of this process hold: a thread that ends, a handle that is detached.
    pub fn release_locks_of(&self, condition: impl Fn(LockOwner) -> bool) {
        let until = WithDeadline::new(Instant::now().checked_add(RELEASE_LIMIT), &Blocking);
        let mut stopped = false;
        // One after the other: each is let go or abandoned, and held no longer.
        loop {
            let Some((name, owner)) = self.locks.held.lock().any(&condition) else { return };
            while self.locks.held.lock().once_less(&name.as_index(), owner) {}
            // Waited for once, however many there are.
            stopped = stopped || self.release_lock(&name.as_index(), owner, &until).is_err();
            // A stopped process holds the segment up: left to our next acquisition, and to who reaps us.
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

    /// Does something the first time a call waits.
    struct Meanwhile<F>(RefCell<Option<F>>);

    impl<F: FnOnce()> WaitPolicy for Meanwhile<F> {
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
    fn a_release_that_comes_late_leaves_the_lock_to_who_took_it_meanwhile() {
        let (segment, name) = (segment("late"), Index::Int(1));
        let att = &*segment.attachment().unwrap();
        let (first, third) = (LockOwner::task(1, 7), LockOwner::task(3, 8));
        assert!(att.coordination().acquire_lock(&name, first, None, &Blocking).unwrap());
        let writer = att.write(&Blocking).unwrap();
        // While its own release waits for the writer lock its handle is detached, and another task gets it.
        let meanwhile = Meanwhile(RefCell::new(Some(move || {
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
