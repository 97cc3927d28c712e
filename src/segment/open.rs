//! Opening and mapping a segment that exists.

use crate::error::{Error, Result};
use crate::format::identity::Identity;
use crate::key::Key;
use crate::os::map::Mapping;
use crate::os::object::{self, Status};
use crate::process::at_fork;
use crate::process::attachment::{Attachment, Opened};
use crate::process::wait_policy::{WAIT_LIMIT, WaitPolicy};
use crate::segment::attached::{Attached, release};
use crate::segment::identify::identify;
use crate::segment::limit::raise;
use crate::segment::options::Options;
use crate::segment::refusals::refused;
use crate::segment::state_snapshot::StateSnapshot;
use crate::segment::trust::is_trusted;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Opens by name. Where a process has a lease on it (`F_SETLEASE`), the kernel asks that one to let go: it has 10 s.
pub fn open_patiently(name: &str, write: bool, policy: &dyn WaitPolicy) -> Result<rustix::io::Result<OwnedFd>> {
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

/// `None`: it vanished meanwhile, look again.
pub fn open(
    key: &Key,
    name: &str,
    fd: OwnedFd,
    options: &Options,
    policy: &dyn WaitPolicy,
) -> Result<Option<Attached>> {
    let me = crate::os::euid();
    let asked = options.perm & 0o077 != 0 || options.create == Some(false);
    let before = object::status(&fd).map_err(|e| Error::system("fstat", e))?;
    if before.uid != me && !asked && before.regular {
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
        // Waited for here, where nothing is held, if somebody has a lease on it.
        let lock_name = Identity::lock_name(&identity.id);
        if let Err(Errno::AGAIN) = open_patiently(&lock_name, !options.readonly, policy)? {
            return Err(refused(key, &lock_name, Errno::AGAIN));
        }
    }
    let trusted = options.trust.unwrap_or_else(|| is_trusted(&status));
    let mut process = at_fork::lock();
    let known = process.find(status.dev, status.ino, !options.readonly);
    let attachment = match known {
        Some(attachment) => {
            drop(process);
            attachment
        }
        None => {
            let Some(attachment) = map(identity, name, status, fd, !options.readonly)? else { return Ok(None) };
            let attachment = attachment.into_shared();
            process.sweep();
            process.add(&attachment);
            drop(process);
            attachment
        }
    };
    attachment.registration.handles.fetch_add(1, Ordering::SeqCst);
    let attached = Attached { attachment, created: false, trusted };
    if !options.readonly {
        attached.attachment.member(policy).inspect_err(|_| release(&attached.attachment))?;
        if let Some(size) = options.size {
            raise(&attached.attachment, size, policy).inspect_err(|_| release(&attached.attachment))?;
        }
    }
    Ok(Some(attached))
}

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
    let (lock_fd, lock_status) = match identity.lock_object {
        0 => (None, status),
        inode => {
            let lock_name = Identity::lock_name(&identity.id);
            match object::open(&lock_name, write) {
                Ok(fd) => {
                    let lock_status = object::status(&fd).map_err(|e| Error::system("fstat", e))?;
                    if lock_status.ino != inode {
                        return Err(Error::corrupt(format_args!("{lock_name} is not the segment's lock object")));
                    }
                    (Some(fd), lock_status)
                }
                Err(_) if !write => (None, Status { ino: inode, ..status }),
                Err(Errno::NOENT) => match object::status_of(name) {
                    Ok(now) if now.same(&status) => {
                        return Err(Error::corrupt(format_args!("its lock object {lock_name} is missing")));
                    }
                    _ => return Ok(None),
                },
                Err(error) => return Err(refused(&identity.key, &lock_name, error)),
            }
        }
    };
    let query = query.or(lock_fd);
    let attachment = Attachment::new(Opened { identity, name, status, lock_status, mapping, fd, query, write });
    // The mapping came by name: is it the object that was parsed?
    if attachment.mapped_id()? != attachment.identity.id {
        return Ok(None);
    }
    Ok(Some(attachment))
}

/// Maps an open object. With the map comes its descriptor, unless the map lends one. `None`: the name was gone, or another's,
/// when it was opened again.
fn map_object(
    name: &str,
    fd: OwnedFd,
    status: &Status,
    (least, most): (u64, u64),
    write: bool,
) -> Result<Option<(Mapping, Option<OwnedFd>)>> {
    let again = |fd: &OwnedFd| object::status(fd).is_ok_and(|now| now.same(status));
    let mut fd = Some(fd);
    // What somebody put behind its end is not mapped: it could be more than there are addresses.
    if write && status.size <= most {
        match Mapping::named(name, fd.take().expect("given"), status) {
            Some(mapping) if mapping.len() >= least => return Ok(Some((mapping, None))),
            _ => {}
        }
    }
    let fd = match fd {
        Some(fd) => fd,
        None => match object::open(name, write) {
            Ok(fd) if again(&fd) => fd,
            Ok(_) | Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(Error::system(format!("opening {name}"), error)),
        },
    };
    let mapping = Mapping::of_as_much(fd.as_fd(), status.size.min(most), least, write)?;
    Ok(Some((mapping, Some(fd))))
}
