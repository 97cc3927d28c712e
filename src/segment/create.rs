//! Making a segment: nameless, filled, then published whole.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::format::identity::Identity;
use crate::format::{GRANULE, Geometry, LeafWord, PAGE, PARTICIPANTS, Root, SpanEntry, SpanState, ZONE, ZONE_META, at};
use crate::key::Key;
use crate::os::bytelock::{self, REGISTRY_BYTE};
use crate::os::map::Mapping;
use crate::os::mem::Mem;
use crate::os::object::{self, Unpublished};
use crate::os::{Limited, limit_of};
use crate::process::at_fork;
use crate::process::attachment::Attachment;
use crate::process::attachment::Opened;
use crate::process::pages::file_system_full;
use crate::process::registration::PreparedChild;
use crate::process::wait_policy::WaitPolicy;
use crate::segment::open::{Attached, Options, is_trusted, refused, release};
use crate::segment::orphan::remove_orphans;
use crate::sync::intent::SpanEdit;
use rustix::io::Errno;
use std::sync::atomic::{AtomicU64, Ordering};

/// The default limit.
const SIZE: u64 = 1 << 30;
/// The arena has this many times the limit of addresses: then fragmentation never decides.
const RESERVE_FACTOR: u64 = 16;
/// More than any address space has, where the memory file system has no size of its own.
const LIMIT_MAX: u64 = 1 << 44;
/// The same, where the addresses of a process are limited.
const RESERVE_FACTOR_NARROW: u64 = 4;
/// And at least this much, so that the limit can be raised later.
const RESERVE_MIN: u64 = 64 << 30;

/// The object's first length: the zones that the limit fills, and some for what lies between values.
fn first_length(geometry: &Geometry, limit: u64) -> u64 {
    geometry.end_of_zones((limit + limit / 8).div_ceil(ZONE * GRANULE) + 1)
}

/// Limit and arena of a new segment.
fn plan(options: &Options) -> Result<(u64, Vec<Geometry>)> {
    let (total, _) = object::file_system()?;
    let (addresses, file) = (limit_of(Limited::Addresses), limit_of(Limited::File));
    let most = addresses.map_or(u64::MAX, |n| n / 2).min(file.unwrap_or(u64::MAX));
    // Nobody asked for a gibibyte: where the limits of this process are narrow, the default is, too.
    let limit = options.size.unwrap_or(SIZE.min(total).min(most / 4).max(1).min(options.reserve.unwrap_or(u64::MAX)));
    if limit > total.min(LIMIT_MAX) {
        let free = object::file_system().map_or(0, |(_, free)| free);
        let remedy = format!(
            "the memory file system {} is smaller than the size asked for: ask for less, or enlarge it (mount -o remount,size=…; \
             docker --shm-size; Kubernetes: a memory emptyDir)",
            object::DIR
        );
        return Err(Error::Full { needed: limit, free, size: total, remedy });
    }
    let zone = ZONE * GRANULE;
    let least = limit.saturating_mul(2).next_multiple_of(zone);
    let want = match (options.reserve, addresses) {
        (Some(reserve), _) => reserve.saturating_mul(2).next_multiple_of(zone),
        (None, None) => limit.saturating_mul(RESERVE_FACTOR).clamp(RESERVE_MIN, 1 << 45).next_power_of_two(),
        // Whoever has few does not spend them on what may never be asked for.
        (None, Some(_)) => limit.saturating_mul(RESERVE_FACTOR_NARROW).next_power_of_two().max(zone),
    };
    let sizes = std::iter::successors(Some(want), |size| Some(size / 2))
        .take_while(|size| *size >= least && *size >= zone && size.is_multiple_of(zone))
        .chain([least])
        .take(if options.reserve.is_some() { 1 } else { usize::MAX });
    let geometries: Vec<_> = sizes.filter_map(|size| Geometry::new(size / GRANULE)).collect();
    let fits = |geometry: &&Geometry| first_length(geometry, limit) <= most;
    let fitting: Vec<_> = geometries.iter().filter(fits).copied().collect();
    if fitting.is_empty() {
        let needed = geometries.iter().map(|geometry| first_length(geometry, limit)).min().unwrap_or(least);
        let smallest = Geometry::new(ZONE).map_or(0, |geometry| first_length(&geometry, 1));
        let remedy = match needed > smallest && options.reserve.is_none_or(|reserve| reserve > limit) {
            true => "raise them, or ask for less: attach(key, size, reserve=size)".into(),
            false => format!("raise them (no segment begins with less than {smallest})"),
        };
        return Err(Error::Full {
            needed,
            free: most,
            size: most,
            remedy: format!(
                "a segment of {limit} bytes begins with {needed} bytes of addresses and as long a file (hardly any of it \
                 memory), and the limits of this process (half of ulimit -v; ulimit -f) leave {most}: {remedy}"
            ),
        });
    }
    Ok((limit, fitting))
}

/// `None`: somebody else was first.
pub fn create(key: &Key, name: &str, options: &Options, policy: &dyn WaitPolicy) -> Result<Option<Attached>> {
    let (limit, geometries) = plan(options)?;
    let new = |mode| {
        Unpublished::new(mode).map_err(|e| match e {
            Errno::NOSPC if object::file_system_objects().is_some_and(|(_, free)| free == 0) => too_many_objects(),
            Errno::NOSPC => file_system_full(GRANULE),
            Errno::ROFS => refused(key, name, e),
            Errno::ACCESS | Errno::PERM => Error::Access(format!(
                "key {key}: this process (uid {}) may not create objects in {}: {e}",
                crate::os::euid(),
                object::DIR
            )),
            e => Error::system(format!("creating a segment in {}", object::DIR), e),
        })
    };
    let object = new(options.perm)?;
    // Where somebody may read who may not write, he could take read locks on the segment itself and stop everybody.
    let reads_only = [6, 3, 0].iter().any(|class| options.perm >> class & 0o6 == 0o4);
    let lock_mode = [6, 3, 0].iter().fold(0, |mode, class| mode | ((options.perm >> class & 0o2) * 3) << class);
    let lock_object = reads_only.then(|| new(lock_mode)).transpose()?;
    let lock_inode = match &lock_object {
        Some(object) => object::status(object.fd()).map_err(|e| Error::system("fstat", e))?.ino,
        None => 0,
    };
    let (mut id, mut hash_key) = ([0; 16], [0; 16]);
    crate::os::random(&mut id)?;
    crate::os::random(&mut hash_key)?;
    let half = |i: usize| u64::from_le_bytes(hash_key[i..i + 8].try_into().expect("eight bytes"));

    let (geometry, mapping) = reserve(&object, &geometries, limit)?;
    let identity = Identity {
        id,
        created_at: crate::os::unix_ns(),
        geometry,
        hash_key: [half(0), half(8)],
        lock_object: lock_inode,
        key: key.clone(),
    };
    format(&object, &mapping.mem(true), &identity, limit)?;
    crash_point!("formatted");

    // Opened while its maker still may, whatever the mode will be: for questions, and for a participant number.
    let carries_locks = lock_object.as_ref().unwrap_or(&object);
    let fresh = || carries_locks.reopen().map_err(|e| Error::system("opening a new segment", e));
    let (query, prepared) = (fresh()?, (fresh()?, fresh()?));

    // The lock object first: nobody meets a segment without one. Nobody knows its name before he reads the segment's id.
    let lock_name = Identity::lock_object_name(&id);
    let lock_fd = match lock_object {
        Some(object) => {
            remove_orphans();
            // SYNC: with `orphan`: named and not locked, it belongs to a segment that is published, or to nobody.
            let _ = bytelock::try_lock(object.fd(), REGISTRY_BYTE);
            Some(object.publish(&lock_name).map_err(|(e, _)| Error::system("publishing the lock object", e))?)
        }
        None => None,
    };
    crash_point!("lock-object-published");
    let fd = match object.publish(name) {
        Ok(fd) => fd,
        Err((error, _)) => {
            if lock_fd.is_some() {
                let _ = object::unlink(&lock_name);
            }
            return match error {
                Errno::EXIST if options.create == Some(true) => Err(Error::Exists(format!(
                    "key {key}: a segment, or a file of its name, is there already ({}/{name})",
                    object::DIR
                ))),
                Errno::EXIST => Ok(None),
                error => Err(Error::system(format!("publishing {}/{name}", object::DIR), error)),
            };
        }
    };
    crash_point!("published");
    lock_fd.as_ref().inspect(|fd| drop(bytelock::unlock(fd, REGISTRY_BYTE)));
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
    *attachment.registration.child.lock() =
        PreparedChild { fds: Some(prepared), pid: crate::os::pid(), ..PreparedChild::default() };
    {
        let mut process = at_fork::lock();
        process.sweep();
        process.add(&attachment);
    }
    attachment.registration.handles.fetch_add(1, Ordering::SeqCst);
    attachment.member(policy).inspect_err(|_| {
        withdraw(&attachment);
        release(&attachment);
    })?;
    Ok(Some(Attached { attachment, created: true, trusted }))
}

/// A segment that was published by a call that fails after all: nothing that it made stays, unless somebody was there already.
/// Who comes at this very moment has a segment that was destroyed, as at any other.
fn withdraw(att: &Attachment) {
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

/// Not its bytes: its inodes are used up.
fn too_many_objects() -> Error {
    let (size, free) = object::file_system().unwrap_or((0, 0));
    let (objects, _) = object::file_system_objects().unwrap_or((0, 0));
    let remedy = format!(
        "but there are too many objects: the memory file system {} may have {objects} (nr_inodes), and has them; destroy \
         segments, or mount -o remount,nr_inodes=…",
        object::DIR
    );
    Error::Full { needed: GRANULE, free, size, remedy }
}

/// Gives the object its first length and maps it: the largest reserve that this process's limits allow.
fn reserve(object: &Unpublished, geometries: &[Geometry], limit: u64) -> Result<(Geometry, Mapping)> {
    let mut last = None;
    for geometry in geometries {
        let length = first_length(geometry, limit);
        let sized = rustix::fs::ftruncate(object.fd(), length);
        match sized.map_err(|e| Error::system("sizing a segment", e)) {
            Ok(()) => match Mapping::new(object.fd(), length, true) {
                Ok(mapping) => return Ok((*geometry, mapping)),
                Err(error) => last = Some(error),
            },
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("at least one geometry"))
}

/// Fills a new segment: nobody else sees it yet.
fn format(object: &Unpublished, mem: &Mem, identity: &Identity, limit: u64) -> Result<()> {
    let geo = &identity.geometry;
    // Two directories and two leaves, a granule each, are the first four of the arena.
    let pages = [
        (0, at::PARTICIPANTS + PAGE),
        (at::SUMMARY / PAGE * PAGE, PAGE),
        (geo.zone_at(0), ZONE_META),
        (geo.granule_at(0), 4 * GRANULE),
    ];
    for (offset, len) in pages {
        object::obtain(object.fd(), offset, len).map_err(|e| match e {
            Errno::NOSPC | Errno::NOMEM | Errno::DQUOT => file_system_full(len),
            e => Error::system("obtaining pages", e),
        })?;
    }
    mem.copy_in(0, &[&identity.to_bytes()])?;
    let (state, arena) = (mem.state(), Arena { mem, geo });
    state.limit.store(limit, Ordering::Relaxed);
    arena.open_zones(1)?;
    state.zones.store(1, Ordering::Relaxed);
    for (first, root) in [(0, &state.root), (2, &state.names)] {
        let edit = |granule, state| SpanEdit { granule, before: SpanEntry(0), after: SpanEntry::new(state, 1) };
        arena.apply_span(&edit(first, SpanState::Directory))?;
        arena.apply_span(&edit(first + 1, SpanState::Leaf))?;
        let word = LeafWord::new(first + 1, 0, 1, 1);
        mem.at::<AtomicU64>(geo.granule_at(first))?.store(word.0, Ordering::Relaxed);
        root.store(Root::new(first, 0, 1).0, Ordering::Release);
    }
    Ok(())
}
