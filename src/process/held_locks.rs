//! What this process knows of the named locks that it holds: which thread, greenlet or task holds each lock, and how
//! often. The segment knows only that the process holds the lock. Acquiring and releasing stand on the floor
//! `coordination`. The protocol is "Named locks" in `docs/protocol.md`.

use crate::error::Result;
use crate::fallible;
use crate::key::{Index, IndexBuf};
use crate::os::fork::{self, ForkMutex};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a memory error calls the list below.
const HELD: &str = "a list of held locks";

/// A thread, greenlet or task of this process that asks for locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockOwner {
    /// The id of a thread or task. No other thread or task of this process ever has the same.
    pub id: u64,
    /// A number for one of the thread's greenlets, which no other greenlet has while that one lives. 0: the thread
    /// itself.
    pub greenlet: u64,
    /// The handle through which the lock is asked for.
    pub handle: u64,
}

/// Ids of threads have this bit clear, ids of tasks have it set.
const TASK: u64 = 1 << 63;

impl LockOwner {
    /// Makes the owner that stands for the calling thread.
    pub fn thread(handle: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        thread_local! {
            static ID: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        // While a thread ends, its id may be gone. Such a thread holds no lock, so it gets an id that no thread has.
        LockOwner { id: ID.try_with(|id| *id).unwrap_or(0), greenlet: 0, handle }
    }

    /// Makes the owner that stands for one of this thread's greenlets.
    #[cfg(feature = "python")]
    pub fn as_greenlet(self, greenlet: u64) -> Self {
        LockOwner { greenlet, ..self }
    }

    /// Tells whether both are the same thread, greenlet or task, whatever handles they use.
    #[inline]
    pub fn is(&self, other: LockOwner) -> bool {
        self.id == other.id && self.greenlet == other.greenlet
    }

    /// Makes the owner that stands for a task, by a number that no other task has while this one lives.
    pub fn task(number: u64, handle: u64) -> Self {
        LockOwner { id: number | TASK, greenlet: 0, handle }
    }

    /// Tells whether this is a task, and not a thread or greenlet.
    pub fn is_task(&self) -> bool {
        self.id & TASK != 0
    }
}

/// Private to the process: one lock that it holds.
pub struct HeldLock {
    name: IndexBuf,
    owner: LockOwner,
    /// How often the owner holds the lock.
    depth: u32,
}

/// Private to the process: its named locks, and what a call looks at before it takes the mutex of the list.
#[derive(Default)]
pub struct ProcessLocks {
    /// The locks that are held.
    pub held: ForkMutex<HeldLocks>,
    /// `false`: no lock is held, so `held` need not be looked at. Stored with the mutex of `held` locked.
    pub any: AtomicBool,
    /// How many locks may still be taken before the held ones are counted again. Read and stored under the writer lock.
    pub until_recount: AtomicU64,
}

/// Private to the process: the list of the locks that it holds.
#[derive(Default)]
pub struct HeldLocks {
    /// The epoch of the process that the list belongs to.
    epoch: u32,
    locks: Vec<HeldLock>,
    /// Locks that are still this process's, because their owners could not release them.
    abandoned: Vec<IndexBuf>,
}

fn same_name(name: &IndexBuf, other: &Index<'_>) -> bool {
    match (name, other) {
        (IndexBuf::Int(a), Index::Int(b)) => a == b,
        (IndexBuf::Text(a), Index::Text(b)) => a == b,
        _ => false,
    }
}

impl HeldLocks {
    /// Returns the list, which is empty in a forked child: a child holds no lock of its parent.
    fn current(&mut self) -> &mut Vec<HeldLock> {
        if self.epoch != fork::epoch() {
            *self = HeldLocks { epoch: fork::epoch(), ..HeldLocks::default() };
        }
        &mut self.locks
    }

    fn find(&mut self, name: &Index<'_>) -> Option<&mut HeldLock> {
        self.current().iter_mut().find(|lock| same_name(&lock.name, name))
    }

    /// Acquires a lock once more, if `owner` holds it. Returns `false` if `owner` does not.
    pub fn acquire_again(&mut self, name: &Index<'_>, owner: LockOwner) -> bool {
        match self.find(name).filter(|lock| lock.owner.is(owner)) {
            Some(lock) => {
                lock.depth += 1;
                true
            }
            None => false,
        }
    }

    /// Returns how often `owner` holds a lock.
    pub fn depth(&mut self, name: &Index<'_>, owner: LockOwner) -> u32 {
        self.find(name).filter(|lock| lock.owner.is(owner)).map_or(0, |lock| lock.depth)
    }

    /// Makes what is to be remembered of a lock, and reserves memory for it. Called before the lock is acquired, so
    /// that nothing can fail afterwards.
    pub fn prepare(&mut self, name: &Index<'_>, owner: LockOwner) -> Result<HeldLock> {
        let locks = self.current();
        fallible::reserve(locks, 1, HELD)?;
        // Each of the held locks may have to be abandoned.
        let more = locks.len() + 1;
        fallible::reserve(&mut self.abandoned, more, HELD)?;
        let name = match name {
            Index::Int(number) => IndexBuf::Int(*number),
            Index::Text(text) => IndexBuf::Text(fallible::text(text, HELD)?),
        };
        Ok(HeldLock { name, owner, depth: 1 })
    }

    /// Adds a lock that was acquired. [`HeldLocks::prepare`] has reserved the memory.
    pub fn add(&mut self, lock: HeldLock) {
        self.current().push(lock);
    }

    /// Releases a lock once, if `owner` holds it more than once. Returns `false` if this would be the last time (or
    /// `owner` does not hold the lock): then nothing has changed.
    pub fn release_once(&mut self, name: &Index<'_>, owner: LockOwner) -> bool {
        match self.find(name).filter(|lock| lock.owner.is(owner) && lock.depth > 1) {
            Some(lock) => {
                lock.depth -= 1;
                true
            }
            None => false,
        }
    }

    /// Removes a lock that `owner` holds: it was released.
    pub fn remove(&mut self, name: &Index<'_>, owner: LockOwner) {
        self.current().retain(|lock| !(lock.owner.is(owner) && same_name(&lock.name, name)));
    }

    /// Moves a lock to the abandoned ones: its owner is gone and could not release it. Returns `false` if `owner` does
    /// not hold the lock any more.
    pub fn abandon(&mut self, name: &Index<'_>, owner: LockOwner) -> bool {
        let found = self.current().iter().position(|lock| lock.owner.id == owner.id && same_name(&lock.name, name));
        let Some(found) = found else { return false };
        // The list of abandoned locks has had space for this one since it was acquired.
        let lock = self.current().swap_remove(found);
        self.abandoned.push(lock.name);
        true
    }

    /// Returns the name of one abandoned lock. `None`: there is none.
    pub fn next_abandoned(&mut self) -> Option<IndexBuf> {
        self.current();
        self.abandoned.last().cloned()
    }

    /// Removes a lock from the abandoned ones: it was released.
    pub fn forget_abandoned(&mut self, name: &Index<'_>) {
        self.abandoned.retain(|other| !same_name(other, name));
    }

    /// Tells whether this process holds no lock.
    pub fn is_empty(&mut self) -> bool {
        self.current().is_empty() && self.abandoned.is_empty()
    }

    /// Returns one lock whose owner meets a condition.
    pub fn find_by_owner(&mut self, condition: impl Fn(LockOwner) -> bool) -> Option<(IndexBuf, LockOwner)> {
        self.current().iter().find(|lock| condition(lock.owner)).map(|lock| (lock.name.clone(), lock.owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_holds_a_lock_as_often_as_it_acquired_it_and_other_threads_do_not() {
        let (mut held, name) = (HeldLocks::default(), Index::Text("a"));
        let (own, other) = (LockOwner::thread(1), LockOwner::task(7, 1));
        assert!(!held.acquire_again(&name, own) && held.is_empty());
        let lock = held.prepare(&name, own).unwrap();
        held.add(lock);
        assert!(held.acquire_again(&name, own) && !held.acquire_again(&name, other) && held.depth(&name, own) == 2);
        assert!(held.release_once(&name, own) && !held.release_once(&name, own) && !held.release_once(&name, other));
        held.remove(&name, other);
        assert!(!held.is_empty());
        held.remove(&name, own);
        assert!(held.is_empty());
        // A lock that is not held is not abandoned: otherwise that of the next owner would be released.
        assert!(!held.abandon(&name, own) && held.is_empty());
        let lock = held.prepare(&name, other).unwrap();
        held.add(lock);
        assert!(held.abandon(&name, other) && held.next_abandoned().is_some());
        // Greenlets of one thread are different owners, just as threads are.
        let (one, two) = (LockOwner { greenlet: 5, ..own }, LockOwner { greenlet: 6, ..own });
        let (lock, name) = (held.prepare(&Index::Int(1), one).unwrap(), Index::Int(1));
        held.add(lock);
        assert!(!held.acquire_again(&name, two) && !held.acquire_again(&name, own) && held.acquire_again(&name, one));
        assert_ne!(std::thread::spawn(|| LockOwner::thread(1).id).join().unwrap(), own.id);
    }
}
