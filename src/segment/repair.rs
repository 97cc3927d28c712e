//! Putting right what the dead left, for whoever asks: what others would do when they meet it.

use crate::error::{Error, Result};
use crate::format::PARTICIPANTS;
use crate::format::identity::LOCK_OBJECT_PREFIX;
use crate::os::lease::is_open_only_here;
use crate::os::object::{self, TEMPORARY_PREFIX};
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::segment::Segment;
use crate::segment::orphan::named;
use std::sync::atomic::Ordering;

impl Segment {
    /// Finishes or drops a dead writer's change, reaps every dead participant, frees what nobody uses any more. How many
    /// were reaped.
    pub fn repair(&self, policy: &dyn WaitPolicy) -> Result<u64> {
        repair(&*self.for_change()?, policy)
    }
}

fn repair(att: &Attachment, policy: &dyn WaitPolicy) -> Result<u64> {
    let _inside = att.enter_call();
    let before = dead(att)?;
    att.reap_the_dead(policy)?;
    // Whoever holds the writer lock has repaired what was under way.
    att.sweep(policy)?;
    Ok(before.saturating_sub(dead(att)?))
}

fn dead(att: &Attachment) -> Result<u64> {
    let mut dead = 0;
    for number in 0..att.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS) {
        let used = || att.participant(number).is_some_and(|p| p.state.load(Ordering::Acquire) == 1);
        dead += u64::from(used() && att.died(number, used)?);
    }
    Ok(dead)
}

/// Why a stale object is not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// This user may not open it.
    Closed,
    /// Another user's, or no object of ours.
    Foreign,
    /// Its maker may be at work.
    Young,
    /// A segment that cannot be read as one has its id, or might.
    Named,
    /// Somebody has it open.
    Open,
    /// The system does not say whether anybody has.
    Unknown,
    /// Its name means another object by now.
    Replaced,
}

impl Stays {
    /// For programs.
    pub fn code(self) -> &'static str {
        match self {
            Stays::Closed => "closed",
            Stays::Foreign => "foreign",
            Stays::Young => "young",
            Stays::Named => "named",
            Stays::Open => "open",
            Stays::Unknown => "unknown",
            Stays::Replaced => "replaced",
        }
    }

    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Stays::Closed => "it cannot be opened",
            Stays::Foreign => "it is another user's, or none of ours",
            Stays::Young => "it is young: its maker may be at work",
            Stays::Named => "a segment that cannot be read may name it",
            Stays::Open => "a process has it open",
            Stays::Unknown => "this system does not say whether a process has it open",
            Stays::Replaced => "it is another one by now",
        }
    }
}

/// Removes a lock object that no segment names, or a temporary one, if that is safe: docs/protocol.md, "Stale objects".
/// `Some`: why it stays. With `look`, it stays in any case.
pub fn remove_stale(name: &str, age_ns: u64, look: bool) -> Result<Option<Stays>> {
    if !name.starts_with(LOCK_OBJECT_PREFIX) && !name.starts_with(TEMPORARY_PREFIX) {
        return Err(Error::Invalid(format!("{name} is neither a lock object nor a temporary one")));
    }
    let Ok(fd) = object::open(name, true).or_else(|_| object::open(name, false)) else {
        return Ok(Some(Stays::Closed));
    };
    let status = object::status(&fd).map_err(|e| Error::system("fstat", e))?;
    let me = crate::os::euid();
    if !status.regular || status.nlink != 1 || (status.uid != me && me != 0) {
        return Ok(Some(Stays::Foreign));
    }
    // Before anything is asked of the kernel that an opener could notice.
    if crate::os::unix_ns().saturating_sub(status.changed_at) < age_ns {
        return Ok(Some(Stays::Young));
    }
    if is_named(name, status.uid) {
        return Ok(Some(Stays::Named));
    }
    match is_open_only_here(&fd) {
        Some(true) => {}
        Some(false) => return Ok(Some(Stays::Open)),
        None => return Ok(Some(Stays::Unknown)),
    }
    // In this order: a maker that had it open until just now has published its segment.
    if is_named(name, status.uid) {
        return Ok(Some(Stays::Named));
    }
    match object::status_of(name) {
        Ok(now) if now.is_same_object(&status) => {}
        _ => return Ok(Some(Stays::Replaced)),
    }
    if !look {
        object::unlink(name).map_err(|e| Error::system(format!("unlinking {}/{name}", object::DIR), e))?;
    }
    Ok(None)
}

/// Does a segment name this lock object, or could one of the same owner that cannot be read?
fn is_named(name: &str, uid: u32) -> bool {
    name.starts_with(LOCK_OBJECT_PREFIX) && named(uid).is_none_or(|named| named.contains(name))
}
