//! [`Writer`]: the writer lock, held. This file makes sure that nothing is half done when the lock was acquired, and
//! releases the lock. Acquiring it stands in `writer_acquire.rs`, making a change under it in `commit.rs`. The protocol
//! is "The writer lock" in `docs/protocol.md`.
//!
//! A [`Writer`] never outlives the call of this crate that made it. No user code runs under it, no interpreter is
//! waited for, and nothing can fail between the moment at which an intent becomes valid and the moment at which it is
//! cleared.
//!
//! Some steps at an acquisition need what only a higher floor understands (a batch, named locks). [`FloorsAbove`] lists
//! them.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::os::futex;
use crate::process::attachment::Attachment;
use crate::process::call_guard::CallGuard;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::intent::{Change, Counters};
use crate::sync::lock_word;
use std::sync::OnceLock;
use std::sync::atomic::{Ordering, fence};

/// How much work [`FloorsAbove::compact`] may do to bring free memory together, from little to much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Take apart the table that was replaced last.
    Dismantle,
    /// Give free memory back to the system, and merge slabs that are mostly empty.
    Trim,
    /// Move large values towards the beginning of the arena.
    Defragment,
}

/// Calls from this floor, and from the heap, to a floor above. An import may only point down (`tools/floors.py` checks
/// it), but at a few points a lower floor meets something that only a higher one understands. There it calls this
/// trait, whose one implementation, `coordination/above.rs`, is handed in through [`set_above`].
pub trait FloorsAbove: Sync {
    /// Finishes the batch that the process which acquired the writer lock has found begun and not ended.
    fn finish_batch(&self, writer: &mut Writer<'_>) -> Result<()>;

    /// Releases named locks of this process whose owners could not release them. Called after the writer lock was
    /// acquired.
    fn release_abandoned_locks(&self, writer: &mut Writer<'_>) -> Result<()>;

    /// Hands on, or releases, the named locks of dead participant `number`, one leaf of the names at a time: those in
    /// the leaf of `hash`. Returns the hash at which the next leaf begins. `None`: this was the last leaf.
    fn reap_locks(&self, writer: &mut Writer<'_>, number: u32, hash: u64) -> Result<Option<u64>>;

    /// Takes apart a little of the table that was replaced. Called while some of it is left.
    fn dismantle_some(&self, writer: &mut Writer<'_>) -> Result<()>;

    /// Removes what has expired and gives free memory back to the system. Called when memory is short.
    fn reclaim_memory(&self, att: &Attachment, policy: &dyn WaitPolicy) -> Result<()>;

    /// Brings free memory together. Called when no run of free granules is long enough.
    fn compact(&self, att: &Attachment, effort: Effort, policy: &dyn WaitPolicy) -> Result<()>;
}

static ABOVE: OnceLock<&'static dyn FloorsAbove> = OnceLock::new();

/// Sets what answers the calls to the floors above. Called before the first segment is attached; later calls have no
/// effect.
pub fn set_above(floors: &'static dyn FloorsAbove) {
    ABOVE.get_or_init(|| floors);
}

/// Returns what answers the calls to the floors above.
pub fn above() -> &'static dyn FloorsAbove {
    *ABOVE.get().expect("set before the first segment is attached")
}

/// Private to the process: the writer lock, held until this is dropped.
pub struct Writer<'a> {
    /// The attachment whose writer lock is held.
    pub att: &'a Attachment,
    /// The participant number of this process, which the lock word names.
    pub number: u32,
    /// Whether all zones in use are mapped, so that a change finds everything it touches. If not, each change maps what
    /// it touches before it begins.
    pub mapped: bool,
    _call: CallGuard<'a>,
}

impl<'a> Writer<'a> {
    /// Makes a writer of a lock word that names this process, after making sure that nothing is half done: maps all
    /// zones in use, applies a valid intent, finishes a batch, and frees deferred spans.
    #[inline(always)]
    pub fn ready(att: &'a Attachment, number: u32, call: CallGuard<'a>) -> Result<Self> {
        let mut writer = Writer { att, number, mapped: true, _call: call };
        crash_point!("lock-taken");
        // CRASH: the lock is a dead owner's, with or without a change to repair.
        // SYNC: with the readers' acquire fences. A reader that sees a byte which is written from here on also sees
        // what was stored before this fence.
        fence(Ordering::Release);
        att.map_zones()?;
        if att.mem.intent().valid.load(Ordering::Relaxed) != 0 {
            writer.repair()?;
        }
        if att.state().batch.load(Ordering::Relaxed) != 0 {
            above().finish_batch(&mut writer)?;
        }
        if att.deferred.any.load(Ordering::Relaxed) {
            writer.free_deferred()?;
        }
        Ok(writer)
    }

    /// Makes a writer of a lock word that names this process, where not all zones can be mapped. Nothing may be half
    /// done then: an error says that it is.
    #[cold]
    pub fn ready_unmapped(att: &'a Attachment, number: u32, call: CallGuard<'a>) -> Result<Self> {
        let writer = Writer { att, number, mapped: false, _call: call };
        // SYNC: as in `ready`.
        fence(Ordering::Release);
        let nothing_half_done =
            att.mem.intent().valid.load(Ordering::Relaxed) == 0 && att.state().batch.load(Ordering::Relaxed) == 0;
        let try_again = || {
            Error::Busy(format!("{}: a change that was interrupted must be repaired first: try again", att.object.name))
        };
        if nothing_half_done { Ok(writer) } else { Err(att.map_zones().err().unwrap_or_else(try_again)) }
    }

    /// Returns the arena of the segment.
    #[inline(always)]
    pub fn arena(&self) -> Arena<'a> {
        self.att.arena()
    }

    /// Returns a change that changes nothing yet: it has the counters as they are now.
    #[inline]
    pub fn change(&self) -> Change {
        Change::new(Counters::read(self.att.state()))
    }
}

/// Releases the writer lock and wakes one waiter.
fn release(att: &Attachment) {
    let word = &att.state().lock;
    let waited_for = lock_word::release(word);
    crash_point!("lock-released");
    // CRASH: no waiter is woken; each looks again after its slice.
    if waited_for {
        futex::wake(word, 1);
    }
}

impl Drop for Writer<'_> {
    #[inline]
    fn drop(&mut self) {
        release(self.att);
        if self.att.after_release.due.load(Ordering::Relaxed) {
            self.att.after_release.due.store(false, Ordering::Relaxed);
            self.att.notify_all();
            self.att.continue_reaping();
        }
    }
}

impl Writer<'_> {
    /// Drops the writer without releasing the lock: the caller goes on with it.
    pub fn leave_locked(self) {
        // The caller has a call guard of its own, so the number stays in use.
        self.att.registration.active.fetch_sub(1, Ordering::SeqCst);
        std::mem::forget(self);
    }
}
