//! Waiting for the writer lock: in slices, with an end, over the dead.

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

/// A waiter looks again this often.
const SLICE: Duration = Duration::from_millis(20);
/// A batch that moves on is waited for so long: whoever may write to the segment can make it look as if it did.
const PATIENCE_WITH_BATCH: Duration = Duration::from_secs(if cfg!(test) { 11 } else { 60 });

/// Waiting for the writer lock.
pub struct Waiter<'a> {
    att: &'a Attachment,
    me: u32,
    policy: &'a dyn WaitPolicy,
    registry: Option<&'a RegistryLock>,
    began: Instant,
    /// Of the batch under way: while it moves on, nobody stands still.
    cursor: u64,
    /// When that moved last.
    moved: Instant,
    /// Of the process that began to wait.
    epoch: u32,
}

impl<'a> Waiter<'a> {
    /// From now on.
    pub fn new(
        att: &'a Attachment,
        me: u32,
        policy: &'a dyn WaitPolicy,
        registry: Option<&'a RegistryLock>,
        epoch: u32,
    ) -> Self {
        let now = Instant::now();
        Waiter { att, me, policy, registry, began: now, cursor: 0, moved: now, epoch }
    }
}

/// Why waiting ended without the lock.
pub enum Stop {
    /// This process is a child that a signal handler forked meanwhile.
    Forked,
    /// With this error.
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

impl Waiting for Waiter<'_> {
    type Stop = Stop;

    fn sleep(&mut self, word: &AtomicU32, value: u32) -> std::result::Result<(), Stop> {
        self.policy.sleep(&Sleep::on(word, value, SLICE).short());
        self.policy.interrupted()?;
        if self.epoch != fork::epoch() {
            return Err(Stop::Forked);
        }
        let cursor = self.att.state().cursor.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.cursor, cursor) != cursor {
            self.moved = Instant::now();
        }
        let waited = self.began.elapsed();
        if self.moved.elapsed() < WAIT_LIMIT && waited < PATIENCE_WITH_BATCH {
            return Ok(());
        }
        let owner = lock_word::owner(word.load(Ordering::Relaxed));
        let pid = owner.and_then(|n| self.att.participant(n)).map_or(0, |p| p.pid.load(Ordering::Relaxed));
        let who = if pid == 0 { "a process".into() } else { format!("process {pid}") };
        Err(Stop::Error(Error::Busy(format!(
            "{}: the writer lock was not to be had for {} s; {who}, which lives, has it now (is it stopped? SIGSTOP, a \
             debugger): let it go on or end it",
            self.att.object.name,
            waited.as_secs()
        ))))
    }

    fn take_over(&mut self, owner: u32) -> std::result::Result<bool, Stop> {
        let alive = |owner| if owner < PARTICIPANTS { self.att.alive(owner) } else { Ok(false) };
        if alive(owner)? {
            return Ok(false);
        }
        let fresh;
        let registry = match self.registry {
            Some(registry) => registry,
            None => {
                fresh = self.att.registry(self.policy)?;
                &fresh
            }
        };
        // Before it is ours: what cannot be mapped cannot be repaired, and is left to others.
        self.att.map_zones()?;
        // Asked again: until we held the registry lock the number may have been reaped and claimed by a living process.
        if alive(owner)? || !lock_word::take_from(&self.att.state().lock, owner, self.me) {
            return Ok(false);
        }
        crash_point!("taken-over");
        // CRASH: the word names us, the intent stands: the next one does the same with us.
        let mut writer = Writer::ready(self.att, self.me, self.att.enter_call())?;
        // Damage there is not the caller's.
        let _ = writer.recount_retired();
        let mut reaping = self.att.reaping_of(owner);
        let reaped = owner >= PARTICIPANTS || writer.reap_some(&mut reaping)?;
        // He may have died between a change and the wake for it.
        self.att.after_release.due.store(true, Ordering::Relaxed);
        let _ = registry;
        writer.leave_locked();
        if !reaped {
            // The rest of it once the lock is let go: whoever took it over wants it now.
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
    fn who_holds_the_lock_and_makes_a_batch_move_on_for_ever_is_not_waited_for_without_end() {
        let key = crate::key::Key::text(&format!("writer-wait-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        let (att, began) = (segment.attachment().unwrap(), Instant::now());
        let writer = att.write(&Blocking).unwrap();
        let refused = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| att.write(&Blocking).map(drop));
            while !waiting.is_finished() && began.elapsed() < 3 * PATIENCE_WITH_BATCH {
                att.state().cursor.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
            att.state().cursor.store(0, Ordering::Relaxed);
            drop(writer);
            waiting.join().unwrap()
        });
        assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
        assert!(began.elapsed() > WAIT_LIMIT, "while a batch moves on, nobody stands still");
        segment.destroy().unwrap();
    }
}
