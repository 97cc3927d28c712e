//! Unlinking a segment: by its key, or this very one.

use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::key::Key;
use crate::layout::at;
use crate::os::object::{self, Status};
use crate::segment::attachment::{Attachment, Patience};
use crate::segment::open::{identify, refused};
use crate::segment::orphan::remove_orphans;
use crate::segment::registry::registry_of;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::atomic::Ordering;

/// Unlinks a segment by its key, waiting in the caller's way. False: there was none.
pub fn destroy_with(key: &Key, patience: &dyn Patience) -> Result<bool> {
    let name = key.object_name();
    let fd = match object::open(&name, true).or_else(|_| object::open(&name, false)) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(refused(key, &name, error)),
    };
    let Some((identity, status)) = identify(Some(key), &name, &fd)? else { return Ok(false) };
    let lock_name = Identity::lock_name(&identity.id);
    let lock_fd = match identity.lock_object {
        0 => None,
        _ => object::open(&lock_name, true).ok(),
    };
    unlink(
        key,
        &name,
        &status,
        lock_fd.as_ref().unwrap_or(&fd),
        (identity.lock_object != 0).then_some(&*lock_name),
        patience,
    )
    .inspect(|_| {
        let gone = at::STATE + std::mem::offset_of!(crate::layout::State, gone) as u64;
        let _ = object::write_at(&fd, &1_u32.to_ne_bytes(), gone);
        crash_point!("gone-stored");
    })
}

/// Is there an object of this key's name? Whether it can be attached is another question.
pub fn exists(key: &Key) -> bool {
    object::status_of(&key.object_name()).is_ok_and(|status| status.regular)
}

/// Unlinks a name if it still means this object, under the registry lock that lives on `lock_fd`.
fn unlink(
    key: &Key,
    name: &str,
    status: &Status,
    lock_fd: &OwnedFd,
    lock_name: Option<&str>,
    patience: &dyn Patience,
) -> Result<bool> {
    // Without permission to lock there is nobody whom the lock would keep from binding the name anew, either.
    let _registry = match registry_of(lock_fd, name, patience) {
        Ok(registry) => Some(registry),
        Err(Error::Access(_) | Error::System { .. }) => None,
        Err(error) => return Err(error),
    };
    match object::status_of(name) {
        Ok(now) if now.same(status) => {}
        _ => return Ok(false),
    }
    object::unlink(name).map_err(|e| match e {
        Errno::ACCESS | Errno::PERM => Error::Access(format!(
            "key {key}: {}/{name} belongs to uid {} (mode {:#o}); only its owner and root may destroy it",
            object::DIR,
            status.uid,
            status.mode
        )),
        e => Error::system(format!("unlinking {}/{name}", object::DIR), e),
    })?;
    crash_point!("unlinked");
    // CRASH: an empty lock object stays, until somebody makes or removes another one.
    if let Some(lock_name) = lock_name {
        let _ = object::unlink(lock_name);
        crash_point!("lock-object-unlinked");
        remove_orphans();
    }
    Ok(true)
}

impl Attachment {
    /// Unlinks this very segment, if its name still means it.
    pub fn destroy(&self, patience: &dyn Patience) -> Result<()> {
        let lock_name = (self.identity.lock_object != 0).then(|| self.lock_name());
        let duplicate = |fd: rustix::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
        let fd = self.with_locks(self.mem.writable(), duplicate)?.map_err(|e| Error::system("a descriptor", e))?;
        if unlink(&self.identity.key, &self.name, &self.status, &fd, lock_name.as_deref(), patience)? {
            self.state().gone.store(1, Ordering::SeqCst);
            crash_point!("gone-stored");
            self.ring_all();
        }
        Ok(())
    }
}
