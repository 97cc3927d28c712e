//! Every object in the memory file system under one of our names, for `doctor`: segments, lock objects, temporary
//! objects, and what cannot be read as a segment. Objects are read by calls, never mapped and never changed. The short
//! list of segments for users is in `info`, the removal of stale objects in `repair` (docs/protocol.md, "Stale
//! objects").

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::identity::{Identity, LOCK_OBJECT_PREFIX};
use crate::format::{Participant, at};
use crate::key::{Key, PREFIX};
use crate::os::bytelock::{byte_of, is_locked};
use crate::os::object::{self, Status, TEMPORARY_PREFIX};
use crate::segment::identify::{concerns_this_process, identify_by_name};
use crate::segment::state_snapshot::{self, StateSnapshot, word};
use crate::segment::trust::distrust;
use crate::sync::lock_word;
use rustix::fd::OwnedFd;
use std::ffi::OsStr;
use std::mem::{offset_of, size_of};
use std::os::unix::ffi::OsStrExt;

/// An object under one of our names.
pub struct ObjectReport {
    /// Its name.
    pub name: String,
    /// What the kernel says of it: owner, mode, size and more.
    pub status: Status,
    /// What it is.
    pub what: ObjectKind,
}

/// What an object is.
pub enum ObjectKind {
    /// A segment.
    Segment(Box<SegmentReport>),
    /// An object at a segment's name that cannot be read as one, and why.
    Unreadable(Error),
    /// A lock object, and the name of the segment that names it. `None` if no segment that can be read does.
    Locks(Option<String>),
    /// A segment that is being made, or that was being made when its maker died.
    Temporary,
}

/// A segment, as far as `pread` shows it.
///
/// A plain report for callers: one public field for each fact, hence so many of them.
pub struct SegmentReport {
    /// Its key.
    pub key: Key,
    /// Nanoseconds since 1970.
    pub created_at: u64,
    /// The limit.
    pub size: u64,
    /// Bytes that its variables are charged.
    pub used: u64,
    /// Its variables.
    pub count: u64,
    /// Why its values may not run code when they are read. `None` if it is trusted.
    pub distrust: Option<&'static str>,
    /// The name of its lock object, if it has one.
    pub locks: Option<String>,
    /// The participant number of the owner of the writer lock.
    pub writer: Option<u32>,
    /// Is a change under way?
    pub changing: bool,
    /// Participants in use.
    pub participants: Vec<ParticipantReport>,
}

/// A process attached for writing.
pub struct ParticipantReport {
    /// Its number.
    pub number: u32,
    /// Its pid, in its own pid namespace.
    pub pid: u32,
    /// How often the number was claimed.
    pub generation: u64,
    /// Nanoseconds since 1970.
    pub attached_at: u64,
    /// Does it live? `None` if this user may not ask.
    pub alive: Option<bool>,
}

/// What the list is called in the error if there is no memory for it.
const SEGMENTS: &str = "a list of segments";

/// Every object under one of our names. Objects that vanish meanwhile are left out.
///
/// # Errors
/// [`Error::Memory`], and if the directory cannot be listed, or this process has no descriptor left to look.
pub fn inspect() -> Result<Vec<ObjectReport>> {
    let mut all = Vec::new();
    for prefix in [PREFIX, LOCK_OBJECT_PREFIX, TEMPORARY_PREFIX] {
        for name in object::list(prefix)? {
            let Some(report) = report_of(&name)? else { continue };
            if let ObjectKind::Unreadable(Error::Memory { asked, what }) = report.what {
                return Err(Error::Memory { asked, what });
            }
            fallible::push(&mut all, report, SEGMENTS)?;
        }
    }
    let named = fallible::collect(all.iter().filter_map(lock_object_and_segment).map(Ok), SEGMENTS)?;
    for report in &mut all {
        if let ObjectKind::Locks(by) = &mut report.what {
            *by = named.iter().find(|(locks, _)| *locks == report.name).map(|(_, by)| by.clone());
        }
    }
    Ok(all)
}

/// The name of a segment's lock object, and its own.
fn lock_object_and_segment(report: &ObjectReport) -> Option<(String, String)> {
    match &report.what {
        ObjectKind::Segment(segment) => Some((segment.locks.clone()?, report.name.clone())),
        _ => None,
    }
}

/// Looks at one object. `None` if it vanished meanwhile.
fn report_of(name: &OsStr) -> Result<Option<ObjectReport>> {
    let Ok(status) = object::status_of(name) else { return Ok(None) };
    let what = if name.as_bytes().starts_with(LOCK_OBJECT_PREFIX.as_bytes()) {
        ObjectKind::Locks(None)
    } else if name.as_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) {
        ObjectKind::Temporary
    } else {
        match identify_by_name(name).and_then(|found| found.map(|(fd, id, of)| segment_report(fd, id, &of)).transpose())
        {
            Ok(None) => return Ok(None),
            Ok(Some(segment)) => ObjectKind::Segment(Box::new(segment)),
            Err(error) if concerns_this_process(&error) => return Err(error),
            Err(error) => ObjectKind::Unreadable(error),
        }
    };
    Ok(Some(ObjectReport { name: name.to_string_lossy().into(), status, what }))
}

/// Reads what a report of a segment says.
fn segment_report(fd: OwnedFd, identity: Identity, status: &Status) -> Result<SegmentReport> {
    const RECORD: usize = size_of::<Participant>();
    let state = StateSnapshot::of(&fd)?;
    let mut valid = [0; 8];
    state_snapshot::read(&fd, &mut valid, at::INTENT)?;
    let mut records = fallible::zeros(state.participants_top() as usize * RECORD, SEGMENTS)?;
    state_snapshot::read(&fd, &mut records, at::PARTICIPANTS)?;
    let locks = (identity.lock_object != 0).then(|| Identity::lock_object_name(&identity.id));
    let lock_fd = match &locks {
        None => Some(fd),
        Some(name) => object::open(name, false).ok(),
    };
    let participant = |(number, record): (u32, &[u8])| ParticipantReport {
        number,
        pid: u32::from_ne_bytes(word(record, offset_of!(Participant, pid))),
        generation: u64::from_ne_bytes(word(record, offset_of!(Participant, generation))),
        attached_at: u64::from_ne_bytes(word(record, offset_of!(Participant, attached_at))),
        alive: lock_fd.as_ref().and_then(|fd| is_locked(fd, byte_of(number)).ok()),
    };
    let all = (0..).zip(records.chunks_exact(RECORD));
    let in_use = |(_, record): &(u32, &[u8])| u32::from_ne_bytes(word(record, offset_of!(Participant, state))) == 1;
    Ok(SegmentReport {
        created_at: identity.created_at,
        size: state.limit(),
        used: state.used(),
        count: state.count(),
        distrust: distrust(status),
        writer: lock_word::owner(state.lock()),
        changing: valid != [0; 8],
        participants: fallible::collect(all.filter(in_use).map(participant).map(Ok), SEGMENTS)?,
        key: identity.key,
        locks,
    })
}
