//! Opening a segment that exists: decides whether this process may attach to it, maps it, and makes the attachment, or
//! finds the one that the process has already. Whether the object is a segment at all is asked in `identify`; `attach`
//! begins again if the segment vanishes meanwhile. Protocol: docs/protocol.md, "Opening".

use crate::error::{Error, Result};
use crate::format::Eviction;
use crate::format::identity::Identity;
use crate::key::Key;
use crate::os::map::Mapping;
use crate::os::object::{self, Status};
use crate::process::at_fork;
use crate::process::attachment::{Attachment, Opened};
use crate::process::wait_policy::{WAIT_LIMIT, WaitPolicy};
use crate::segment::attached::{AttachedSegment, release};
use crate::segment::identify::identify;
use crate::segment::limit::raise_limit;
use crate::segment::open_errors::open_error;
use crate::segment::options::Options;
use crate::segment::state_snapshot::StateSnapshot;
use crate::segment::trust::is_trusted;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Opens an object by name. If another process has a lease on it (`F_SETLEASE`), the kernel asks that process to let
/// go, and this one waits for 10 s.
pub fn open_object(name: &str, write: bool, policy: &dyn WaitPolicy) -> Result<rustix::io::Result<OwnedFd>> {
    let began = Instant::now();
    loop {
        match object::open(name, write) {
            Err(Errno::AGAIN) if began.elapsed() < WAIT_LIMIT => {
                policy.allow_threads(&mut || std::thread::sleep(Duration::from_millis(10)));
                policy.interrupted()?;
            }
            opened => return Ok(opened),
        }
    }
}

/// Attaches to the segment that is open at `fd`. `None` if it vanished meanwhile: the caller looks at the name again.
pub fn open(
    key: &Key,
    name: &str,
    fd: OwnedFd,
    options: &Options,
    policy: &dyn WaitPolicy,
) -> Result<Option<AttachedSegment>> {
    let me = crate::os::euid();
    let sharing_asked = options.perm & 0o077 != 0 || options.create == Some(false);
    let before = object::status(&fd).map_err(|e| Error::system("fstat", e))?;
    if before.uid != me && !sharing_asked && before.regular {
        return Err(Error::Access(format!(
            "key {key}: the segment {}/{name} belongs to uid {} (mode {:#o}), this process is uid {me}; to share it, say so: \
             perm for group or others, or create=False",
            object::DIR,
            before.uid,
            before.mode
        )));
    }
    let Some((identity, status)) = identify(Some(key), name, &fd)? else { return Ok(None) };
    if options.id.is_some_and(|id| id != identity.id) {
        return Err(Error::NotFound(format!(
            "key {key}: the segment that was meant is gone; another one has its key now"
        )));
    }
    if identity.lock_object != 0 {
        // If another process has a lease on the lock object, this process waits for it here, where it holds nothing
        // yet.
        let lock_name = Identity::lock_object_name(&identity.id);
        if let Err(Errno::AGAIN) = open_object(&lock_name, !options.readonly, policy)? {
            return Err(open_error(key, &lock_name, Errno::AGAIN));
        }
    }
    check_eviction(key, options.evict, &fd)?;
    let trusted = options.trust.unwrap_or_else(|| is_trusted(&status));
    let mut process = at_fork::lock();
    let attachment = match process.find(status.dev, status.ino, !options.readonly) {
        Some(attachment) => {
            drop(process);
            attachment
        }
        None => {
            let Some(attachment) = map(identity, name, status, fd, !options.readonly)? else { return Ok(None) };
            let attachment = attachment.into_shared();
            process.forget_dropped();
            process.add(&attachment);
            drop(process);
            attachment
        }
    };
    attachment.registration.handles.fetch_add(1, Ordering::SeqCst);
    let attached = AttachedSegment { attachment, created: false, trusted };
    if !options.readonly {
        attached.attachment.register(policy).inspect_err(|_| release(&attached.attachment))?;
        if let Some(size) = options.size {
            raise_limit(&attached.attachment, size, policy).inspect_err(|_| release(&attached.attachment))?;
        }
    }
    Ok(Some(attached))
}

/// Refuses a segment that evicts something else than the caller asks for.
fn check_eviction(key: &Key, wanted: Option<Eviction>, fd: &OwnedFd) -> Result<()> {
    let Some(found) = StateSnapshot::of(fd)?.eviction() else {
        return Err(Error::corrupt(format_args!("key {key}: what the segment evicts (the word `evict`)")));
    };
    if wanted.is_none() || wanted == found {
        return Ok(());
    }
    let name = |eviction: Option<Eviction>| eviction.map_or_else(|| "None".into(), |one| format!("'{}'", one.name()));
    Err(Error::Invalid(format!(
        "key {key}: the segment was created with evict={}, and evict={} is asked for: attach without it, or destroy the \
         segment first",
        name(found),
        name(wanted)
    )))
}

/// Maps a segment and opens its lock object. `None` if it vanished meanwhile.
fn map(identity: Identity, name: &str, status: Status, fd: OwnedFd, write: bool) -> Result<Option<Attachment>> {
    let query = match identity.lock_object {
        0 => object::reopen(fd.as_fd(), write).ok(),
        _ => None,
    };
    let least = identity.geometry.end_of_zones(StateSnapshot::of(&fd)?.zones());
    if status.size < least {
        return Err(Error::corrupt(format_args!("{name} has {} bytes, its zones in use end at {least}", status.size)));
    }
    let Some((mapping, fd)) = map_object(name, fd, &status, (least, identity.geometry.length), write)? else {
        return Ok(None);
    };
    let Some((lock_fd, lock_status)) = open_lock_object(&identity, name, &status, write)? else { return Ok(None) };
    let query = query.or(lock_fd);
    let attachment = Attachment::new(Opened { identity, name, status, lock_status, mapping, fd, query, write });
    // The object may have been opened by its name once more to map it. Is the mapped one the one whose identity was
    // read?
    if attachment.mapped_id()? != attachment.identity.id {
        return Ok(None);
    }
    Ok(Some(attachment))
}

/// Opens the lock object of a segment, if it has one. Returns its status, too: that of the segment if it has none. A
/// handle that may not write does without the lock object if it cannot be opened. `None` if the segment vanished
/// meanwhile.
fn open_lock_object(
    identity: &Identity,
    name: &str,
    status: &Status,
    write: bool,
) -> Result<Option<(Option<OwnedFd>, Status)>> {
    let inode = identity.lock_object;
    if inode == 0 {
        return Ok(Some((None, *status)));
    }
    let lock_name = Identity::lock_object_name(&identity.id);
    match object::open(&lock_name, write) {
        Ok(fd) => {
            let lock_status = object::status(&fd).map_err(|e| Error::system("fstat", e))?;
            if lock_status.ino != inode {
                return Err(Error::corrupt(format_args!("{lock_name} is not the segment's lock object")));
            }
            Ok(Some((Some(fd), lock_status)))
        }
        Err(_) if !write => Ok(Some((None, Status { ino: inode, ..*status }))),
        Err(Errno::NOENT) => match object::status_of(name) {
            Ok(now) if now.is_same_object(status) => {
                Err(Error::corrupt(format_args!("its lock object {lock_name} is missing")))
            }
            _ => Ok(None),
        },
        Err(error) => Err(open_error(&identity.key, &lock_name, error)),
    }
}

/// Maps an open object, `least` bytes of it and `most` at most. Returns its descriptor with the mapping, unless the
/// mapping lends one. `None` if the object's name was gone, or meant another object, when it was opened again.
fn map_object(
    name: &str,
    fd: OwnedFd,
    status: &Status,
    (least, most): (u64, u64),
    write: bool,
) -> Result<Option<(Mapping, Option<OwnedFd>)>> {
    let same_object = |fd: &OwnedFd| object::status(fd).is_ok_and(|now| now.is_same_object(status));
    let mut fd = Some(fd);
    // An object that is longer than a segment can be is mapped up to `most` only: the rest could be more than there are
    // addresses.
    if write && status.size <= most {
        match Mapping::named(name, fd.take().expect("given"), status) {
            Some(mapping) if mapping.len() >= least => return Ok(Some((mapping, None))),
            _ => {}
        }
    }
    let fd = match fd {
        Some(fd) => fd,
        None => match object::open(name, write) {
            Ok(fd) if same_object(&fd) => fd,
            Ok(_) | Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(Error::system(format!("opening {name}"), error)),
        },
    };
    let mapping = Mapping::new_or_shorter(fd.as_fd(), status.size.min(most), least, write)?;
    Ok(Some((mapping, Some(fd))))
}
