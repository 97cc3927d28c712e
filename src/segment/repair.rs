//! Repairing on request what dead processes left: in a segment, what the next call that meets it would repair anyway;
//! beside the segments, stale objects. Protocols: docs/protocol.md, "Death", "Stale objects". How a dead process is
//! reaped is in `process/reaping.rs`.

use crate::error::{Error, Result};
use crate::format::PARTICIPANTS;
use crate::format::identity::LOCK_OBJECT_PREFIX;
use crate::os::lease::is_open_only_here;
use crate::os::object::{self, TEMPORARY_PREFIX};
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::segment::handle::Segment;
use crate::segment::orphan::lock_objects_named;
use std::sync::atomic::Ordering;

impl Segment {
    /// Finishes or drops the change of a dead writer, reaps every dead participant, and frees what nobody uses any
    /// more. Returns how many participants were reaped.
    pub fn repair(&self, policy: &dyn WaitPolicy) -> Result<u64> {
        repair(&*self.for_change()?, policy)
    }
}

fn repair(att: &Attachment, policy: &dyn WaitPolicy) -> Result<u64> {
    let _call = att.enter_call();
    let before = count_dead(att)?;
    att.reap_the_dead(policy)?;
    // Taking the writer lock, as this does, repairs what was under way.
    att.sweep(policy)?;
    Ok(before.saturating_sub(count_dead(att)?))
}

/// How many participants have died and are not reaped yet.
fn count_dead(att: &Attachment) -> Result<u64> {
    let mut dead = 0;
    for number in 0..att.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS) {
        let used = || att.participant(number).is_some_and(|p| p.state.load(Ordering::Acquire) == 1);
        dead += u64::from(used() && att.died(number, used)?);
    }
    Ok(dead)
}

/// Why a stale object is not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepReason {
    /// This user cannot open it.
    Closed,
    /// It belongs to another user, or is none of our objects.
    Foreign,
    /// It was changed lately: its maker may still be at work.
    Young,
    /// A segment names it; or one that cannot be read might.
    Named,
    /// A process has it open.
    Open,
    /// The system does not say whether a process has it open.
    Unknown,
    /// Its name means another object by now.
    Replaced,
}

impl KeepReason {
    /// The reason as a word, for programs.
    pub fn code(self) -> &'static str {
        match self {
            KeepReason::Closed => "closed",
            KeepReason::Foreign => "foreign",
            KeepReason::Young => "young",
            KeepReason::Named => "named",
            KeepReason::Open => "open",
            KeepReason::Unknown => "unknown",
            KeepReason::Replaced => "replaced",
        }
    }

    /// The reason as a text, for people.
    pub fn text(self) -> &'static str {
        match self {
            KeepReason::Closed => "it cannot be opened",
            KeepReason::Foreign => "it belongs to another user, or is none of our objects",
            KeepReason::Young => "it is young: its maker may still be at work",
            KeepReason::Named => "a segment that cannot be read may name it",
            KeepReason::Open => "a process has it open",
            KeepReason::Unknown => "this system does not say whether a process has it open",
            KeepReason::Replaced => "its name means another object by now",
        }
    }
}

/// Removes a lock object that no segment names, or a temporary object, if that is safe. Returns the reason if it is
/// not. If `look`, nothing is removed in any case.
pub fn remove_stale(name: &str, age_ns: u64, look: bool) -> Result<Option<KeepReason>> {
    if !name.starts_with(LOCK_OBJECT_PREFIX) && !name.starts_with(TEMPORARY_PREFIX) {
        return Err(Error::Invalid(format!("{name} is neither a lock object nor a temporary one")));
    }
    let Ok(fd) = object::open(name, true).or_else(|_| object::open(name, false)) else {
        return Ok(Some(KeepReason::Closed));
    };
    let status = object::status(&fd).map_err(|e| Error::system("fstat", e))?;
    let me = crate::os::euid();
    if !status.regular || status.nlink != 1 || (status.uid != me && me != 0) {
        return Ok(Some(KeepReason::Foreign));
    }
    // The age comes first: asking for a lease, below, is something that a process about to open the object could
    // notice.
    if crate::os::unix_ns().saturating_sub(status.changed_at) < age_ns {
        return Ok(Some(KeepReason::Young));
    }
    if is_named(name, status.uid) {
        return Ok(Some(KeepReason::Named));
    }
    match is_open_only_here(&fd) {
        Some(true) => {}
        Some(false) => return Ok(Some(KeepReason::Open)),
        None => return Ok(Some(KeepReason::Unknown)),
    }
    // Asked once more, after the lease: a maker that closed the object just before has published its segment by now.
    if is_named(name, status.uid) {
        return Ok(Some(KeepReason::Named));
    }
    match object::status_of(name) {
        Ok(now) if now.is_same_object(&status) => {}
        _ => return Ok(Some(KeepReason::Replaced)),
    }
    if !look {
        object::unlink(name).map_err(|e| Error::system(format!("unlinking {}/{name}", object::DIR), e))?;
    }
    Ok(None)
}

/// Does a segment name this lock object, or might one of the same owner that cannot be read?
fn is_named(name: &str, uid: u32) -> bool {
    name.starts_with(LOCK_OBJECT_PREFIX) && lock_objects_named(uid).is_none_or(|named| named.contains(name))
}
