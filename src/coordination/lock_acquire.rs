//! Acquiring named locks.

use crate::coordination::Coordination;
use crate::coordination::deadline::Until;
use crate::coordination::lock_state::{LockWord, NOBODY};
use crate::coordination::lock_turn::{STARVING, Turn, Wait};
use crate::coordination::thread_locks;
use crate::error::{Error, Result};
use crate::format::sleeper_of;
use crate::key::{Index, Name};
use crate::os::fork;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::held_locks::LockOwner;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::wake_word;
use crate::variables::place::Spot;
use crate::variables::publish::{Form, StorePlan};
use crate::variables::stored::Stored;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A waiter asks this often whether the owner lives.
const SLICE: Duration = Duration::from_millis(20);

/// One try waits for the writer lock so long: enough to take it over from a dead owner.
const ONE_TRY: Duration = Duration::from_millis(50);

/// How a look at a lock ended.
enum Access {
    Ours,
    Theirs(LockWord),
}

impl Coordination {
    /// Takes a lock for a thread or task, waiting at most so long (`None`: without end). False: time is up.
    pub fn acquire_lock(
        &self,
        name: &Index<'_>,
        who: LockOwner,
        timeout: Option<Duration>,
        policy: &dyn WaitPolicy,
    ) -> Result<bool> {
        name.check()?;
        if self.take_again(name, who) {
            return Ok(true);
        }
        if !who.is_task() {
            thread_locks::room_to_remember()?;
        }
        let began = timeout.map(|_| Instant::now());
        let deadline = |timeout: Duration| began.and_then(|began| began.checked_add(timeout));
        let mut until = Until::new(timeout.and_then(|timeout| deadline(timeout.max(ONE_TRY))), policy);
        let looked = self.look_at_lock(name, who, None, &until);
        let taken = match until.outcome(looked)? {
            Some(Access::Ours) => true,
            None => false,
            Some(Access::Theirs(lock)) => {
                let mut wait = Wait::began();
                let mut waited = self.look_again(name, who, &lock, &mut wait, &until);
                if matches!(waited, Ok(false)) && timeout != Some(Duration::ZERO) {
                    until.deadline = timeout.and_then(deadline);
                    waited = self.wait_for_lock(name, who, &mut wait, &until);
                    if !matches!(waited, Ok(true)) {
                        self.leave_queue(name, &wait);
                    }
                }
                until.outcome(waited)?.unwrap_or(false)
            }
        };
        if taken && !who.is_task() {
            thread_locks::remember(self);
        }
        Ok(taken)
    }

    fn wait_for_lock(&self, name: &Index<'_>, who: LockOwner, wait: &mut Wait, until: &Until<'_>) -> Result<bool> {
        let hash = Name::of_lock(name).hash(self.identity.hash_key);
        let Some(word) = self.wake_word(hash) else { return Err(Error::corrupt("the wake words")) };
        let (mut first, sleeper) = (true, sleeper_of(hash));
        loop {
            let rings = wake_word::mark(&word.released, sleeper);
            let lock = match self.look_at_lock(name, who, Some(wait), until)? {
                Access::Ours => {
                    // Others may sleep behind us, and a ring since our mark may have woken one who gave up: our own release
                    // wakes one of them.
                    wake_word::mark(&word.released, sleeper);
                    return Ok(true);
                }
                Access::Theirs(lock) => lock,
            };
            // The first sleep ends when it is time to ask for the next turn.
            let short = std::mem::take(&mut first) || lock.owner == NOBODY;
            let slice = if short { STARVING } else { SLICE };
            let left = until.deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            let epoch = fork::epoch();
            until.sleep(&Sleep::on_bits(&word.released.count, rings, slice, sleeper).at_most(left));
            until.interrupted()?;
            if epoch != fork::epoch() {
                // A signal handler forked, and this is the child: it has asked for nothing.
                *wait = Wait::began();
                continue;
            }
            self.find_dead(&lock, wait)?;
        }
    }

    /// Takes a lock once more, if `who` holds it.
    #[inline]
    pub fn take_again(&self, name: &Index<'_>, who: LockOwner) -> bool {
        self.locks.any.load(Ordering::Relaxed) && self.locks.held.lock().again(name, who)
    }

    /// One try, for who waits in his own way. The writer lock is waited for shortly: he has others to serve.
    pub fn try_lock_of(
        &self,
        name: &Index<'_>,
        who: LockOwner,
        turn: &mut Turn,
        policy: &dyn WaitPolicy,
    ) -> Result<bool> {
        name.check()?;
        if self.take_again(name, who) {
            return Ok(true);
        }
        let until = Until::new(Instant::now().checked_add(ONE_TRY), policy);
        let wait = turn.0.get_or_insert_with(Wait::began);
        let tried = match self.look_at_lock(name, who, Some(wait), &until) {
            Ok(Access::Ours) => Ok(true),
            Ok(Access::Theirs(lock)) => self.look_again(name, who, &lock, wait, &until),
            Err(error) => Err(error),
        };
        Ok(until.outcome(tried)?.unwrap_or(false))
    }

    /// A second look, if one of those whom a lock names is dead: who tries without a wait must get it, too.
    #[cold]
    fn look_again(
        &self,
        name: &Index<'_>,
        who: LockOwner,
        lock: &LockWord,
        wait: &mut Wait,
        policy: &dyn WaitPolicy,
    ) -> Result<bool> {
        self.find_dead(lock, wait)?;
        Ok(wait.dead != [NOBODY; 2] && matches!(self.look_at_lock(name, who, Some(wait), policy)?, Access::Ours))
    }

    /// Who waited in his own way does so no longer.
    pub fn end_turn(&self, name: &Index<'_>, turn: &Turn) {
        if let Some(wait) = &turn.0 {
            self.leave_queue(name, wait);
        }
    }

    /// Takes the lock if it is free, reserved for us, or a dead one's; asks for the next turn where it is time to.
    fn look_at_lock(
        &self,
        name: &Index<'_>,
        who: LockOwner,
        wait: Option<&Wait>,
        policy: &dyn WaitPolicy,
    ) -> Result<Access> {
        let (mut backoff, mut in_vain) = (Backoff::default(), false);
        loop {
            backoff.again(Obstacle::RoomTaken, self, policy)?;
            let mut writer = self.write(policy)?;
            let me = self.life_of(writer.me);
            let place = writer.place(&Name::of_lock(name), &mut Scratch::new())?;
            let Spot::ReservedSpan(_, content) = place.spot else {
                if !writer.may_lock(&place)? {
                    drop(writer);
                    self.make_room_for_lock(policy)?;
                } else if let Some(must) = self.wants_room(&place, in_vain)? {
                    drop(writer);
                    let _inside = self.enter_call();
                    let (name, key) = (Name::of_lock(name), self.identity.hash_key);
                    in_vain = !self.make_room_in_table(&place.leaf, &name, name.hash(key), must, policy)?;
                } else if self.taking(name, who, || writer.put_lock(name, &place, LockWord::of(me)))? {
                    return Ok(Access::Ours);
                } else {
                    drop(writer);
                    self.block_for_lock(name, policy)?;
                }
                continue;
            };
            let lock = writer.lock_at(&content)?;
            let dead = |owner| wait.is_some_and(|wait| wait.is_dead(owner));
            let next_is_me = wait.is_some_and(|wait| lock.next == me && lock.token == wait.token);
            let free = match lock.owner {
                NOBODY => next_is_me || dead(lock.next) || lock.lapsed(),
                owner => dead(owner),
            };
            let ours = if free {
                // A next one that is us, dead, or did not come is none.
                let gone = next_is_me || dead(lock.next) || lock.owner == NOBODY;
                Some(LockWord { owner: me, ..if gone { lock.without_next() } else { lock } })
            } else {
                None
            };
            if let Some(ours) = ours {
                if self.taking(name, who, || writer.set_lock(name, &place, ours))? {
                    return Ok(Access::Ours);
                }
            } else if let Some(wait) = wait.filter(|wait| wait.began.elapsed() >= STARVING && !next_is_me) {
                let asked = LockWord { next: me, token: wait.token, ..lock };
                let open = lock.owner != NOBODY && (lock.next == NOBODY || dead(lock.next));
                if !open || writer.set_lock(name, &place, asked)? {
                    return Ok(Access::Theirs(if open { asked } else { lock }));
                }
            } else {
                return Ok(Access::Theirs(lock));
            }
            drop(writer);
            self.block_for_lock(name, policy)?;
        }
    }

    /// A thread or task takes a lock, which is remembered of it. False: it was not to be had. The writer lock is held.
    fn taking(&self, name: &Index<'_>, who: LockOwner, take: impl FnOnce() -> Result<bool>) -> Result<bool> {
        let mut held = self.locks.held.lock();
        // First, because it may fail.
        let hold = held.prepare(name, who)?;
        let taken = take()?;
        if taken {
            held.taken(hold);
            self.locks.any.store(true, Ordering::Relaxed);
        }
        Ok(taken)
    }

    /// Makes a block for a lock, with the writer lock let go.
    fn block_for_lock(&self, name: &Index<'_>, policy: &dyn WaitPolicy) -> Result<()> {
        let _inside = self.enter_call();
        match StorePlan::new(Name::of_lock(name), Stored { parts: &[&[0; 14]], buffers: false, expiry: None }, [0; 2])?
            .form
        {
            Form::Block(class) => self.refill(class, false, policy),
            _ => Ok(()),
        }
    }
}
