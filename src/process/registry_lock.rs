//! The registry lock of a segment. A process that holds it may claim participant numbers, reap, take the writer lock
//! over, bring zones into use or take them out of use, and unlink the name. The protocol is "The registry lock" in
//! `docs/protocol.md`.

use crate::error::{Error, Result};
use crate::os::bytelock::{self, Anchor, REGISTRY_BYTE};
use crate::os::fork::ForkGuard;
use crate::os::object::{self, DIR, Status, is_descriptor_of};
use crate::process::at_fork::{self, AttachmentTable};
use crate::process::attachment::Attachment;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::{WAIT_LIMIT, WaitPolicy};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// Private to the process: the registry lock, held until this is dropped, and the process's mutex with it.
pub struct RegistryLock {
    _process: ForkGuard<'static, AttachmentTable>,
    held: RegistryGuard,
}

/// Private to the process: what holds the registry lock.
pub enum RegistryGuard {
    /// An anchor page, mapped through a description that was opened for this act alone. Unmapping the page releases the
    /// lock; closing descriptors does not.
    Anchored(#[allow(dead_code, reason = "dropping it releases the lock")] Anchor),
    /// The process's query description. It is used if the process has dropped privileges and cannot open a fresh
    /// description.
    Descriptor(OwnedFd),
}

impl RegistryLock {
    /// Takes the registry lock if that needs no wait. For a caller that may hold any lock.
    pub fn try_take(att: &Attachment) -> Option<Self> {
        let process = at_fork::try_lock()?;
        let none = || Err(att.no_description());
        let held = try_registry(att.fresh_description(), none, &att.object.lock_status).ok()??;
        Some(RegistryLock { _process: process, held })
    }
}

impl Drop for RegistryLock {
    fn drop(&mut self) {
        if let RegistryGuard::Descriptor(fd) = &self.held {
            let _ = bytelock::unlock(fd, REGISTRY_BYTE);
        }
    }
}

/// Tries to take the registry lock of the lock object that `status` describes, through the description `fresh`. If
/// there is none, or it is not that object's, the description that `other` gives is used. `None`: another process holds
/// the lock.
pub fn try_registry(
    fresh: Option<OwnedFd>,
    other: impl FnOnce() -> Result<OwnedFd>,
    status: &Status,
) -> Result<Option<RegistryGuard>> {
    let Some(fd) = fresh.filter(|fd| is_descriptor_of(fd, status)) else {
        let fd = other()?;
        let locked = bytelock::try_lock(&fd, REGISTRY_BYTE).map_err(|e| Error::io("the registry lock", e))?;
        return Ok(locked.then_some(RegistryGuard::Descriptor(fd)));
    };
    if !bytelock::try_lock(&fd, REGISTRY_BYTE).map_err(|e| Error::io("the registry lock", e))? {
        return Ok(None);
    }
    let anchor = Anchor::new(&fd).map_err(|e| Error::system("an anchor page", e))?;
    Ok(Some(RegistryGuard::Anchored(anchor)))
}

/// Waits for the registry lock, in slices and for a limited time.
///
/// # Errors
/// [`Error::Busy`] after [`WAIT_LIMIT`], [`Error::Interrupted`] if `policy` says so.
fn wait_registry(
    mut attempt: impl FnMut() -> Result<Option<RegistryGuard>>,
    name: &str,
    policy: &dyn WaitPolicy,
) -> Result<RegistryLock> {
    let (began, mut pause) = (Instant::now(), Duration::from_micros(50));
    loop {
        // The mutex is released between two attempts: a fork waits for it, and must not wait for another process's
        // registry lock.
        let process = at_fork::lock();
        if let Some(held) = attempt()? {
            return Ok(RegistryLock { _process: process, held });
        }
        drop(process);
        if began.elapsed() > WAIT_LIMIT {
            return Err(Error::Busy(format!(
                "{name}: the registry lock could not be acquired for {} s: the process that holds it is stopped (SIGSTOP, \
                 a debugger) or hostile; lslocks shows its pid: let it go on or end it",
                WAIT_LIMIT.as_secs()
            )));
        }
        policy.sleep(&Sleep::pause(pause).short());
        policy.interrupted()?;
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Waits for the registry lock of a segment that is not attached, through a descriptor of its lock object.
pub fn registry_of(fd: &OwnedFd, name: &str, policy: &dyn WaitPolicy) -> Result<RegistryLock> {
    let status = object::status(fd).map_err(|e| Error::system("fstat", e))?;
    let fresh = || object::reopen(fd.as_fd(), true).ok();
    let other = || rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|e| Error::system("a descriptor", e));
    wait_registry(|| try_registry(fresh(), other, &status), name, policy)
}

impl Attachment {
    /// Opens a description of the lock object that no other descriptor shares. `None`: the system refuses, because
    /// privileges were dropped or there is no descriptor left.
    pub fn fresh_description(&self) -> Option<OwnedFd> {
        let reopened = self.with_lock_object(true, |fd| object::reopen(fd, true));
        let fd = match reopened {
            Ok(Ok(fd)) => fd,
            _ => object::open(self.lock_name(), true).ok()?,
        };
        is_descriptor_of(&fd, &self.object.lock_status).then_some(fd)
    }

    /// Waits for the registry lock of this segment.
    pub fn registry(&self, policy: &dyn WaitPolicy) -> Result<RegistryLock> {
        let own = || {
            let duplicate = |fd: rustix::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
            // Only this process's own description will do. An inherited one is the parent's as well, and so would the
            // lock be.
            if self.number_now().is_some() {
                return self.with_lock_object(true, duplicate)?.map_err(|e| Error::system("a descriptor", e));
            }
            let prepared = self.registration.child.lock();
            match &prepared.fds {
                Some((_, query)) if prepared.pid == crate::os::pid() && query.is_intact() => {
                    duplicate(query.as_fd()).map_err(|e| Error::system("a descriptor", e))
                }
                _ => Err(self.no_description()),
            }
        };
        wait_registry(
            || try_registry(self.fresh_description(), own, &self.object.lock_status),
            &self.object.name,
            policy,
        )
    }

    /// Makes the error for a process that cannot open a description of the lock object.
    pub fn no_description(&self) -> Error {
        if let Some(error) = object::descriptor_shortage("taking part in a segment") {
            return error;
        }
        let (name, euid, Status { mode, uid, .. }) = (&self.object.name, crate::os::euid(), self.object.status);
        match self.refusal() {
            None => Error::Access(format!(
                "{name}: this process finds the segment neither by /proc/self/fd nor as {DIR}/{}, which are not there or \
                 lead elsewhere (after a chroot, or in another mount namespace?), so it cannot take part in it: fork it \
                 before that, or bind-mount /proc there, or {DIR} while the segment has its name",
                self.lock_name()
            )),
            Some(Errno::ROFS) => Error::Access(format!(
                "{name}: {DIR} is mounted read-only, so this process cannot take part in the segment: mount -o \
                 remount,rw {DIR}, or fork it before"
            )),
            Some(Errno::ACCESS | Errno::PERM) => Error::Access(format!(
                "{name}: this process (uid {euid}) may not open the segment (mode {mode:o}, owner {uid}), so it cannot \
                 take part in it: fork it before the privileges are dropped, or create the segment with a perm that lets \
                 this user open it"
            )),
            Some(errno) => Error::system(format!("opening the segment {name} again"), errno),
        }
    }

    /// Why the system does not let this process open a description of the lock object. `None`: there is no way to it.
    fn refusal(&self) -> Option<Errno> {
        let by_descriptor = self.with_lock_object(true, |fd| object::reopen(fd, true).err()).ok().flatten();
        let by_name = object::open(self.lock_name(), true).err();
        let is_no_way = |errno: &Errno| matches!(*errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP);
        by_descriptor.into_iter().chain(by_name).find(|errno| !is_no_way(errno))
    }
}
