//! The self-check: every invariant of docs/format.md, one condition a line, named by its number there.

mod arena;
mod closing;
mod copy;
mod named;
mod slices;
mod table;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::identity::Identity;
use crate::format::{GRANULE, IDENTITY_LEN, PARTICIPANTS, PIN_UNITS, Participant, VERSION_MAX, ZONE, ZONE_META, at};
use crate::os::object::{self, Status};
use crate::process::attachment::Attachment;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::{WAIT_LIMIT, WaitPolicy};
use crate::segment::check::copy::private_copy;
use crate::segment::check::slices::check_in_slices;
use crate::segment::check::slices::{Check, HOLD};
use crate::sync::lock_word;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// What a check counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Report {
    /// Variables.
    pub variables: u64,
    /// Bytes charged.
    pub used: u64,
    /// Named locks that are held.
    pub locks: u64,
    /// Slots of the tables.
    pub slots: u64,
    /// Slots in which a variable was.
    pub tombstones: u64,
    /// Zones in use.
    pub zones: u64,
    /// Slabs, and their blocks in use.
    pub slabs: u64,
    /// See above.
    pub blocks: u64,
    /// Spans that hold a value.
    pub live: u64,
    /// Spans that somebody is filling or freeing.
    pub busy: u64,
    /// Spans that are retired but pinned.
    pub retired: u64,
    /// Granules that are free.
    pub free: u64,
    /// Participants that live.
    pub living: u64,
    /// Participants that died and are not reaped yet.
    pub dead: u64,
    /// What could not be told because others changed it at each look: sums, and what was in use without its owner being met.
    pub undecided: u64,
}

macro_rules! hold {
    ($condition:expr, $invariant:literal, $($text:tt)*) => {
        if !$condition {
            return Err($crate::error::Error::corrupt(format_args!(
                concat!("invariant ", $invariant, ": {}"), format_args!($($text)*)
            )));
        }
    };
}
use hold;

/// What is collected is called so where there is no memory for it.
const NAMED: &str = "the lists of a check";

/// Verifies every invariant. With `write`, in slices of the writer lock, which repair first what a dead owner left; else
/// without, again and again until nobody changed anything meanwhile.
pub fn check(att: &Attachment, write: bool, policy: &dyn WaitPolicy) -> Result<Report> {
    // Before anything is touched: an object that was cut short is an error.
    att.with_file(|_| ())?;
    if write {
        check_unlocked_intent(att)?;
        return check_in_slices(att, HOLD, policy).map(|(report, _)| report);
    }
    let began = Instant::now();
    loop {
        // SYNC: with the release fences of `describe`: a store of a later change that `verify` saw is followed by the
        // sight of that change's serial, or of the lock held for it.
        let before = quiet(att)?;
        fence(Ordering::Acquire);
        let verified = private_copy(att).and_then(|copy| verify_outside(&copy, att, policy));
        fence(Ordering::Acquire);
        if before.is_some() && before == quiet(att)? {
            return verified;
        }
        if began.elapsed() > WAIT_LIMIT {
            return Err(Error::Busy(format!(
                "{}: others changed it each time it was checked, for {} s: check it through a handle that may write",
                att.object.name,
                WAIT_LIMIT.as_secs()
            )));
        }
        policy.sleep(&Sleep::pause(Duration::from_millis(1)).short());
        policy.interrupted()?;
    }
}

/// The serial of the last change, unless somebody is at one.
fn quiet(att: &Attachment) -> Result<Option<u64>> {
    let word = att.state().lock.load(Ordering::Acquire);
    if word == 0 {
        check_unlocked_intent(att)?;
        return Ok(Some(att.mem.intent().serial.load(Ordering::Acquire)));
    }
    let owner = lock_word::owner(word).filter(|owner| *owner < PARTICIPANTS);
    // He may have let go of the lock, then of his number.
    let his = || lock_word::owner(att.state().lock.load(Ordering::Acquire)) == owner;
    if owner.is_some_and(|owner| att.died(owner, his).is_ok_and(|died| died)) {
        return Err(Error::Busy(format!(
            "{}: a process died while it held the writer lock; the next one that may write puts that right",
            att.object.name
        )));
    }
    Ok(None)
}

/// Not asked under the lock: whoever takes that makes, or drops, a change that is under way.
fn check_unlocked_intent(att: &Attachment) -> Result<()> {
    let (lock, valid) = (&att.state().lock, &att.mem.intent().valid);
    let stray = lock.load(Ordering::Acquire) == 0 && {
        // Not the change of somebody who came and went in between: its serial is not met twice.
        let serial = valid.load(Ordering::Acquire);
        serial != 0 && lock.load(Ordering::Acquire) == 0 && valid.load(Ordering::Acquire) == serial
    };
    hold!(!stray, 6, "the intent is valid although the lock is free");
    Ok(())
}

/// A private copy, of which nothing changes. `live`: the segment itself.
fn verify_outside(att: &Attachment, live: &Attachment, policy: &dyn WaitPolicy) -> Result<Report> {
    let (mut check, mut verified) = (Check::new(att, live), Ok(false));
    policy.allow_threads(&mut || verified = check.hold(None));
    verified.map(|_| check.report)
}

/// What is fixed at creation, and its names.
fn check_identity(att: &Attachment, status: &Status) -> Result<()> {
    // Cut short, every access beyond the end is a signal.
    let least = att.identity.geometry.end_of_zones(att.arena().zones());
    hold!(status.size >= least, 13, "the object has {} bytes, its zones in use end at {least}", status.size);
    let mut bytes = Vec::new();
    att.mem.read_into(at::IDENTITY, IDENTITY_LEN, &mut bytes)?;
    hold!(bytes == att.identity.to_bytes(), 13, "the identity has changed");
    let gone = att.state().gone.load(Ordering::Acquire);
    let named = || object::status_of(&att.object.name).is_ok_and(|now| now.is_same_object(&att.object.status));
    // Others may have given it names besides, which stay.
    hold!(gone <= 1 && (gone == 0 || status.nlink == 0 || !named()), 13, "gone is {gone}, the object has its name");
    if att.identity.lock_object != 0 {
        let found = object::status_of(Identity::lock_object_name(&att.identity.id));
        // It is unlinked after the segment, and is not looked for where the segment has no name.
        let sound = found.is_ok_and(|found| found.ino == att.identity.lock_object) || !named();
        hold!(sound, 13, "its lock object {} is missing", Identity::lock_object_name(&att.identity.id));
    }
    Ok(())
}

/// The counters that bound everything else.
fn check_state(att: &Attachment, status: &Status) -> Result<()> {
    let (state, geometry) = (att.state(), &att.identity.geometry);
    let (zones, limit) = (state.zones.load(Ordering::Acquire), state.limit.load(Ordering::Relaxed));
    hold!((1..=geometry.zones_max).contains(&zones), 3, "{zones} zones are in use, of {}", geometry.zones_max);
    // Their metadata is about to be read, and a page that is not there may not be had.
    hold!(zones * ZONE_META <= status.resident, 12, "{zones} zones are in use, the object takes {}", status.resident);
    hold!((1..=geometry.granules * GRANULE / 2).contains(&limit), 1, "the limit is {limit}");
    let used = state.used.load(Ordering::Relaxed);
    hold!(used <= limit, 1, "{used} bytes are used, the limit is {limit}");
    let (batch, many) = (state.batch.load(Ordering::Relaxed), state.many.load(Ordering::Relaxed));
    hold!(batch == 0 && many.is_multiple_of(2), 6, "many is {many}, a batch is {batch}, and nobody is at one");
    let version = state.version.load(Ordering::Relaxed);
    hold!(version < VERSION_MAX, 9, "the last version is {version}");
    let top = state.participants_top.load(Ordering::Acquire);
    hold!(top <= PARTICIPANTS, 11, "participants_top is {top}");
    Ok(())
}

/// One who takes part, or a number that nobody has.
fn check_participant(att: &Attachment, number: u32, report: &mut Report) -> Result<()> {
    let Some(record) = att.participant(number) else { return Ok(()) };
    let state = record.state.load(Ordering::Acquire);
    hold!(state <= 1, 11, "participant {number} has state {state}");
    if state == 0 {
        return Ok(());
    }
    let signed = record.generation.load(Ordering::Relaxed) != 0 && record.pid.load(Ordering::Relaxed) != 0;
    hold!(signed, 11, "participant {number} is in use and has no pid or generation");
    for (name, mark) in [("spans", &record.spans), ("locks", &record.locks)] {
        hold!(mark.load(Ordering::Relaxed) <= 1, 11, "participant {number}: {name} is neither 0 nor 1");
    }
    check_pins(att, number, record)?;
    // He may have let go of his number since it was looked at.
    let his = || record.state.load(Ordering::Acquire) == 1;
    // A reader that may not look at the lock object takes them for alive.
    let died = att.died(number, his).or_else(|e| if att.mem.writable() { Err(e) } else { Ok(false) })?;
    report.living += u64::from(!died);
    report.dead += u64::from(died);
    Ok(())
}

/// A participant's record, if somebody has the number. Above the top may be no page.
fn in_use(att: &Attachment, number: u32) -> Option<&Participant> {
    att.participant(number).filter(|record| record.state.load(Ordering::Acquire) == 1)
}

fn check_pins(att: &Attachment, number: u32, record: &Participant) -> Result<()> {
    let geometry = &att.identity.geometry;
    let granules = att.arena().zones() * ZONE;
    for unit in 0..PIN_UNITS {
        if record.pin_units[(unit / 64) as usize].load(Ordering::Acquire) >> (unit % 64) & 1 == 0 {
            continue;
        }
        let start = unit * geometry.pin_unit();
        hold!(start < geometry.pin_stride, 11, "participant {number} has part {unit} of a bitmap, which has no such");
        let mut bits = fallible::zeros(geometry.pin_unit().min(geometry.pin_stride - start) as usize, NAMED)?;
        // Not through the mapping: whether the page is there is just what is asked.
        let offset = geometry.pins + u64::from(number) * geometry.pin_stride + start;
        att.with_file(|fd| object::read_at(fd, &mut bits, offset))?.map_err(|e| Error::system("reading pins", e))?;
        let last = bits.iter().rposition(|byte| *byte != 0).map(|byte| (start + byte as u64) * 8);
        hold!(last.is_none_or(|bit| bit < granules), 11, "participant {number} pins a granule after {}", granules);
    }
    Ok(())
}

/// Records at and above the top, which may not be there.
fn check_unused_records(att: &Attachment, top: u32) -> Result<()> {
    let offset = att.identity.geometry.participant_at(top);
    let mut bytes = fallible::zeros((at::READERS - offset) as usize, NAMED)?;
    att.with_file(|fd| object::read_at(fd, &mut bytes, offset))?
        .map_err(|e| Error::system("reading participants", e))?;
    // Somebody may just have come: looked at first, raised meanwhile.
    let raised = att.state().participants_top.load(Ordering::Acquire) != top;
    let used = bytes.iter().position(|byte| *byte != 0).map(|byte| u64::from(top) + byte as u64 / 64);
    hold!(used.is_none() || raised, 11, "participant {} was used, participants_top is {top}", used.unwrap_or(0));
    Ok(())
}
