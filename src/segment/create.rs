//! Creating a segment: an object without a name is filled, and then gets its name at once, whole. Where the segment
//! exists already is not decided here, but in `attach`. Protocol: docs/protocol.md, "Creating"; the bytes:
//! docs/format.md, "Overall".

use crate::error::{Error, Lack, Result};
use crate::format::identity::Identity;
use crate::format::{GRANULE, Geometry, PARTICIPANTS};
use crate::key::Key;
use crate::os::bytelock::{self, REGISTRY_BYTE};
use crate::os::description::MarkedFd;
use crate::os::object::{self, Unpublished};
use crate::process::at_fork;
use crate::process::attachment::Attachment;
use crate::process::attachment::Opened;
use crate::process::pages::file_system_full;
use crate::process::registration::PreparedChild;
use crate::process::wait_policy::WaitPolicy;
use crate::segment::attached::{AttachedSegment, release};
use crate::segment::initialise::{initialise, size_and_map};
use crate::segment::open_errors::{exists_already, open_error};
use crate::segment::options::Options;
use crate::segment::orphan::remove_orphans;
use crate::segment::sizes::plan_sizes;
use crate::segment::trust::is_trusted;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::atomic::Ordering;

/// Creates the segment of a key, and attaches to it. `None` if another process has created it first.
pub fn create(key: &Key, name: &str, options: &Options, policy: &dyn WaitPolicy) -> Result<Option<AttachedSegment>> {
    let (limit, geometries) = plan_sizes(options)?;
    let object = new_object(key, name, options.perm)?;
    let lock_object = lock_object_mode(options.perm).map(|mode| new_object(key, name, mode)).transpose()?;
    let (geometry, mapping) = size_and_map(&object, &geometries, limit)?;
    let identity = new_identity(key, geometry, lock_object.as_ref())?;
    initialise(&object, &mapping.mem(true), &identity, limit, options.evict)?;
    crash_point!("formatted");

    // More descriptions of the object that carries the locks, for questions about locks and for a participant number:
    // opened now, since the mode may not let the maker open it later.
    let carries_locks = lock_object.as_ref().unwrap_or(&object);
    let fresh = || carries_locks.reopen().map_err(|e| Error::system("opening a new segment", e));
    let (query, prepared) = (fresh()?, (fresh()?, fresh()?));

    let (fd, lock_fd) = match publish(object, name, lock_object, &Identity::lock_object_name(&identity.id))? {
        Ok(published) => published,
        Err(Errno::EXIST) if options.create == Some(true) => return Err(exists_already(key, name)),
        Err(Errno::EXIST) => return Ok(None),
        Err(error) => return Err(Error::system(format!("publishing {}/{name}", object::DIR), error)),
    };
    let status = object::status(&fd).map_err(|e| Error::system("fstat", e))?;
    let lock_status = match &lock_fd {
        Some(fd) => object::status(fd).map_err(|e| Error::system("fstat", e))?,
        None => status,
    };
    let trusted = options.trust.unwrap_or_else(|| is_trusted(&status));
    let attachment = Attachment::new(Opened {
        identity,
        name,
        status,
        lock_status,
        mapping,
        fd: Some(fd),
        query: Some(query),
        write: true,
    })
    .into_shared();
    let marked = |fd| MarkedFd::new(fd, &lock_status);
    let fds = Some((marked(prepared.0), marked(prepared.1)));
    *attachment.registration.child.lock() = PreparedChild { fds, pid: crate::os::pid(), ..PreparedChild::default() };
    {
        let mut process = at_fork::lock();
        process.forget_dropped();
        process.add(&attachment);
    }
    attachment.registration.handles.fetch_add(1, Ordering::SeqCst);
    attachment.register(policy).inspect_err(|_| {
        unpublish(&attachment);
        release(&attachment);
    })?;
    Ok(Some(AttachedSegment { attachment, created: true, trusted }))
}

/// Makes an object without a name.
fn new_object(key: &Key, name: &str, mode: u32) -> Result<Unpublished> {
    Unpublished::new(mode).map_err(|e| match e {
        Errno::NOSPC if object::file_system_objects().is_some_and(|(_, free)| free == 0) => too_many_objects(),
        Errno::NOSPC => file_system_full(GRANULE, object::file_system()),
        Errno::ROFS => open_error(key, name, e),
        Errno::ACCESS | Errno::PERM => Error::Access(format!(
            "key {key}: this process (uid {}) may not create objects in {}: {e}",
            crate::os::euid(),
            object::DIR
        )),
        e => Error::system(format!("creating a segment in {}", object::DIR), e),
    })
}

/// The mode of the lock object of a segment with this mode. `None` if the segment needs none.
///
/// A user that may open the segment only for reading could still take read locks on it, and stop everybody. So if the
/// mode has such users, the locks are on a second object, which only those may open that may write.
fn lock_object_mode(perm: u32) -> Option<u32> {
    let reads_only = [6, 3, 0].iter().any(|class| perm >> class & 0o6 == 0o4);
    reads_only.then(|| [6, 3, 0].iter().fold(0, |mode, class| mode | ((perm >> class & 0o2) * 3) << class))
}

/// The identity of a new segment, with a random id and a random key for its hashes.
fn new_identity(key: &Key, geometry: Geometry, lock_object: Option<&Unpublished>) -> Result<Identity> {
    let lock_object = match lock_object {
        Some(object) => object::status(object.fd()).map_err(|e| Error::system("fstat", e))?.ino,
        None => 0,
    };
    let (mut id, mut hash_key) = ([0; 16], [0; 16]);
    crate::os::random(&mut id)?;
    crate::os::random(&mut hash_key)?;
    let half = |i: usize| u64::from_le_bytes(hash_key[i..i + 8].try_into().expect("eight bytes"));
    let created_at = crate::os::unix_ns();
    Ok(Identity { id, created_at, geometry, hash_key: [half(0), half(8)], lock_object, key: key.clone() })
}

/// The descriptors of a published segment, and of its lock object if it has one.
type Published = (OwnedFd, Option<OwnedFd>);

/// Gives a segment and its lock object their names. If the segment's name cannot be had, nothing stays, and the
/// system's answer is returned.
///
/// The lock object comes first, so that nobody meets a segment without one. Its name is the segment's random id, which
/// nobody knows before reading it in the segment.
fn publish(
    object: Unpublished,
    name: &str,
    lock_object: Option<Unpublished>,
    lock_name: &str,
) -> Result<rustix::io::Result<Published>> {
    let lock_fd = match lock_object {
        Some(object) => {
            remove_orphans();
            // SYNC: with `remove` in orphan.rs: a lock object that is named and not locked belongs to a published
            // segment, or to none.
            let _ = bytelock::try_lock(object.fd(), REGISTRY_BYTE);
            Some(object.publish(lock_name).map_err(|(e, _)| Error::system("publishing the lock object", e))?)
        }
        None => None,
    };
    crash_point!("lock-object-published");
    let fd = match object.publish(name) {
        Ok(fd) => fd,
        Err((error, _)) => {
            if lock_fd.is_some() {
                let _ = object::unlink(lock_name);
            }
            return Ok(Err(error));
        }
    };
    crash_point!("published");
    lock_fd.as_ref().inspect(|fd| drop(bytelock::unlock(fd, REGISTRY_BYTE)));
    Ok(Ok((fd, lock_fd)))
}

/// Takes a published segment back, because the call that made it fails after all. Nothing stays of it, unless another
/// process takes part already. A process that attaches at this very moment has a segment that was destroyed, which can
/// happen at any moment.
fn unpublish(att: &Attachment) {
    let used = |n| att.participant(n).is_some_and(|record| record.state.load(Ordering::Acquire) != 0);
    if (0..PARTICIPANTS).any(used)
        || !object::status_of(&att.object.name).is_ok_and(|now| now.is_same_object(&att.object.status))
    {
        return;
    }
    let _ = object::unlink(&att.object.name);
    if att.identity.lock_object != 0 {
        let _ = object::unlink(att.lock_name());
    }
    att.state().gone.store(1, Ordering::SeqCst);
}

/// The error for a memory file system whose inodes, not bytes, are used up.
fn too_many_objects() -> Error {
    let (size, free) = object::file_system().unwrap_or((0, 0));
    let (objects, _) = object::file_system_objects().unwrap_or((0, 0));
    let remedy = format!(
        "but there are too many objects: the memory file system {} may have {objects} (nr_inodes), and has them; destroy \
         segments, or mount -o remount,nr_inodes=…",
        object::DIR
    );
    Error::Full { lack: Lack::Other, needed: GRANULE, free, size, remedy }
}
