//! Destroying: unlinks what is at a key's name, or the very segment that a handle is attached to. Processes that are
//! attached keep the segment until they detach. Protocol: docs/protocol.md, "Unlinking". The lock objects that are left
//! over are removed in `orphan`.

use crate::error::{Error, Result};
use crate::format::at;
use crate::format::identity::Identity;
use crate::key::Key;
use crate::os::object::{self, Status};
use crate::process::attachment::Attachment;
use crate::process::registry_lock::registry_of;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::segment::identify::{GONE_AT, identify};
use crate::segment::open_errors::open_error;
use crate::segment::orphan::remove_orphans;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::atomic::Ordering;

/// Unlinks the segment of a key, or whatever other file is at its name. Returns `false` if there was none. Processes
/// that are attached keep the segment until they detach.
///
/// # Errors
/// [`Error::Access`] if it belongs to another user or there is no shared memory, [`Error::Incompatible`] if it is no
/// regular file.
pub fn destroy(key: &Key) -> Result<bool> {
    destroy_with(key, &Blocking)
}

/// The same with the caller's way to wait.
///
/// A regular file is removed whatever it holds, if the system lets this user do it. Names of this form are ours alone;
/// a user that may write to a segment can make its contents look like anything, and must not keep the owner from the
/// owner's own key. What is no regular file never was a segment, and stays.
pub fn destroy_with(key: &Key, policy: &dyn WaitPolicy) -> Result<bool> {
    let name = key.object_name();
    let fd = match object::open(&name, true).or_else(|_| object::open(&name, false)) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return object::directory().map(|_| false),
        Err(error @ (Errno::ACCESS | Errno::PERM | Errno::AGAIN)) => return unlink_unopened(key, &name, error),
        Err(error) => return Err(open_error(key, &name, error)),
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
    let lock =
        LockCarrier { fd: lock_fd.as_ref().unwrap_or(&fd), name: (identity.lock_object != 0).then_some(&*lock_name) };
    unlink(key, &name, &status, Some(lock), policy, || {
        let _ = object::write_at(&fd, &1_u32.to_ne_bytes(), GONE_AT);
        crash_point!("gone-stored");
    })
}

/// Unlinks an object that this user may not open (its mode forbids it), or cannot open just now (a lease): its owner
/// may all the same.
fn unlink_unopened(key: &Key, name: &str, error: Errno) -> Result<bool> {
    let me = crate::os::euid();
    match object::status_of(name) {
        Ok(status) if status.regular && (status.uid == me || me == 0) => unlink_name(key, name, &status).map(|()| true),
        _ => Err(open_error(key, name, error)),
    }
}

/// Unlinks a file whose contents cannot be believed. Not a byte of it is written.
fn unlink_unsound(key: &Key, name: &str, fd: OwnedFd, error: Error, policy: &dyn WaitPolicy) -> Result<bool> {
    let status = object::status(&fd).map_err(|e| Error::system("fstat", e))?;
    if !status.regular {
        return Err(error);
    }
    // Every process that unlinks this file takes the same lock. It may be held in bad faith, so after the wait the
    // unlinking goes on without it.
    let attempt = unlink(key, name, &status, Some(LockCarrier { fd: &fd, name: None }), policy, || {});
    let done = match attempt {
        Err(Error::Busy(_)) => unlink(key, name, &status, None, policy, || {}),
        other => other,
    };
    // If the file was a segment with a lock object, no segment names that one now.
    remove_orphans();
    done
}

/// Is there a file at this key's name? Whether it can be attached is another question.
///
/// # Errors
/// [`Error::Access`] if there is no shared memory, or this user may not look at it.
pub fn exists(key: &Key) -> Result<bool> {
    let name = key.object_name();
    match object::status_of(&name) {
        Ok(status) => Ok(status.regular),
        Err(Errno::NOENT) => object::directory().map(|_| false),
        Err(error) => Err(open_error(key, &name, error)),
    }
}

/// The object that carries the registry lock: the segment itself, or its lock object.
#[derive(Clone, Copy)]
struct LockCarrier<'a> {
    fd: &'a OwnedFd,
    /// The name of the lock object, if there is one: it is unlinked, too.
    name: Option<&'a str>,
}

/// Unlinks a name if it still means this object, and then `mark`s the object as gone, both under the registry lock.
/// Returns `false` if the name means the object no more.
fn unlink(
    key: &Key,
    name: &str,
    status: &Status,
    lock: Option<LockCarrier<'_>>,
    policy: &dyn WaitPolicy,
    mark: impl FnOnce(),
) -> Result<bool> {
    // Without permission to lock, the unlinking goes on: then the lock would not keep anybody from binding the name
    // anew, either.
    let _registry = match lock.map(|lock| registry_of(lock.fd, name, policy)) {
        Some(Ok(registry)) => Some(registry),
        None | Some(Err(Error::Access(_) | Error::System { .. })) => None,
        Some(Err(error)) => return Err(error),
    };
    match object::status_of(name) {
        Ok(now) if now.is_same_object(status) => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(open_error(key, name, error)),
    }
    unlink_name(key, name, status)?;
    crash_point!("unlinked");
    // CRASH: an empty lock object stays until a process of this user makes or removes another one.
    if let Some(lock_name) = lock.and_then(|lock| lock.name) {
        let _ = object::unlink(lock_name);
        crash_point!("lock-object-unlinked");
        remove_orphans();
    }
    mark();
    Ok(true)
}

/// Unlinks a name, with an error that says who may do it.
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

/// Unlinks the segment that a handle is attached to, if its name still means it.
pub fn destroy_attached(att: &Attachment, policy: &dyn WaitPolicy) -> Result<()> {
    let lock_name = att.lock_name();
    let duplicate = |fd: rustix::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let fd = att.with_lock_object(att.mem.writable(), duplicate)?.map_err(|e| Error::system("a descriptor", e))?;
    let second = (att.identity.lock_object != 0).then_some(&*lock_name);
    let lock = Some(LockCarrier { fd: &fd, name: second });
    let mut whole = false;
    let done = unlink(&att.identity.key, &att.object.name, &att.object.status, lock, policy, || {
        // If the object was cut short, touching it through the mapping would end the process.
        whole = att.with_file(|_| ()).is_ok();
        if whole {
            att.state().gone.store(1, Ordering::SeqCst);
            crash_point!("gone-stored");
        }
    })?;
    if !done {
        return ensure_destroyed(att);
    }
    if whole {
        att.notify_all();
    }
    Ok(())
}

/// The segment's name does not mean it, now or here. No error if that is so because it was destroyed before.
fn ensure_destroyed(att: &Attachment) -> Result<()> {
    let found = att.object.file.status(&att.object.status, att.object.mapping.descriptor());
    // If the object was cut off before the end of the state, touching the state would end the process.
    let links = found.map(|found| (found.nlink, found.size >= at::INTENT));
    // SYNC: with `unlink`: the process that unlinked the segment stored `gone` before it released the registry lock,
    // and this process has held that lock since.
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
