//! Acquiring named locks: one try, the wait, and taking a lock over from a dead owner.
//!
//! The protocol is "Named locks" in docs/protocol.md (**Acquire**). The slot of a lock is read and changed in
//! `lock_slot.rs`; `lock_turn.rs` has the state of one wait.

use crate::coordination::Coordination;
use crate::coordination::lock_state::{LockState, NO_PARTICIPANT};
use crate::coordination::lock_turn::{HAND_OFF_AFTER, LockTurn, LockWait};
use crate::coordination::thread_locks;
use crate::error::{Error, Result};
use crate::format::sleeper_of;
use crate::key::{Index, Name};
use crate::os::fork;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::deadline::WithDeadline;
use crate::process::held_locks::LockOwner;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::wake_word;
use crate::variables::place::Spot;
use crate::variables::store_plan::{Placement, StorePlan};
use crate::variables::stored::{Layout, Stored};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often a waiter asks whether the owner is alive.
const SLICE: Duration = Duration::from_millis(20);

/// How long one try waits for the writer lock: long enough to take the writer lock over from a dead owner.
const TRY_LIMIT: Duration = Duration::from_millis(50);

/// How one try ended.
enum Attempt {
    /// The caller owns the lock.
    Acquired,
    /// The lock is owned by, or reserved for, another participant: what its slot said.
    Owned(LockState),
}

impl Coordination {
    /// Acquires a lock for a thread or a task. Waits for `timeout` at most (`None`: without a bound). Returns `false`
    /// if the time is over.
    pub fn acquire_lock(
        &self,
        name: &Index<'_>,
        owner: LockOwner,
        timeout: Option<Duration>,
        policy: &dyn WaitPolicy,
    ) -> Result<bool> {
        name.check_length()?;
        if self.reacquire_lock(name, owner) {
            return Ok(true);
        }
        if !owner.is_task() {
            thread_locks::reserve_memory()?;
        }
        let began = timeout.map(|_| Instant::now());
        let deadline = |timeout: Duration| began.and_then(|began| began.checked_add(timeout));
        let mut until = WithDeadline::new(timeout.and_then(|timeout| deadline(timeout.max(TRY_LIMIT))), policy);
        let tried = self.try_acquire(name, owner, None, &until);
        let acquired = match until.outcome(tried)? {
            Some(Attempt::Acquired) => true,
            None => false,
            Some(Attempt::Owned(lock)) => {
                let mut wait = LockWait::begin();
                let mut waited = self.try_acquire_from_dead(name, owner, &lock, &mut wait, &until);
                if matches!(waited, Ok(false)) && timeout != Some(Duration::ZERO) {
                    until.deadline = timeout.and_then(deadline);
                    waited = self.wait_for_lock(name, owner, &mut wait, &until);
                    if !matches!(waited, Ok(true)) {
                        self.withdraw_request(name, &wait);
                    }
                }
                until.outcome(waited)?.unwrap_or(false)
            }
        };
        if acquired && !owner.is_task() {
            thread_locks::remember(self);
        }
        Ok(acquired)
    }

    /// Waits until the lock is acquired. Returns an error when the policy interrupts it.
    fn wait_for_lock(
        &self,
        name: &Index<'_>,
        owner: LockOwner,
        wait: &mut LockWait,
        until: &WithDeadline<'_>,
    ) -> Result<bool> {
        let hash = Name::of_lock(name).hash(self.identity.hash_key);
        let Some(word) = self.wake_word(hash) else { return Err(Error::corrupt("the wake words")) };
        let (mut first, sleeper) = (true, sleeper_of(hash));
        loop {
            let count = wake_word::mark(&word.released, sleeper);
            let lock = match self.try_acquire(name, owner, Some(wait), until)? {
                Attempt::Acquired => {
                    // Other waiters may sleep behind this one, and the last wake may have gone to a waiter that gave
                    // up. With the mark the release of this waiter wakes one of them.
                    wake_word::mark(&word.released, sleeper);
                    return Ok(true);
                }
                Attempt::Owned(lock) => lock,
            };
            // The first sleep ends when it is time to ask to be the next owner.
            let short = std::mem::take(&mut first) || lock.owner == NO_PARTICIPANT;
            let slice = if short { HAND_OFF_AFTER } else { SLICE };
            let left = until.deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            let epoch = fork::epoch();
            until.sleep(&Sleep::on_bits(&word.released.count, count, slice, sleeper).at_most(left));
            until.interrupted()?;
            if epoch != fork::epoch() {
                // A signal handler forked, and this is the child. The child has asked for nothing yet.
                *wait = LockWait::begin();
                continue;
            }
            if self.reacquire_lock(name, owner) {
                // A signal handler of this thread has acquired the lock, and keeps it.
                self.withdraw_request(name, wait);
                return Ok(true);
            }
            self.find_dead(&lock, wait)?;
        }
    }

    /// Acquires a lock once more, if `owner` holds it. Returns `false` if it does not.
    #[inline]
    pub fn reacquire_lock(&self, name: &Index<'_>, owner: LockOwner) -> bool {
        self.locks.any.load(Ordering::Relaxed) && self.locks.held.lock().acquire_again(name, owner)
    }

    /// Makes one try for a caller that waits in its own way. It waits for the writer lock only for a moment, because
    /// the calling thread has other tasks to serve.
    pub fn try_acquire_lock(
        &self,
        name: &Index<'_>,
        owner: LockOwner,
        turn: &mut LockTurn,
        policy: &dyn WaitPolicy,
    ) -> Result<bool> {
        name.check_length()?;
        if self.reacquire_lock(name, owner) {
            return Ok(true);
        }
        let until = WithDeadline::new(Instant::now().checked_add(TRY_LIMIT), policy);
        let wait = turn.0.get_or_insert_with(LockWait::begin);
        let tried = match self.try_acquire(name, owner, Some(wait), &until) {
            Ok(Attempt::Acquired) => Ok(true),
            Ok(Attempt::Owned(lock)) => self.try_acquire_from_dead(name, owner, &lock, wait, &until),
            Err(error) => Err(error),
        };
        Ok(until.outcome(tried)?.unwrap_or(false))
    }

    /// Tries once more if the owner or the next owner is dead: a caller that tries without a wait has to get such a
    /// lock, too.
    #[cold]
    fn try_acquire_from_dead(
        &self,
        name: &Index<'_>,
        owner: LockOwner,
        lock: &LockState,
        wait: &mut LockWait,
        policy: &dyn WaitPolicy,
    ) -> Result<bool> {
        self.find_dead(lock, wait)?;
        Ok(wait.dead != [NO_PARTICIPANT; 2]
            && matches!(self.try_acquire(name, owner, Some(wait), policy)?, Attempt::Acquired))
    }

    /// Ends the wait of a caller that waited in its own way.
    pub fn end_lock_turn(&self, name: &Index<'_>, turn: &LockTurn) {
        if let Some(wait) = &turn.0 {
            self.withdraw_request(name, wait);
        }
    }

    /// Acquires the lock if it is free, reserved for this wait, or a dead owner's. If the caller has waited long
    /// enough, it asks to be the next owner.
    fn try_acquire(
        &self,
        name: &Index<'_>,
        owner: LockOwner,
        wait: Option<&LockWait>,
        policy: &dyn WaitPolicy,
    ) -> Result<Attempt> {
        let (mut backoff, mut no_larger_leaf) = (Backoff::default(), false);
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let mut writer = self.write(policy)?;
            let own_id = self.participant_id(writer.number);
            let place = writer.find_place(&Name::of_lock(name), &mut Scratch::new())?;
            let Spot::Occupied(_, content) = place.spot else {
                if !writer.allows_one_more(&place)? {
                    drop(writer);
                    self.reap_for_lock(policy)?;
                } else if let Some(required) = self.needs_larger_leaf(&place, no_larger_leaf)? {
                    drop(writer);
                    let _call_guard = self.enter_call();
                    let (name, key) = (Name::of_lock(name), self.identity.hash_key);
                    let hash = name.hash(key);
                    let larger = || self.make_larger_leaf(&place.leaf, &name, hash, required, policy);
                    no_larger_leaf = !self.with_memory(policy, larger)?;
                } else if self
                    .acquire_and_remember(name, owner, || writer.insert_lock(name, &place, LockState::of(own_id)))?
                {
                    return Ok(Attempt::Acquired);
                } else {
                    drop(writer);
                    self.make_block_for_lock(name, policy)?;
                }
                continue;
            };
            let lock = writer.lock_state(&content)?;
            let dead = |owner| wait.is_some_and(|wait| wait.is_dead(owner));
            let next_is_own = wait.is_some_and(|wait| lock.next == own_id && lock.token == wait.token);
            let available = match lock.owner {
                NO_PARTICIPANT => next_is_own || dead(lock.next) || lock.lapsed(),
                owner => dead(owner),
            };
            let own_state = if available {
                // A next owner that is this wait, or is dead, or did not come in time, is taken out.
                let drop_next = next_is_own || dead(lock.next) || lock.owner == NO_PARTICIPANT;
                Some(LockState { owner: own_id, ..if drop_next { lock.without_next() } else { lock } })
            } else {
                None
            };
            if let Some(own_state) = own_state {
                if self.acquire_and_remember(name, owner, || writer.update_lock(name, &place, own_state))? {
                    return Ok(Attempt::Acquired);
                }
            } else if let Some(wait) = wait.filter(|wait| wait.began.elapsed() >= HAND_OFF_AFTER && !next_is_own) {
                let with_request = LockState { next: own_id, token: wait.token, ..lock };
                let may_ask = lock.owner != NO_PARTICIPANT && (lock.next == NO_PARTICIPANT || dead(lock.next));
                if !may_ask || writer.update_lock(name, &place, with_request)? {
                    return Ok(Attempt::Owned(if may_ask { with_request } else { lock }));
                }
            } else {
                return Ok(Attempt::Owned(lock));
            }
            drop(writer);
            self.make_block_for_lock(name, policy)?;
        }
    }

    /// Acquires a lock by `acquire` and remembers it for its owner. Returns `false` if `acquire` does. The caller holds
    /// the writer lock.
    fn acquire_and_remember(
        &self,
        name: &Index<'_>,
        owner: LockOwner,
        acquire: impl FnOnce() -> Result<bool>,
    ) -> Result<bool> {
        let mut held = self.locks.held.lock();
        // This comes first, because it may fail.
        let hold = held.prepare(name, owner)?;
        let acquired = acquire()?;
        if acquired {
            held.add(hold);
            self.locks.any.store(true, Ordering::Relaxed);
        }
        Ok(acquired)
    }

    /// Makes a free block for the record of a lock. The writer lock is not held.
    fn make_block_for_lock(&self, name: &Index<'_>, policy: &dyn WaitPolicy) -> Result<()> {
        let _call_guard = self.enter_call();
        match StorePlan::new(
            Name::of_lock(name),
            Stored { parts: &[&[0; 14]], layout: Layout::Pickle, expiry: None },
            [0; 2],
        )?
        .placement
        {
            Placement::Block(class) => self.with_memory(policy, || self.add_blocks(class, false, policy)),
            _ => Ok(()),
        }
    }
}
