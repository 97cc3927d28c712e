//! Holding the writer lock: taking it, over the dead if need be; repairing; committing.
//!
//! A [`Writer`] never leaves one call of this crate. No user code, no interpreter, nothing that can fail between a valid
//! intent and its clearing.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::os::futex;
use crate::process::attachment::{Attachment, CallGuard};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::intent::{Change, Counters};
use crate::sync::lock_word;
use std::sync::OnceLock;
use std::sync::atomic::{Ordering, fence};

/// How much is done to bring free memory together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// The table that was replaced last is taken apart.
    Dismantle,
    /// Free memory is given back to the system, and slabs that are mostly empty are merged.
    Trim,
    /// Large values are moved towards the beginning.
    Defragment,
}

/// Calls up, each at a point where a lower floor meets something that only a higher one understands.
pub trait FloorsAbove: Sync {
    /// The writer lock was taken, and a batch had begun that nobody has ended: brings it to its end.
    fn finish_batch(&self, writer: &mut Writer<'_>) -> Result<()>;

    /// The writer lock was taken: releases named locks whose holders in this process could not.
    fn release_abandoned_locks(&self, writer: &mut Writer<'_>) -> Result<()>;

    /// Hands on, or releases, the named locks of a dead participant, a leaf of the names at a time: those of the leaf of this
    /// hash. The hash of the next leaf; `None`: these were the last.
    fn reap_locks(&self, writer: &mut Writer<'_>, number: u32, hash: u64) -> Result<Option<u64>>;

    /// A table was replaced and is not taken apart: does a little of it.
    fn dismantle_some(&self, writer: &mut Writer<'_>) -> Result<()>;

    /// Memory is short: removes what has expired, and gives back what is free.
    fn make_room(&self, att: &Attachment, policy: &dyn WaitPolicy) -> Result<()>;

    /// Free memory lies in pieces that are too short: brings it together.
    fn tidy(&self, att: &Attachment, effort: Effort, policy: &dyn WaitPolicy) -> Result<()>;
}

static ABOVE: OnceLock<&'static dyn FloorsAbove> = OnceLock::new();

/// Says who answers the calls up: once, before the first segment is attached.
pub fn set_above(floors: &'static dyn FloorsAbove) {
    ABOVE.get_or_init(|| floors);
}

/// Who answers the calls up.
pub fn above() -> &'static dyn FloorsAbove {
    *ABOVE.get().expect("set before the first segment is attached")
}

/// The writer lock, held until dropped.
pub struct Writer<'a> {
    /// Of what.
    pub att: &'a Attachment,
    /// Our participant number.
    pub me: u32,
    /// All zones in use are mapped: a change finds everything. Else each change is looked at before.
    pub mapped: bool,
    _inside: CallGuard<'a>,
}

impl<'a> Writer<'a> {
    /// The lock word is ours: make sure that nothing is half done.
    #[inline(always)]
    pub fn ready(att: &'a Attachment, me: u32, inside: CallGuard<'a>) -> Result<Self> {
        let mut writer = Writer { att, me, mapped: true, _inside: inside };
        crash_point!("lock-taken");
        // CRASH: the lock is a dead owner's, with or without a change to repair.
        // SYNC: with the readers' acquire fences: who sees a byte that we write from here on sees what came before it.
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

    /// The same where not all can be mapped: nothing may be half done then.
    #[cold]
    pub fn ready_unmapped(att: &'a Attachment, me: u32, inside: CallGuard<'a>) -> Result<Self> {
        let writer = Writer { att, me, mapped: false, _inside: inside };
        // SYNC: as in `ready`.
        fence(Ordering::Release);
        let nothing =
            att.mem.intent().valid.load(Ordering::Relaxed) == 0 && att.state().batch.load(Ordering::Relaxed) == 0;
        let again =
            || Error::Busy(format!("{}: a change that was interrupted is put right first: try again", att.object.name));
        if nothing { Ok(writer) } else { Err(att.map_zones().err().unwrap_or_else(again)) }
    }

    /// The arena.
    #[inline(always)]
    pub fn arena(&self) -> Arena<'a> {
        self.att.arena()
    }

    /// A change that changes nothing yet.
    #[inline]
    pub fn change(&self) -> Change {
        Change::new(Counters::read(self.att.state()))
    }
}

/// Lets the writer lock go and wakes one who waits for it.
fn release(att: &Attachment) {
    let word = &att.state().lock;
    let waited_for = lock_word::release(word);
    crash_point!("lock-released");
    // CRASH: the sleepers look again after a slice.
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
    /// The lock stays ours: the caller goes on with it.
    pub fn leave_locked(self) {
        // He is counted in himself.
        self.att.registration.active.fetch_sub(1, Ordering::SeqCst);
        std::mem::forget(self);
    }
}
