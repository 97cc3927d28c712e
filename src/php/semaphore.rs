//! One of PHP's semaphores: a set of three System V semaphores, in PHP's protocol ("Semaphores" in `docs/php.md`).
//!
//! The kernel keeps other processes and other threads out alike. What this process adds is the count of each thread.

use crate::error::{Error, Result};
use crate::fallible;
use crate::os::fork::{self, ForkMutex};
use crate::os::sysv_sem::{self, Operation};
use crate::php::semaphore_errors::{Action, Named};
use crate::php::semaphore_holders::{self, Places};
use crate::php::waiting::{self, Deadline, Waits, wait_for};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The value of this one is the number of free places.
const PLACES: u16 = 0;
/// This one counts the handles that are open.
const HANDLES: u16 = 1;
/// This one is 1 while a handle is opened.
const SET_UP: u16 = 2;
/// Semaphores in a set.
const SEMAPHORES: u16 = 3;

/// Opening takes microseconds. Whoever has kept others from it for so long is stopped, or no program of PHP's.
const OPENING: Duration = Duration::from_secs(10);

/// More places than this cannot be counted by the kernel.
pub const MAX_ACQUIRE: u16 = 32_767;

/// An operation that the kernel takes back when this process ends.
const fn undone(semaphore: u16, change: i16) -> Operation {
    Operation { semaphore, change, undo: true }
}

/// A thread of this process, or one of its greenlets (0: the thread itself).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// No other thread of the process has this number.
    pub thread: u64,
    /// No other greenlet of the thread has this number while this one lives.
    pub greenlet: u64,
}

/// Private to the process: how often a thread holds the semaphore.
struct Holder {
    owner: Owner,
    depth: u32,
    /// No other place was free after this one was taken.
    known_alone: bool,
}

/// Private to the process: what it knows of a handle.
#[derive(Default)]
struct State {
    /// The epoch of the process that this is about. In a forked child it is about the parent.
    epoch: u32,
    /// Whether this process is counted in `HANDLES`.
    open: bool,
    /// Calls that may take a place meanwhile. The handle is not given back before they end.
    calls: usize,
    /// Whoever holds a place, each of them one. There is room for one more for each of the calls.
    holders: Vec<Holder>,
}

impl State {
    /// Forgets what a forked child knows of its parent: it has opened nothing and holds nothing.
    fn of_this_process(&mut self) {
        if self.epoch != fork::epoch() {
            *self = State { epoch: fork::epoch(), ..State::default() };
        }
    }

    fn holder(&mut self, owner: Owner) -> Option<&mut Holder> {
        self.holders.iter_mut().find(|holder| holder.owner == owner)
    }

    /// Counts the owner once more, if it holds a place.
    fn again(&mut self, owner: Owner) -> Result<bool> {
        let Some(holder) = self.holder(owner) else { return Ok(false) };
        holder.depth = holder.depth.checked_add(1).ok_or_else(|| {
            Error::Overflow(format!("this thread holds the semaphore {} times, which is as often as can be", u32::MAX))
        })?;
        Ok(true)
    }
}

impl Places for ForkMutex<State> {
    fn is_held(&self, thread: u64, greenlet: u64) -> bool {
        let mut state = self.lock();
        state.of_this_process();
        state.holder(Owner { thread, greenlet }).is_some()
    }
}

/// Private to the process: a handle on one of PHP's semaphores. It is given back when it is dropped.
pub struct Semaphore {
    name: Named,
    max_acquire: u16,
    state: Arc<ForkMutex<State>>,
    closed: AtomicBool,
    /// This handle has removed the semaphore.
    removed: AtomicBool,
}

/// How an attempt to take a place ended, if not with an error.
enum Taken {
    Place,
    /// The owner held a place already: a signal handler took it meanwhile.
    Again,
    /// A signal handler has forked, and this is the child.
    Forked,
}

impl Semaphore {
    /// Opens a semaphore, and makes it if there is none. `max_acquire` counts only if no other handle is open.
    ///
    /// # Errors
    /// [`Error::Incompatible`] if something else has this key, [`Error::Access`] without the permission,
    /// [`Error::Busy`] if somebody else is in the middle of opening it and does not go on.
    pub fn open(key: i32, max_acquire: u16, permissions: u32, waits: &dyn Waits) -> Result<Self> {
        let begun = Instant::now();
        loop {
            let id = sysv_sem::get(key, SEMAPHORES, permissions, true)
                .map_err(|error| Named { key, id: -1 }.error(Action::Get(permissions), error))?;
            let semaphore = Semaphore {
                name: Named { key, id },
                max_acquire,
                state: Arc::default(),
                closed: AtomicBool::new(false),
                removed: AtomicBool::new(false),
            };
            match semaphore.open_here(None, waits) {
                Ok(_) => {
                    semaphore_holders::add(id, &semaphore.state);
                    return Ok(semaphore);
                }
                // Somebody has removed the set just now: there will be a new one.
                Err(Error::NotFound(_)) if begun.elapsed() < OPENING => waits.interrupted()?,
                Err(error) => return Err(error),
            }
        }
    }

    /// The key.
    pub fn key(&self) -> i32 {
        self.name.key
    }

    /// The kernel's number of the set.
    pub fn id(&self) -> i32 {
        self.name.id
    }

    /// How many may hold it at once, as this handle was told.
    pub fn max_acquire(&self) -> u16 {
        self.max_acquire
    }

    /// Whether [`Semaphore::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Counts this process in the set, in PHP's order. Returns `false` if the deadline comes first.
    ///
    /// CRASH: whatever a process has done of this when it dies, the kernel takes back: the next one that opens is the
    /// only one again, if this one was, and sets the places anew.
    fn open_here(&self, deadline: Deadline, waits: &dyn Waits) -> Result<bool> {
        let (id, epoch) = (self.name.id, fork::epoch());
        let enter = [Operation { semaphore: SET_UP, change: 0, undo: false }, undone(SET_UP, 1), undone(HANDLES, 1)];
        let limit = waiting::deadline(Some(OPENING));
        let until = deadline.into_iter().chain(limit).min();
        let entered = wait_for(until, waits, &|at_most| sysv_sem::operate(id, &enter, at_most))?;
        match entered {
            Err(error) => return Err(self.name.error(Action::Open, error)),
            Ok(None) if deadline.is_some_and(|deadline| Some(deadline) <= limit) => return Ok(false),
            Ok(None) => return Err(self.name.busy(sysv_sem::last_pid(id, SET_UP).unwrap_or(0), OPENING)),
            Ok(Some(())) => {}
        }
        let set_up = || {
            if sysv_sem::value(id, HANDLES)? == 1 {
                sysv_sem::set_value(id, PLACES, self.max_acquire)?;
            }
            sysv_sem::operate(id, &[undone(SET_UP, -1)], Duration::ZERO)
        };
        if let Err(error) = set_up() {
            let _ = sysv_sem::operate(id, &[undone(SET_UP, -1), undone(HANDLES, -1)], Duration::ZERO);
            return Err(self.name.error(Action::Open, error));
        }
        let mut state = self.state.lock();
        state.of_this_process();
        if state.open || epoch != fork::epoch() {
            // Another thread was faster. Or a signal handler has forked after the wait: then this process is the child,
            // and has nothing to give back.
            drop(state);
            if epoch == fork::epoch() {
                let _ = sysv_sem::operate(id, &[undone(HANDLES, -1)], Duration::ZERO);
            }
            return Ok(true);
        }
        state.open = true;
        Ok(true)
    }

    /// Takes a place, or counts the owner once more if it has one. Returns `false` if that took longer than `timeout`.
    ///
    /// # Errors
    /// [`Error::Interrupted`] and whatever else `waits` ends the wait with; [`Error::NotFound`] if the semaphore was
    /// removed; [`Error::Detached`] if the handle is closed; [`Error::Deadlock`] if the owner would wait for what it
    /// holds itself, through other handles. Then nothing is held that was not held before.
    pub fn acquire(&self, owner: Owner, timeout: Option<Duration>, waits: &dyn Waits) -> Result<bool> {
        let mut deadline = None;
        loop {
            let call = {
                let mut state = self.state.lock();
                state.of_this_process();
                self.check_open()?;
                if state.again(owner)? {
                    return Ok(true);
                }
                let calls = state.calls + 1;
                fallible::reserve(&mut state.holders, calls, "the holders of a semaphore")?;
                state.calls = calls;
                Call { semaphore: self, epoch: state.epoch, open: state.open }
            };
            if !call.open {
                deadline = deadline.or_else(|| waiting::deadline(timeout));
                if !self.open_here(deadline, waits)? {
                    return Ok(false);
                }
            }
            if let Some(taken) = self.take(&call, owner, timeout, &mut deadline, waits)? {
                return Ok(taken);
            }
        }
    }

    /// The part of [`Semaphore::acquire`] that waits. `None`: begin again.
    fn take(
        &self,
        call: &Call<'_>,
        owner: Owner,
        timeout: Option<Duration>,
        deadline: &mut Deadline,
        waits: &dyn Waits,
    ) -> Result<Option<bool>> {
        let attempt = |at_most| sysv_sem::operate(self.name.id, &[undone(PLACES, -1)], at_most);
        // Mostly there is a place, and no clock need be read.
        let mut taken = attempt(Duration::ZERO).map(|()| Some(Taken::Place));
        if taken.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EAGAIN)) {
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                return Ok(Some(false));
            }
            if timeout.is_none() {
                self.check_others(owner)?;
            }
            *deadline = deadline.or_else(|| waiting::deadline(timeout));
            taken = wait_for(*deadline, waits, &|at_most| {
                if fork::epoch() != call.epoch {
                    return Ok(Taken::Forked);
                }
                if self.is_closed() {
                    return Err(io::Error::from_raw_os_error(libc::EBADF));
                }
                if self.state.lock().again(owner).unwrap_or(false) {
                    return Ok(Taken::Again);
                }
                attempt(at_most).map(|()| Taken::Place)
            })?;
        }
        match taken {
            Err(_) if self.is_closed() => Err(Error::Detached),
            Err(error) => Err(self.name.error(Action::Acquire, error)),
            Ok(None) => Ok(Some(false)),
            Ok(Some(Taken::Again)) => Ok(Some(true)),
            Ok(Some(Taken::Forked)) => Ok(None),
            Ok(Some(Taken::Place)) => {
                let mut state = self.state.lock();
                if self.is_closed() {
                    self.give_back(&mut state, 1);
                    return Err(Error::Detached);
                }
                // There has been room for this since the call began.
                state.holders.push(Holder { owner, depth: 1, known_alone: false });
                Ok(Some(true))
            }
        }
    }

    /// Checks, where no place is free, that not all of them are held by the owner itself, through other handles.
    #[cold]
    fn check_others(&self, owner: Owner) -> Result<()> {
        let held = semaphore_holders::held(self.name.id, owner.thread, owner.greenlet);
        if held < self.max_acquire.into() { Ok(()) } else { Err(self.name.deadlock(held)) }
    }

    /// Gives back what one acquisition took. Returns `false` if the owner holds nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] if somebody else has removed the semaphore; the owner holds it no more.
    pub fn release(&self, owner: Owner) -> Result<bool> {
        let mut state = self.state.lock();
        state.of_this_process();
        let Some(at) = state.holders.iter().position(|holder| holder.owner == owner) else {
            self.check_open()?;
            return Ok(false);
        };
        if state.holders[at].depth > 1 {
            state.holders[at].depth -= 1;
            return Ok(true);
        }
        state.holders.swap_remove(at);
        if self.is_closed() {
            self.give_back(&mut state, 1);
            return Ok(true);
        }
        // SYNC: the mutex is held, so the handle is not given back before the place is.
        match sysv_sem::operate(self.name.id, &[undone(PLACES, 1)], Duration::ZERO) {
            Err(error) if !self.removed.load(Ordering::Relaxed) => Err(self.name.error(Action::Release, error)),
            _ => Ok(true),
        }
    }

    /// How often the owner holds the semaphore through this handle.
    pub fn held(&self, owner: Owner) -> u32 {
        let mut state = self.state.lock();
        state.of_this_process();
        state.holder(owner).map_or(0, |holder| holder.depth)
    }

    /// Returns whether it was noted, since the owner took its place, that no other place was free.
    pub fn is_known_alone(&self, owner: Owner) -> bool {
        let mut state = self.state.lock();
        state.of_this_process();
        state.holder(owner).is_some_and(|holder| holder.known_alone)
    }

    /// Notes that no other place was free after the owner had taken its own.
    pub fn note_alone(&self, owner: Owner) {
        let mut state = self.state.lock();
        state.of_this_process();
        if let Some(holder) = state.holder(owner) {
            holder.known_alone = true;
        }
    }

    /// How many threads of this process hold the semaphore through this handle.
    pub fn holders(&self) -> usize {
        let mut state = self.state.lock();
        state.of_this_process();
        state.holders.len()
    }

    /// The number of free places now.
    pub fn free_places(&self) -> Result<i32> {
        sysv_sem::value(self.name.id, PLACES).map_err(|error| self.name.error(Action::Look, error))
    }

    /// Removes the semaphore. Whoever waits for it, or takes it later, gets an error.
    pub fn remove(&self) -> Result<()> {
        self.check_open()?;
        sysv_sem::remove(self.name.id).map_err(|error| self.name.error(Action::Remove, error))?;
        self.removed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back the handle, and what `owner` holds through it. What other threads hold stays theirs: then the handle is
    /// given back when the last of them has let go. A second call does nothing.
    pub fn close(&self, owner: Owner) {
        let mut state = self.state.lock();
        self.closed.store(true, Ordering::SeqCst);
        state.of_this_process();
        let at = state.holders.iter().position(|holder| holder.owner == owner);
        let place = at.map(|at| state.holders.swap_remove(at)).is_some();
        self.give_back(&mut state, i16::from(place));
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed() { Err(Error::Detached) } else { Ok(()) }
    }

    /// Gives back `places` of a closed handle, and with the last place and the last call the handle itself.
    ///
    /// SYNC: whoever opens next and finds itself alone sets the number of free places, so none may be taken or given
    /// back by a process that is not counted.
    fn give_back(&self, state: &mut State, places: i16) {
        let both = [undone(PLACES, places), undone(HANDLES, -1)];
        let last = state.calls == 0 && state.holders.is_empty() && std::mem::take(&mut state.open);
        let operations = match (places > 0, last) {
            (true, true) => &both[..],
            (true, false) => &both[..1],
            (false, true) => &both[1..],
            (false, false) => return,
        };
        // If somebody has set the count of handles to 0 meanwhile, at least nobody is kept out.
        if sysv_sem::operate(self.name.id, operations, Duration::ZERO).is_err() && places > 0 && last {
            let _ = sysv_sem::operate(self.name.id, &both[..1], Duration::ZERO);
        }
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.of_this_process();
        // Nobody can let go any more.
        let places = state.holders.len() as i16;
        state.holders.clear();
        self.give_back(&mut state, places);
    }
}

/// A call that may take a place: as long as it runs, the handle is not given back.
struct Call<'a> {
    semaphore: &'a Semaphore,
    epoch: u32,
    /// Whether this process was counted when the call began.
    open: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut state = self.semaphore.state.lock();
        // In a forked child, nothing is known of the parent's call.
        if state.epoch == self.epoch && self.epoch == fork::epoch() {
            state.calls -= 1;
            if self.semaphore.is_closed() {
                self.semaphore.give_back(&mut state, 0);
            }
        }
    }
}
