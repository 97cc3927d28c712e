//! What this process knows of the locks that it holds: which thread, greenlet or task, how often. Not in the segment.

use crate::error::Result;
use crate::fallible;
use crate::key::{Index, IndexBuf};
use crate::os::fork::{self, ForkMutex};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What this is called where there is no memory for it.
const HELD: &str = "a list of held locks";

/// A thread, greenlet or task of this process that asks for locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockOwner {
    /// Of a thread or task: never another's in this process.
    pub id: u64,
    /// Which of the thread's greenlets, by a number that no other one has while it lives; 0: the thread itself.
    pub greenlet: u64,
    /// The handle through which it asks.
    pub handle: u64,
}

/// Ids of threads have this bit clear, ids of tasks have it set.
const TASK: u64 = 1 << 63;

impl LockOwner {
    /// The calling thread.
    pub fn thread(handle: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        thread_local! {
            static ID: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        // While a thread ends its id may be gone; then it holds nothing.
        LockOwner { id: ID.try_with(|id| *id).unwrap_or(0), greenlet: 0, handle }
    }

    /// The same for one of the calling thread's greenlets.
    #[cfg(feature = "python")]
    pub fn as_greenlet(self, greenlet: u64) -> Self {
        LockOwner { greenlet, ..self }
    }

    /// The same holder, through whatever handle?
    #[inline]
    pub fn is(&self, other: LockOwner) -> bool {
        self.id == other.id && self.greenlet == other.greenlet
    }

    /// A task, by a number that is its own while it lives.
    pub fn task(number: u64, handle: u64) -> Self {
        LockOwner { id: number | TASK, greenlet: 0, handle }
    }

    /// A task rather than a thread?
    pub fn is_task(&self) -> bool {
        self.id & TASK != 0
    }
}

/// One lock that is held.
pub struct HeldLock {
    name: IndexBuf,
    who: LockOwner,
    depth: u32,
}

/// The named locks of this process, with what its calls ask before they ask them.
#[derive(Default)]
pub struct ProcessLocks {
    /// The locks that are held.
    pub held: ForkMutex<HeldLocks>,
    /// False: none is held, and `held` need not be asked. Stored under its mutex.
    pub any: AtomicBool,
    /// So many locks may be taken before those that are held are counted again. Under the writer lock.
    pub uncounted: AtomicU64,
}

/// The locks that this process holds.
#[derive(Default)]
pub struct HeldLocks {
    epoch: u32,
    holds: Vec<HeldLock>,
    /// Those whose holders could not let go.
    abandoned: Vec<IndexBuf>,
}

fn same(name: &IndexBuf, other: &Index<'_>) -> bool {
    match (name, other) {
        (IndexBuf::Int(a), Index::Int(b)) => a == b,
        (IndexBuf::Text(a), Index::Text(b)) => a == b,
        _ => false,
    }
}

impl HeldLocks {
    /// A forked child holds nothing.
    fn current(&mut self) -> &mut Vec<HeldLock> {
        if self.epoch != fork::epoch() {
            *self = HeldLocks { epoch: fork::epoch(), ..HeldLocks::default() };
        }
        &mut self.holds
    }

    fn find(&mut self, name: &Index<'_>) -> Option<&mut HeldLock> {
        self.current().iter_mut().find(|hold| same(&hold.name, name))
    }

    /// Takes a lock once more, if `who` holds it.
    pub fn again(&mut self, name: &Index<'_>, who: LockOwner) -> bool {
        match self.find(name).filter(|hold| hold.who.is(who)) {
            Some(hold) => {
                hold.depth += 1;
                true
            }
            None => false,
        }
    }

    /// How often `who` holds it.
    pub fn depth(&mut self, name: &Index<'_>, who: LockOwner) -> u32 {
        self.find(name).filter(|hold| hold.who.is(who)).map_or(0, |hold| hold.depth)
    }

    /// Before a lock is taken: what is to be remembered of it then.
    pub fn prepare(&mut self, name: &Index<'_>, who: LockOwner) -> Result<HeldLock> {
        let holds = self.current();
        fallible::reserve(holds, 1, HELD)?;
        // Each of them may have to be abandoned.
        let more = holds.len() + 1;
        fallible::reserve(&mut self.abandoned, more, HELD)?;
        let name = match name {
            Index::Int(number) => IndexBuf::Int(*number),
            Index::Text(text) => IndexBuf::Text(fallible::text(text, HELD)?),
        };
        Ok(HeldLock { name, who, depth: 1 })
    }

    /// It is taken, for the first time: there is room for it.
    pub fn taken(&mut self, hold: HeldLock) {
        self.current().push(hold);
    }

    /// Lets go once of what is held more than once. False: this was the last time, nothing is changed.
    pub fn once_less(&mut self, name: &Index<'_>, who: LockOwner) -> bool {
        match self.find(name).filter(|hold| hold.who.is(who) && hold.depth > 1) {
            Some(hold) => {
                hold.depth -= 1;
                true
            }
            None => false,
        }
    }

    /// It is held no longer.
    pub fn let_go(&mut self, name: &Index<'_>, who: LockOwner) {
        self.current().retain(|hold| !(hold.who.is(who) && same(&hold.name, name)));
    }

    /// Its holder is gone and could not let it go. False: `who` holds it no longer.
    pub fn abandon(&mut self, name: &Index<'_>, who: LockOwner) -> bool {
        let found = self.current().iter().position(|hold| hold.who.id == who.id && same(&hold.name, name));
        let Some(found) = found else { return false };
        // There is room for it since it was taken.
        let hold = self.current().swap_remove(found);
        self.abandoned.push(hold.name);
        true
    }

    /// One that was abandoned.
    pub fn abandoned(&mut self) -> Option<IndexBuf> {
        self.current();
        self.abandoned.last().cloned()
    }

    /// It is abandoned no longer.
    pub fn forget(&mut self, name: &Index<'_>) {
        self.abandoned.retain(|other| !same(other, name));
    }

    /// Does this process hold none?
    pub fn is_empty(&mut self) -> bool {
        self.current().is_empty() && self.abandoned.is_empty()
    }

    /// One that meets a condition.
    pub fn any(&mut self, condition: impl Fn(LockOwner) -> bool) -> Option<(IndexBuf, LockOwner)> {
        self.current().iter().find(|hold| condition(hold.who)).map(|hold| (hold.name.clone(), hold.who))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_holds_a_lock_as_often_as_it_took_it_and_others_do_not() {
        let (mut held, name) = (HeldLocks::default(), Index::Text("a"));
        let (me, other) = (LockOwner::thread(1), LockOwner::task(7, 1));
        assert!(!held.again(&name, me) && held.is_empty());
        let hold = held.prepare(&name, me).unwrap();
        held.taken(hold);
        assert!(held.again(&name, me) && !held.again(&name, other) && held.depth(&name, me) == 2);
        assert!(held.once_less(&name, me) && !held.once_less(&name, me) && !held.once_less(&name, other));
        held.let_go(&name, other);
        assert!(!held.is_empty());
        held.let_go(&name, me);
        assert!(held.is_empty());
        // Not held: nothing to abandon, or the next one's lock would be let go.
        assert!(!held.abandon(&name, me) && held.is_empty());
        let hold = held.prepare(&name, other).unwrap();
        held.taken(hold);
        assert!(held.abandon(&name, other) && held.abandoned().is_some());
        // Greenlets of one thread are as much others as threads are.
        let (one, two) = (LockOwner { greenlet: 5, ..me }, LockOwner { greenlet: 6, ..me });
        let hold = held.prepare(&Index::Int(1), one).unwrap();
        held.taken(hold);
        assert!(!held.again(&Index::Int(1), two) && !held.again(&Index::Int(1), me) && held.again(&Index::Int(1), one));
        assert_ne!(std::thread::spawn(|| LockOwner::thread(1).id).join().unwrap(), me.id);
    }
}
