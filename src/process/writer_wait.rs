//! Waiting for the writer lock: in slices, for a limited time, and taking the lock over from a dead owner. The protocol
//! is "The writer lock" in `docs/protocol.md`.

use crate::error::Error;
use crate::format::PARTICIPANTS;
use crate::os::fork;
use crate::process::attachment::Attachment;
use crate::process::registry_lock::RegistryLock;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::{WAIT_LIMIT, WaitPolicy};
use crate::process::writer::Writer;
use crate::sync::lock_word::{self, Waiting};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a waiter sleeps before it looks at the owner again.
const SLEEP_SLICE: Duration = Duration::from_millis(20);
/// How long a waiter waits in all while a batch moves on. A hostile writer could move the cursor of a batch
/// for ever; this limit ends the wait all the same.
const BATCH_WAIT_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 11 } else { 60 });

/// Private to the process: one wait for the writer lock.
pub struct Waiter<'a> {
    att: &'a Attachment,
    /// The participant number of this process.
    number: u32,
    policy: &'a dyn WaitPolicy,
    /// The registry lock, if the caller holds it already.
    registry: Option<&'a RegistryLock>,
    began: Instant,
    /// The cursor of the batch under way, as last seen. While it moves, the owner of the lock makes progress.
    cursor: u64,
    /// When the cursor was last seen to move.
    moved: Instant,
    /// The epoch of the process that began to wait.
    epoch: u32,
}

impl<'a> Waiter<'a> {
    /// Begins to wait: the time counts from now on.
    pub fn new(
        att: &'a Attachment,
        number: u32,
        policy: &'a dyn WaitPolicy,
        registry: Option<&'a RegistryLock>,
        epoch: u32,
    ) -> Self {
        let now = Instant::now();
        Waiter { att, number, policy, registry, began: now, cursor: 0, moved: now, epoch }
    }
}

/// Why a wait for the writer lock ended without the lock.
pub enum WaitingEnded {
    /// This process is a child that a signal handler forked meanwhile.
    Forked,
    /// The call is to end with this error.
    Error(Error),
}

impl From<Error> for WaitingEnded {
    fn from(error: Error) -> Self {
        WaitingEnded::Error(error)
    }
}

impl Waiting for Waiter<'_> {
    type Stop = WaitingEnded;

    fn sleep(&mut self, word: &AtomicU32, value: u32) -> std::result::Result<(), WaitingEnded> {
        self.policy.sleep(&Sleep::on(word, value, SLEEP_SLICE).short());
        self.policy.interrupted()?;
        if self.epoch != fork::epoch() {
            return Err(WaitingEnded::Forked);
        }
        let cursor = self.att.state().cursor.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.cursor, cursor) != cursor {
            self.moved = Instant::now();
        }
        let waited = self.began.elapsed();
        if self.moved.elapsed() < WAIT_LIMIT && waited < BATCH_WAIT_LIMIT {
            return Ok(());
        }
        let owner = lock_word::owner(word.load(Ordering::Relaxed));
        let pid = owner.and_then(|n| self.att.participant(n)).map_or(0, |p| p.pid.load(Ordering::Relaxed));
        let process = if pid == 0 { "a process".into() } else { format!("process {pid}") };
        Err(WaitingEnded::Error(Error::Busy(format!(
            "{}: the writer lock could not be acquired for {} s; {process} holds it now and is alive (is it \
             stopped? SIGSTOP, a debugger): let it go on or end it",
            self.att.object.name,
            waited.as_secs()
        ))))
    }

    fn take_over(&mut self, owner: u32) -> std::result::Result<bool, WaitingEnded> {
        let alive = |owner| if owner < PARTICIPANTS { self.att.alive(owner) } else { Ok(false) };
        if alive(owner)? {
            return Ok(false);
        }
        // The registry lock is held until the end of this function.
        let _registry = match self.registry {
            Some(_) => None,
            None => Some(self.att.registry(self.policy)?),
        };
        // All zones are mapped before the lock is this process's. If that fails, this process could not repair, and the
        // lock is left to another process.
        self.att.map_zones()?;
        // The owner is asked for again: before the registry lock was held, the number may have been reaped and claimed
        // by a living process.
        if alive(owner)? || !lock_word::take_from(&self.att.state().lock, owner, self.number) {
            return Ok(false);
        }
        crash_point!("taken-over");
        // CRASH: the word names this process, and the intent stands: the next waiter does the same with this process.
        let mut writer = Writer::ready(self.att, self.number, self.att.enter_call())?;
        // Damage that the recount finds is not the caller's concern.
        let _ = writer.recount_retired();
        let mut reaping = self.att.reaping_of(owner);
        let reaped = owner >= PARTICIPANTS || writer.reap_some(&mut reaping)?;
        // The dead owner may have died between a change and the wake for it.
        self.att.after_release.due.store(true, Ordering::Relaxed);
        writer.leave_locked();
        if !reaped {
            // The rest of the reaping is done after the lock was released: the caller took it over because it wants it
            // now.
            self.att.reap_later(reaping);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::wait_policy::Blocking;

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn a_wait_for_an_owner_that_makes_a_batch_move_on_for_ever_ends() {
        let key = crate::key::Key::text(&format!("writer-wait-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        let (att, began) = (segment.attachment().unwrap(), Instant::now());
        let writer = att.write(&Blocking).unwrap();
        let refused = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| att.write(&Blocking).map(drop));
            while !waiting.is_finished() && began.elapsed() < 3 * BATCH_WAIT_LIMIT {
                att.state().cursor.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
            att.state().cursor.store(0, Ordering::Relaxed);
            drop(writer);
            waiting.join().unwrap()
        });
        assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
        assert!(began.elapsed() > WAIT_LIMIT, "while a batch moves on, the usual limit does not count");
        segment.destroy().unwrap();
    }
}
