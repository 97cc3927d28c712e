//! A dump: every variable and every item of a queue, as of one instant, while others write.
//!
//! Whatever takes long is written without a lock, in passes over the table. A last pass, under the writer lock,
//! compares versions only: that is the instant. The protocol is "Dumps" in docs/protocol.md.

use crate::coordination::Coordination;
use crate::coordination::queue_dump::{QueueFinds, QueueNotes};
use crate::error::{Error, Result};
use crate::os;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::sleep::Sleep;
use crate::process::wait_policy::{WAIT_LIMIT, WaitPolicy};
use crate::sync::bound;
use crate::variables::dump_locked::{BYTES_MOST, CHANGES_MOST, Compared, DumpFinds};
use crate::variables::dump_log::{DumpLog, DumpWrite};
use crate::variables::dump_pass::DumpNotes;
use crate::variables::leaf::TableOf;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// So few changes in a pass are few enough for the last one.
const FEW: u64 = 1_000;
/// So many passes at most before the last one is tried, and so many tries of that.
const PASSES: u32 = 5;
const TRIES: u32 = 5;
/// So many passes at most between two tries. They write into memory, so each meets what was changed in the short time
/// of the one before.
const PASSES_THEN: u32 = 8;
/// The pause of a dump that cannot keep writers out, between two attempts.
const PAUSE: Duration = Duration::from_millis(1);

/// What a dump has written.
#[derive(Clone, Copy, Debug)]
pub struct Dumped {
    /// Variables.
    pub variables: u64,
    /// Items of queues.
    pub items: u64,
    /// For how long the last pass held the writer lock.
    pub locked: Duration,
    /// How many passes over the table there were, the last one included.
    pub passes: u32,
}

impl Coordination {
    /// Writes everything to `write`, piece by piece, but for the last line of the dump, which has a checksum.
    /// `locking`: the handle may write.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if something is damaged; [`Error::Busy`] if more changes all the time than a dump can catch
    /// up with, or anything while this handle cannot keep writers out; [`Error::Full`] if there is no memory for a
    /// pin; what `write` returns.
    pub fn dump(&self, write: DumpWrite<'_>, locking: bool, policy: &dyn WaitPolicy) -> Result<Dumped> {
        let mut log = DumpLog::new(write, &self.identity.key)?;
        match locking && self.mem.writable() {
            true => self.dump_locking(&mut log, policy),
            false => self.dump_looking(&mut log, policy),
        }
    }

    /// Dumps with a last pass under the writer lock.
    fn dump_locking(&self, log: &mut DumpLog<'_>, policy: &dyn WaitPolicy) -> Result<Dumped> {
        // What is pinned is this process's, so it has to keep its participant number.
        let _call_guard = self.enter_call();
        self.register(policy)?;
        let (mut notes, mut queues, mut passes) = (DumpNotes::default(), QueueNotes::default(), 0);
        let mut pass = |notes: &mut DumpNotes, queues: &mut QueueNotes, log: &mut DumpLog<'_>| -> Result<u64> {
            passes += 1;
            Ok(self.dump_pass(notes, log, policy)? + self.dump_queues(queues, log, policy)?.0)
        };
        let mut quiet = bound::quiet(self.state(), self.mem.intent());
        let mut before = pass(&mut notes, &mut queues, log)?;
        for _ in 1..PASSES {
            // Where nothing has changed since the pass began, that was the last one.
            if quiet.is_some() && quiet == bound::quiet(self.state(), self.mem.intent()) {
                break;
            }
            quiet = bound::quiet(self.state(), self.mem.intent());
            let changed = pass(&mut notes, &mut queues, log)?;
            if changed < FEW || changed > before / 2 {
                break;
            }
            before = changed;
        }
        let (mut vain, mut unpinned, mut looks, mut last) = (0, 0, 0, (0, 0));
        loop {
            // Pins are let go where the writer lock is not held, so what was found is dropped after the lock.
            let (mut finds, mut queue_finds) = (DumpFinds::default(), QueueFinds::default());
            let words = queues.by_word()?;
            looks += 1;
            let writer = self.write(policy)?;
            let (began, now) = (Instant::now(), os::boottime_ns());
            // SYNC: as in `bound::quiet`. Whoever described a change since the last pass began has left another serial
            // number, and this process has the lock after it.
            let compared = match quiet == Some(self.mem.intent().serial.load(Ordering::Relaxed)) {
                true => Compared::Whole,
                false => match self.dump_locked((&notes, log), now, &mut finds)? {
                    Compared::Whole => self.dump_queues_locked((&queues, &words), finds.sizes(), &mut queue_finds)?,
                    other => other,
                },
            };
            // CRASH: the lock, and pins, which are reaped.
            crash_point!("dump-compared");
            let locked = began.elapsed();
            drop(writer);
            if compared == Compared::Whole {
                // What was noted is not needed any more, and may be large.
                drop((notes, queues));
                log.defer(false)?;
                self.dump_finds(finds, log, policy)?;
                self.dump_queue_finds(queue_finds, log, policy)?;
                log.end(now)?;
                return Ok(Dumped { variables: log.variables, items: log.items, locked, passes: passes + looks });
            }
            drop((finds, queue_finds));
            // A value without a pin is written without one, if it stays as long as that takes.
            let is_unpinned = compared == Compared::Unpinned;
            *(if is_unpinned { &mut unpinned } else { &mut vain }) += 1;
            if unpinned > TRIES {
                return Err(self.file_system_full(self.identity.geometry.pin_unit()));
            }
            if vain > TRIES {
                return Err(self.too_much(last));
            }
            log.defer(!is_unpinned)?;
            for number in 0..if is_unpinned { 1 } else { PASSES_THEN } {
                let (before, earlier) = (log.written(), last);
                quiet = bound::quiet(self.state(), self.mem.intent());
                last = (pass(&mut notes, &mut queues, log)?, log.written() - before);
                let is_little = last.0 < CHANGES_MOST as u64 / 4 && last.1 < BYTES_MOST as u64 / 4;
                if is_little || (number > 0 && last.0 > earlier.0 / 2 && last.1 > earlier.1 / 2) {
                    break;
                }
            }
        }
    }

    /// The error of a dump that did not catch up with those who write.
    #[cold]
    fn too_much(&self, (changed, bytes): (u64, u64)) -> Error {
        let (key, mib, most) = (&self.identity.key, bytes.div_ceil(1 << 20), BYTES_MOST >> 20);
        Error::Busy(format!(
            "key {key}: others change more than a dump can catch up with: {changed} variables and items ({mib} MiB) \
             while it looked at all of them once; at most {CHANGES_MOST} ({most} MiB) are copied while writers wait: \
             let some of those who write pause, or dump when less is changed"
        ))
    }

    /// Dumps through a handle that may not write: two passes in which nothing is different prove that all of it was so
    /// in between.
    fn dump_looking(&self, log: &mut DumpLog<'_>, policy: &dyn WaitPolicy) -> Result<Dumped> {
        let (mut notes, mut queues, mut backoff) = (DumpNotes::default(), QueueNotes::default(), Backoff::default());
        let (mut passes, mut began) = (0, None);
        loop {
            let quiet = bound::quiet(self.state(), self.mem.intent());
            let many = self.state().many.load(Ordering::Acquire);
            if !many.is_multiple_of(2) {
                backoff.again(Obstacle::HalfMadeBatch, self, policy)?;
                continue;
            }
            // With its rounds: where they are the same, no slot's count of moves went round.
            let root = self.root_word(TableOf::Variables).load(Ordering::Acquire);
            self.dump_pass(&mut notes, log, policy)?;
            let (sum, queued) = (self.names_sum(policy)?, self.state().queued.load(Ordering::Acquire));
            let (_, whole) = self.dump_queues(&mut queues, log, policy)?;
            let one_instant = whole && (self.names_sum(policy)? == sum || (queued == 0 && queues.is_empty()));
            let now = os::boottime_ns();
            let still = quiet.is_some() && whole && quiet == bound::quiet(self.state(), self.mem.intent());
            let changed = if still { 0 } else { self.dump_pass(&mut notes, log, policy)? };
            passes += 2;
            // SYNC: as in `get_many`: who saw a slot of a batch sees that `many` has changed.
            fence(Ordering::Acquire);
            let same = self.state().many.load(Ordering::Relaxed) == many
                && self.root_word(TableOf::Variables).load(Ordering::Relaxed) == root;
            if changed == 0 && (still || one_instant) && same {
                log.end(now)?;
                let (variables, items) = (log.variables, log.items);
                return Ok(Dumped { variables, items, locked: Duration::ZERO, passes });
            }
            if began.get_or_insert_with(Instant::now).elapsed() >= WAIT_LIMIT {
                let (key, seconds) = (&self.identity.key, WAIT_LIMIT.as_secs());
                return Err(Error::Busy(format!(
                    "key {key}: the segment was changed in each of {passes} passes over it, for {seconds} s: dump it \
                     through a handle that may write, which can keep writers out for a moment"
                )));
            }
            policy.sleep(&Sleep::pause(PAUSE).short());
            policy.interrupted()?;
        }
    }
}
