//! What is in the memory file system under our names: read, never mapped, nothing changed.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::identity::Identity;
use crate::format::identity::LOCK_OBJECT_PREFIX;
use crate::format::{Participant, at};
use crate::key::{Key, PREFIX};
use crate::os::bytelock::{byte_of, is_locked};
use crate::os::object::{self, Status, TEMPORARY_PREFIX};
use crate::segment::open::distrust;
use crate::segment::state_snapshot::{self, StateSnapshot, fatal, identify_by_name, word};
use crate::sync::lock_word;
use rustix::fd::OwnedFd;
use std::ffi::OsStr;
use std::mem::{offset_of, size_of};
use std::os::unix::ffi::OsStrExt;

/// An object under one of our names.
pub struct ObjectReport {
    /// Its name.
    pub name: String,
    /// What the kernel says of it.
    pub status: Status,
    /// What it is.
    pub what: ObjectKind,
}

/// What an object is.
pub enum ObjectKind {
    /// A segment.
    Segment(Box<SegmentReport>),
    /// At a segment's name, and not to be read as one: why.
    Unreadable(Error),
    /// The second object of a segment, by that one's name; `None`: no segment that can be read names it.
    Locks(Option<String>),
    /// A segment that is being made, or was when its maker died.
    Temporary,
}

/// A segment, as far as `pread` shows it.
pub struct SegmentReport {
    /// Its key.
    pub key: Key,
    /// Nanoseconds since 1970.
    pub created_at: u64,
    /// Its limit, what is charged, variables.
    pub size: u64,
    /// See above.
    pub used: u64,
    /// See above.
    pub count: u64,
    /// Why values of it would run no code; `None`: it is trusted.
    pub distrust: Option<&'static str>,
    /// The name of its second object.
    pub locks: Option<String>,
    /// Who holds the writer lock, by number.
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
    /// In its own pid namespace.
    pub pid: u32,
    /// How often the number was claimed.
    pub generation: u64,
    /// Nanoseconds since 1970.
    pub attached_at: u64,
    /// `None`: this user may not ask.
    pub alive: Option<bool>,
}

/// What is listed is called so where there is no memory for it.
const SEGMENTS: &str = "a list of segments";

/// Everything under our names. What vanishes meanwhile is passed over.
///
/// # Errors
/// [`Error::Memory`], and where the directory cannot be listed.
pub fn inspect() -> Result<Vec<ObjectReport>> {
    let mut all = Vec::new();
    for prefix in [PREFIX, LOCK_OBJECT_PREFIX, TEMPORARY_PREFIX] {
        for name in object::list(prefix)? {
            let Some(seen) = look(&name)? else { continue };
            if let ObjectKind::Unreadable(Error::Memory { asked, what }) = seen.what {
                return Err(Error::Memory { asked, what });
            }
            fallible::push(&mut all, seen, SEGMENTS)?;
        }
    }
    let named = fallible::collect(all.iter().filter_map(names_locks).map(Ok), SEGMENTS)?;
    for seen in &mut all {
        if let ObjectKind::Locks(by) = &mut seen.what {
            *by = named.iter().find(|(locks, _)| *locks == seen.name).map(|(_, by)| by.clone());
        }
    }
    Ok(all)
}

fn names_locks(seen: &ObjectReport) -> Option<(String, String)> {
    match &seen.what {
        ObjectKind::Segment(segment) => Some((segment.locks.clone()?, seen.name.clone())),
        _ => None,
    }
}

fn look(name: &OsStr) -> Result<Option<ObjectReport>> {
    let Ok(status) = object::status_of(name) else { return Ok(None) };
    let what = if name.as_bytes().starts_with(LOCK_OBJECT_PREFIX.as_bytes()) {
        ObjectKind::Locks(None)
    } else if name.as_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) {
        ObjectKind::Temporary
    } else {
        match identify_by_name(name).and_then(|found| found.map(|(fd, id, of)| segment(fd, id, &of)).transpose()) {
            Ok(None) => return Ok(None),
            Ok(Some(segment)) => ObjectKind::Segment(Box::new(segment)),
            Err(error) if fatal(&error) => return Err(error),
            Err(error) => ObjectKind::Unreadable(error),
        }
    };
    Ok(Some(ObjectReport { name: name.to_string_lossy().into(), status, what }))
}

fn segment(fd: OwnedFd, identity: Identity, status: &Status) -> Result<SegmentReport> {
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
    let person = |(number, record): (u32, &[u8])| ParticipantReport {
        number,
        pid: u32::from_ne_bytes(word(record, offset_of!(Participant, pid))),
        generation: u64::from_ne_bytes(word(record, offset_of!(Participant, generation))),
        attached_at: u64::from_ne_bytes(word(record, offset_of!(Participant, attached_at))),
        alive: lock_fd.as_ref().and_then(|fd| is_locked(fd, byte_of(number)).ok()),
    };
    let people = (0..).zip(records.chunks_exact(RECORD));
    let in_use = |(_, record): &(u32, &[u8])| u32::from_ne_bytes(word(record, offset_of!(Participant, state))) == 1;
    Ok(SegmentReport {
        created_at: identity.created_at,
        size: state.limit(),
        used: state.used(),
        count: state.count(),
        distrust: distrust(status),
        writer: lock_word::owner(state.lock()),
        changing: valid != [0; 8],
        participants: fallible::collect(people.filter(in_use).map(person).map(Ok), SEGMENTS)?,
        key: identity.key,
        locks,
    })
}
