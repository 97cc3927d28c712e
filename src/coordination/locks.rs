//! Taking named locks and letting go of them: waiting, taking over from the dead, a turn for who has waited.

use crate::coordination::AsCoordination;
use crate::coordination::Coordination;
use crate::coordination::lock_slot::{LockWord, NOBODY, OwnerId};
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::sleeper_of;
use crate::key::{Index, Name};
use crate::os::fork;
use crate::os::mem::Scratch;
use crate::process::attachment::Attachment;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::held_locks::LockOwner;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::sync::wake_word;
use crate::variables::publish::{Form, StorePlan};
use crate::variables::stored::Stored;
use crate::variables::table::Spot;
use std::cell::{Cell, RefCell};
use std::sync::Weak;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// A waiter asks this often whether the owner lives.
const SLICE: Duration = Duration::from_millis(20);
/// Who has waited this long asks for the next turn: after Go's `sync.Mutex`.
const STARVING: Duration = Duration::from_millis(1);
/// One try waits for the writer lock so long: enough to take it over from a dead owner.
const ONE_TRY: Duration = Duration::from_millis(50);
/// A thread that ends, or a handle that is detached, waits so long for a stopped writer.
const LETTING_GO: Duration = Duration::from_millis(500);

/// Somebody waits.
struct Wait {
    began: Instant,
    /// Tells waiters of one process apart. Two may have the same: then one takes the other's turn.
    token: u16,
    /// Found dead, after the last look.
    dead: [OwnerId; 2],
}

impl Wait {
    fn began() -> Self {
        static TOKENS: AtomicU16 = AtomicU16::new(0);
        Wait { began: Instant::now(), token: TOKENS.fetch_add(1, Ordering::Relaxed), dead: [NOBODY; 2] }
    }

    fn is_dead(&self, owner: OwnerId) -> bool {
        owner != NOBODY && self.dead.contains(&owner)
    }
}

/// How a look at a lock ended.
enum Access {
    Ours,
    Theirs(LockWord),
}

/// A wait that ends at a time, besides.
struct Until<'a> {
    policy: &'a dyn WaitPolicy,
    deadline: Option<Instant>,
    up: Cell<bool>,
}

impl<'a> Until<'a> {
    fn new(deadline: Option<Instant>, policy: &'a dyn WaitPolicy) -> Self {
        Until { policy, deadline, up: Cell::new(false) }
    }

    /// `None`: time was up.
    fn outcome<T>(&self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Err(Error::Interrupted) if self.up.get() => Ok(None),
            other => other.map(Some),
        }
    }
}

impl WaitPolicy for Until<'_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.policy.allow_threads(slow);
    }
    fn sleep(&self, sleep: &Sleep<'_>) {
        self.policy.sleep(sleep);
    }
    fn interrupted(&self) -> Result<()> {
        self.policy.interrupted()?;
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.up.set(true);
            return Err(Error::Interrupted);
        }
        Ok(())
    }
}

thread_local! {
    /// Attachments whose locks this thread has taken: let go when it ends.
    static OF_THREAD: Ending = const { Ending(RefCell::new(Vec::new())) };
}

struct Ending(RefCell<Vec<Weak<Attachment>>>);

impl Drop for Ending {
    fn drop(&mut self) {
        let me = LockOwner::thread(0);
        for attachment in self.0.take().iter().filter_map(Weak::upgrade) {
            attachment.coordination().release_those(|who| me.id != 0 && who.id == me.id);
        }
    }
}

/// Before this thread takes a lock: to remember through which attachment.
fn room_to_remember() -> Result<()> {
    let room = OF_THREAD.try_with(|of| fallible::reserve(&mut of.0.borrow_mut(), 1, "a list of segments with locks"));
    room.unwrap_or(Ok(()))
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
        name.check_length()?;
        if self.take_again(name, who) {
            return Ok(true);
        }
        if !who.is_task() {
            room_to_remember()?;
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
            // While a thread ends, what it takes it must let go itself.
            let _ = OF_THREAD.try_with(|of| {
                let mut of = of.0.borrow_mut();
                let att: &Attachment = self;
                if !of.iter().any(|weak| std::ptr::eq(weak.as_ptr(), att)) {
                    of.retain(|weak| weak.strong_count() > 0);
                    // There is room, unless a signal handler of this very thread took other locks meanwhile.
                    if of.try_reserve(1).is_ok() {
                        of.push(self.downgrade());
                    }
                }
            });
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

    /// Asks who of those that a lock names is dead, with nothing held.
    fn find_dead(&self, lock: &LockWord, wait: &mut Wait) -> Result<()> {
        for (dead, owner) in wait.dead.iter_mut().zip([lock.owner, lock.next]) {
            *dead = if owner == NOBODY || self.lives(owner)? { NOBODY } else { owner };
        }
        Ok(())
    }

    /// Takes a lock once more, if `who` holds it.
    #[inline]
    pub fn take_again(&self, name: &Index<'_>, who: LockOwner) -> bool {
        self.locks.any.load(Ordering::Relaxed) && self.locks.held.lock().acquire_again(name, who)
    }

    /// One try, for who waits in his own way. The writer lock is waited for shortly: he has others to serve.
    pub fn try_lock_of(
        &self,
        name: &Index<'_>,
        who: LockOwner,
        turn: &mut Turn,
        policy: &dyn WaitPolicy,
    ) -> Result<bool> {
        name.check_length()?;
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
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let mut writer = self.write(policy)?;
            let me = self.life_of(writer.number);
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
            held.add(hold);
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
            Form::Block(class) => self.add_blocks(class, false, policy),
            _ => Ok(()),
        }
    }

    /// Lets a lock go once. False: `who` does not hold it. An error: he still does.
    pub fn release_lock(&self, name: &Index<'_>, who: LockOwner, policy: &dyn WaitPolicy) -> Result<bool> {
        {
            let mut held = self.locks.held.lock();
            if held.depth(name, who) == 0 {
                return Ok(false);
            }
            if held.release_once(name, who) {
                return Ok(true);
            }
        }
        let mut writer = self.write_unmapped(policy)?;
        // The slot names the process: let go by another thread meanwhile (a handle was detached), it may be a third one's.
        let mut held = self.locks.held.lock();
        if held.depth(name, who) == 0 {
            return Ok(false);
        }
        let reserved = writer.free_lock(name)?;
        // CRASH: before the segment said so, it is ours and we are dead.
        held.remove(name, who);
        self.locks.any.store(!held.is_empty(), Ordering::Relaxed);
        drop(held);
        drop(writer);
        self.notify_released(Name::of_lock(name).hash(self.identity.hash_key), reserved);
        Ok(true)
    }

    /// Takes back what a waiter asked for, if that can be done at once. If not, it lapses.
    fn leave_queue(&self, name: &Index<'_>, wait: &Wait) {
        let Some(mut writer) = self.try_write() else { return };
        let (me, hash) = (self.life_of(writer.number), Name::of_lock(name).hash(self.identity.hash_key));
        let mut left = || -> Result<bool> {
            let place = writer.place(&Name::of_lock(name), &mut Scratch::new())?;
            let Spot::ReservedSpan(offset, content) = place.spot else { return Ok(false) };
            let lock = writer.lock_at(&content)?;
            if lock.next != me || lock.token != wait.token {
                return Ok(false);
            }
            if lock.owner == NOBODY {
                // It was reserved for us just now: whoever comes.
                return writer.discard(&place.leaf, offset, &content).map(|()| true);
            }
            writer.set_lock(name, &place, lock.without_next()).map(|_| false)
        };
        let freed = left().unwrap_or(false);
        drop(writer);
        if freed {
            self.notify_released(hash, false);
        }
    }

    /// Lets go what some of this process hold: a thread that ends, a handle that is detached.
    pub fn release_those(&self, condition: impl Fn(LockOwner) -> bool) {
        let until = Until::new(Instant::now().checked_add(LETTING_GO), &Blocking);
        let mut stopped = false;
        // One after the other: each is let go or abandoned, and held no longer.
        loop {
            let Some((name, who)) = self.locks.held.lock().find_by_owner(&condition) else { return };
            while self.locks.held.lock().release_once(&name.as_index(), who) {}
            // Waited for once, however many there are.
            stopped = stopped || self.release_lock(&name.as_index(), who, &until).is_err();
            // A stopped process holds the segment up: left to our next acquisition, and to who reaps us.
            if stopped && self.locks.held.lock().abandon(&name.as_index(), who) {
                self.deferred.any.store(true, Ordering::Release);
            }
        }
    }
}

/// The turn of one who waits in his own way.
#[derive(Default)]
pub struct Turn(Option<Wait>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::AsCoordination;

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
            att.coordination().release_those(|who| who.handle == 7);
            assert!(att.coordination().acquire_lock(&name, third, None, &Blocking).unwrap());
        })));
        assert!(!att.coordination().release_lock(&name, first, &meanwhile).unwrap());
        assert!(att.coordination().is_locked(&name, &Blocking).unwrap());
        assert!(att.coordination().release_lock(&name, third, &Blocking).unwrap());
        segment.destroy().unwrap();
    }

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn a_thread_remembers_no_segment_that_is_gone() {
        for number in 0..20 {
            let segment = segment(&format!("gone-{number}"));
            drop(segment.lock(1, None).unwrap());
            segment.destroy().unwrap();
        }
        assert!(OF_THREAD.with(|of| of.0.borrow().len()) <= 1);
    }
}
