//! The registry lock: who holds it may claim participants' numbers, and reap.

use crate::error::{Error, Result};
use crate::os::bytelock::{self, Anchor, REGISTRY_BYTE};
use crate::os::fork::ForkGuard;
use crate::os::map::is_descriptor_of;
use crate::os::object::{self, Status};
use crate::process::at_fork::{self, Process};
use crate::process::attachment::Attachment;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::{WAIT_LIMIT, WaitPolicy};
use rustix::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// The registry lock, and the process's own mutex with it.
pub struct RegistryLock {
    _process: ForkGuard<'static, Process>,
    held: RegistryGuard,
}

pub enum RegistryGuard {
    /// A description of this act alone: unmapping it lets go. Closing descriptors does not.
    Anchored(#[allow(dead_code, reason = "held, not looked at")] Anchor),
    /// The process's query description, where privileges were dropped and no fresh one is to be had.
    Descriptor(OwnedFd),
}

impl RegistryLock {
    /// If it can be had without a wait, by a caller who may hold anything.
    pub fn at_once(att: &Attachment) -> Option<Self> {
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

/// Tries for the registry lock of the object behind `fd`.
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

/// Waits for the registry lock: sliced, bounded, interruptible.
fn wait_registry(
    mut attempt: impl FnMut() -> Result<Option<RegistryGuard>>,
    name: &str,
    policy: &dyn WaitPolicy,
) -> Result<RegistryLock> {
    let (began, mut pause) = (Instant::now(), Duration::from_micros(50));
    loop {
        // The mutex goes with each attempt: a fork must not wait for somebody else's registry lock.
        let process = at_fork::lock();
        if let Some(held) = attempt()? {
            return Ok(RegistryLock { _process: process, held });
        }
        drop(process);
        if began.elapsed() > WAIT_LIMIT {
            return Err(Error::Busy(format!(
                "{name}: its registry lock was not to be had for {} s: a process that has it is stopped (SIGSTOP, a debugger), or \
                 means ill; lslocks shows its pid: let it go on or end it",
                WAIT_LIMIT.as_secs()
            )));
        }
        policy.sleep(&Sleep::pause(pause).short());
        policy.interrupted()?;
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// The registry lock of a segment that is not attached, through a descriptor of the object that carries its locks.
pub fn registry_of(fd: &OwnedFd, name: &str, policy: &dyn WaitPolicy) -> Result<RegistryLock> {
    let status = object::status(fd).map_err(|e| Error::system("fstat", e))?;
    let fresh = || object::reopen(fd.as_fd(), true).ok();
    let other = || rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|e| Error::system("a descriptor", e));
    wait_registry(|| try_registry(fresh(), other, &status), name, policy)
}

impl Attachment {
    /// A description of the lock object that nobody else has. `None` where the system refuses (dropped privileges).
    pub fn fresh_description(&self) -> Option<OwnedFd> {
        let reopened = self.with_locks(true, |fd| object::reopen(fd, true));
        let fd = match reopened {
            Ok(Ok(fd)) => fd,
            _ => object::open(self.lock_name(), true).ok()?,
        };
        is_descriptor_of(&fd, &self.object.lock_status).then_some(fd)
    }

    /// The registry lock.
    pub fn registry(&self, policy: &dyn WaitPolicy) -> Result<RegistryLock> {
        let own = || {
            let duplicate = |fd: rustix::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
            // Only this process's own description: an inherited one is also the parent's.
            if self.number_now().is_some() {
                return self.with_locks(true, duplicate)?.map_err(|e| Error::system("a descriptor", e));
            }
            let prepared = self.registration.child.lock();
            match &prepared.fds {
                Some((_, query))
                    if prepared.pid == crate::os::pid() && is_descriptor_of(query, &self.object.lock_status) =>
                {
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

    pub fn no_description(&self) -> Error {
        if let Some(error) = object::descriptor_shortage("taking part in a segment") {
            return error;
        }
        Error::Access(format!(
            "{}: this process may not open the segment (mode {:o}, owner {}), so it cannot take part in it: attach before \
             the privileges are dropped, or fork through os.fork",
            self.object.name, self.object.status.mode, self.object.status.uid
        ))
    }
}
