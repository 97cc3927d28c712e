//! Unlinking a segment: by its key, or this very one.

use crate::error::{Error, Result};
use crate::format::identity::Identity;
use crate::format::{State, at};
use crate::key::Key;
use crate::os::object::{self, Status};
use crate::process::attachment::Attachment;
use crate::process::registry_lock::registry_of;
use crate::process::wait_policy::WaitPolicy;
use crate::segment::open::{identify, refused};
use crate::segment::orphan::remove_orphans;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::atomic::Ordering;

const GONE_AT: u64 = at::STATE + std::mem::offset_of!(State, gone) as u64;

/// Unlinks what is at a key's name, waiting in the caller's way. False: there was nothing.
///
/// A file is removed whatever it holds, if the system lets this user: the name is ours alone, whoever could write to a
/// segment can make its contents look like anything, and its owner must not be kept from his own key. What is no
/// regular file never was a segment, and stays.
pub fn destroy_with(key: &Key, policy: &dyn WaitPolicy) -> Result<bool> {
    let name = key.object_name();
    let fd = match object::open(&name, true).or_else(|_| object::open(&name, false)) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return object::directory().map(|_| false),
        Err(error @ (Errno::ACCESS | Errno::PERM | Errno::AGAIN)) => return unlink_unopened(key, &name, error),
        Err(error) => return Err(refused(key, &name, error)),
    };
    let (identity, status) = match identify(Some(key), &name, &fd) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(false),
        Err(error @ (Error::Incompatible(_) | Error::Corrupt(_))) => {
            return unlink_unsound(key, &name, fd, error, policy);
        }
        Err(error) => return Err(error),
    };
    let lock_name = Identity::lock_object_name(&identity.id);
    let lock_fd = match identity.lock_object {
        0 => None,
        _ => object::open(&lock_name, true).ok(),
    };
    let lock = Lock { fd: lock_fd.as_ref().unwrap_or(&fd), name: (identity.lock_object != 0).then_some(&*lock_name) };
    unlink(key, &name, &status, Some(lock), policy, || {
        let _ = object::write_at(&fd, &1_u32.to_ne_bytes(), GONE_AT);
        crash_point!("gone-stored");
    })
}

/// Nobody may open it (a mode of 0), or not just now (a lease): its owner may unlink it all the same.
fn unlink_unopened(key: &Key, name: &str, error: Errno) -> Result<bool> {
    let me = crate::os::euid();
    match object::status_of(name) {
        Ok(status) if status.regular && (status.uid == me || me == 0) => unlink_name(key, name, &status).map(|()| true),
        _ => Err(refused(key, name, error)),
    }
}

/// A file whose contents say nothing that can be followed. Not a byte of it is written.
fn unlink_unsound(key: &Key, name: &str, fd: OwnedFd, error: Error, policy: &dyn WaitPolicy) -> Result<bool> {
    let status = object::status(&fd).map_err(|e| Error::system("fstat", e))?;
    if !status.regular {
        return Err(error);
    }
    // Whoever else removes it takes the same lock. Held in bad faith it is waited for, not obeyed.
    let attempt = unlink(key, name, &status, Some(Lock { fd: &fd, name: None }), policy, || {});
    let done = match attempt {
        Err(Error::Busy(_)) => unlink(key, name, &status, None, policy, || {}),
        other => other,
    };
    // Its lock object, if it had one, is named by nobody now.
    remove_orphans();
    done
}

/// Is there an object of this key's name? Whether it can be attached is another question.
///
/// # Errors
/// [`Error::Access`] where there is no directory to look at, or none that this user may look at.
pub fn exists(key: &Key) -> Result<bool> {
    let name = key.object_name();
    match object::status_of(&name) {
        Ok(status) => Ok(status.regular),
        Err(Errno::NOENT) => object::directory().map(|_| false),
        Err(error) => Err(refused(key, &name, error)),
    }
}

/// What the registry lock lives on.
#[derive(Clone, Copy)]
struct Lock<'a> {
    fd: &'a OwnedFd,
    /// Of the second object, where there is one: it goes, too.
    name: Option<&'a str>,
}

/// Unlinks a name if it still means this object, under the registry lock; then, still under it, `mark`s it as gone.
fn unlink(
    key: &Key,
    name: &str,
    status: &Status,
    lock: Option<Lock<'_>>,
    policy: &dyn WaitPolicy,
    mark: impl FnOnce(),
) -> Result<bool> {
    // Without permission to lock there is nobody whom the lock would keep from binding the name anew, either.
    let _registry = match lock.map(|lock| registry_of(lock.fd, name, policy)) {
        Some(Ok(registry)) => Some(registry),
        None | Some(Err(Error::Access(_) | Error::System { .. })) => None,
        Some(Err(error)) => return Err(error),
    };
    match object::status_of(name) {
        Ok(now) if now.is_same_object(status) => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(refused(key, name, error)),
    }
    unlink_name(key, name, status)?;
    crash_point!("unlinked");
    // CRASH: an empty lock object stays, until somebody makes or removes another one.
    if let Some(lock_name) = lock.and_then(|lock| lock.name) {
        let _ = object::unlink(lock_name);
        crash_point!("lock-object-unlinked");
        remove_orphans();
    }
    mark();
    Ok(true)
}

fn unlink_name(key: &Key, name: &str, status: &Status) -> Result<()> {
    object::unlink(name).map_err(|e| match e {
        Errno::ACCESS | Errno::PERM => Error::Access(format!(
            "key {key}: {}/{name} belongs to uid {} (mode {:#o}); only its owner and root may destroy it",
            object::DIR,
            status.uid,
            status.mode
        )),
        e => Error::system(format!("unlinking {}/{name}", object::DIR), e),
    })
}

/// Unlinks this very segment, if its name still means it.
pub fn destroy(att: &Attachment, policy: &dyn WaitPolicy) -> Result<()> {
    let lock_name = att.lock_name();
    let duplicate = |fd: rustix::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let fd = att.with_locks(att.mem.writable(), duplicate)?.map_err(|e| Error::system("a descriptor", e))?;
    let second = (att.identity.lock_object != 0).then_some(&*lock_name);
    let lock = Some(Lock { fd: &fd, name: second });
    let mut whole = false;
    let done = unlink(&att.identity.key, &att.object.name, &att.object.status, lock, policy, || {
        // What was cut short is not touched through the mapping: that would end the process.
        whole = att.with_file(|_| ()).is_ok();
        if whole {
            att.state().gone.store(1, Ordering::SeqCst);
            crash_point!("gone-stored");
        }
    })?;
    if !done {
        return destroyed_before(att);
    }
    if whole {
        att.notify_all();
    }
    Ok(())
}

/// Its name means it no more, or never did here. Is that because it was destroyed?
fn destroyed_before(att: &Attachment) -> Result<()> {
    let found = att.object.file.status(&att.object.status, att.object.mapping.descriptor());
    // Where the state was cut off, touching it ends the process.
    let links = found.map(|found| (found.nlink, found.size >= at::INTENT));
    // SYNC: with `unlink`: who unlinks it stores `gone` before he lets the registry lock go, which we had since.
    match links {
        Some((0, _)) => return Ok(()),
        Some((_, true)) if att.state().gone.load(Ordering::SeqCst) != 0 => return Ok(()),
        _ => {}
    }
    let (key, dir) = (&att.identity.key, object::DIR);
    if object::directory()?.dev != att.object.status.dev {
        return Err(Error::Access(format!(
            "key {key}: it was not destroyed: {dir} is another file system here than the one that it is in (after a \
             chroot, or in a mount namespace); destroy it where it was attached"
        )));
    }
    Err(Error::NotFound(format!(
        "key {key}: it was not destroyed: its name {dir}/{} is gone or means another object, but it still has a name \
         somewhere (was it renamed?): find {dir} -inum {}",
        att.object.name, att.object.status.ino
    )))
}
