//! Finding, making and mapping a segment by its key; unlinking it.

use crate::arena::{Arena, pages_of};
use crate::error::{Error, Result};
use crate::identity::{Identity, Unverified};
use crate::intent::{Change, Counters};
use crate::key::Key;
use crate::layout::{
    Entry, GRANULE, Geometry, IDENTITY_LEN, PAGE, Root, SLOTS_MIN_LOG2, SpanState, ZONE, ZONE_ORDER, at,
};
use crate::mem::Mem;
use crate::os::fork::ForkMutex;
use crate::os::map::Mapping;
use crate::os::object::{self, Status, Unpublished};
use crate::segment::attachment::{Attachment, Descriptor, Patience};
use crate::segment::membership::registry_of;
use crate::segment::process;
use crate::segment::room::file_system_full;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How to attach.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of values the segment may hold. `None`: 1 GiB, or what the memory file system has where that is less; of one
    /// that exists, what it has.
    pub size: Option<u64>,
    /// Mode of a segment that is created, exactly.
    pub perm: u32,
    /// `None` opens or creates, `Some(true)` must create, `Some(false)` must exist.
    pub create: Option<bool>,
    /// Never change anything.
    pub readonly: bool,
    /// May values run code when they are read? `None`: if nobody but this user and root could have written them.
    pub trust: Option<bool>,
    /// Only the segment of this creation id will do.
    pub id: Option<[u8; 16]>,
}

impl Default for Options {
    fn default() -> Self {
        Options { size: None, perm: 0o600, create: None, readonly: false, trust: None, id: None }
    }
}

/// The default limit.
const SIZE: u64 = 1 << 30;
/// The arena has this many times the limit of addresses: then fragmentation never decides.
const RESERVE_FACTOR: u64 = 16;
/// And at least this much, so that the limit can be raised later.
const RESERVE_MIN: u64 = 64 << 30;
/// Tries at a key that others create and destroy meanwhile.
const TRIES: u32 = 1000;

/// An attached segment.
pub struct Attached {
    /// The process's half.
    pub attachment: Arc<Attachment>,
    /// Did this call create it?
    pub created: bool,
    /// May values run code?
    pub trusted: bool,
}

/// Attaches. See [`Options`].
pub fn attach(key: &Key, options: &Options, patience: &dyn Patience) -> Result<Attached> {
    check(options)?;
    let name = key.object_name();
    let none = || Error::NotFound(format!("no segment of key {key} ({}/{name})", object::DIR));
    for _ in 0..TRIES {
        match object::open(&name, !options.readonly) {
            Ok(fd) => {
                if options.create == Some(true) {
                    return Err(Error::Exists(format!(
                        "key {key}: a segment is there already ({}/{name})",
                        object::DIR
                    )));
                }
                if let Some(attached) = open(key, &name, fd, options, patience)? {
                    return Ok(attached);
                }
            }
            Err(Errno::NOENT) if options.create == Some(false) || options.readonly || options.id.is_some() => {
                return Err(none());
            }
            Err(Errno::NOENT) => {
                if let Some(attached) = create(key, &name, options, patience)? {
                    return Ok(attached);
                }
            }
            Err(error) => return Err(refused(key, &name, error)),
        }
        patience.interrupted()?;
    }
    Err(Error::Busy(format!("key {key}: it is created and destroyed faster than it can be opened")))
}

fn check(options: &Options) -> Result<()> {
    if options.size == Some(0) {
        return Err(Error::Invalid("size must be at least 1 byte".into()));
    }
    if options.perm & !0o777 != 0 {
        return Err(Error::Invalid(format!("perm {:#o} has bits beyond 0o777", options.perm)));
    }
    if options.readonly && options.create == Some(true) {
        return Err(Error::Invalid("create=True and readonly=True exclude each other".into()));
    }
    Ok(())
}

/// What the system's refusal to open means.
fn refused(key: &Key, name: &str, error: Errno) -> Error {
    let status = object::status_of(name);
    let strange = |what: &str| {
        Error::Incompatible(format!("key {key}: {}/{name} is {what}, not a segment; it was not touched", object::DIR))
    };
    match error {
        Errno::LOOP => strange("a symbolic link"),
        Errno::ISDIR => strange("a directory"),
        Errno::NXIO | Errno::NODEV => strange("a pipe, socket or device"),
        Errno::ACCESS | Errno::PERM => match status {
            Ok(s) => Error::Access(format!(
                "key {key}: permission denied; the segment {}/{name} belongs to uid {} with mode {:#o}, this process is uid {}",
                object::DIR,
                s.uid,
                s.mode,
                crate::os::euid()
            )),
            Err(_) => Error::Access(format!("key {key}: permission denied in {}", object::DIR)),
        },
        error => Error::system(format!("opening {}/{name}", object::DIR), error),
    }
}

/// Reads and believes the identity of an open object.
pub fn identify(key: Option<&Key>, name: &str, fd: &OwnedFd) -> Result<Option<(Identity, Status)>> {
    let status = object::status(fd).map_err(|e| Error::system("fstat", e))?;
    if !status.regular || status.nlink > 1 {
        let what =
            if status.regular { format!("a file with {} names", status.nlink) } else { "no regular file".into() };
        return Err(Error::Incompatible(format!(
            "{}/{name} is {what}, not a segment; it was not touched",
            object::DIR
        )));
    }
    if status.nlink == 0 {
        return Ok(None);
    }
    let mut bytes = [0; IDENTITY_LEN];
    let len = object::read_at(fd, &mut bytes, 0).map_err(|e| Error::system("reading the identity", e))?;
    let identity = Unverified::new(&bytes[..len]).finalize(name, &status)?;
    if key.is_some_and(|key| *key != identity.key) {
        let (key, found) = (key.expect("just asked"), &identity.key);
        return Err(Error::Incompatible(format!("{}/{name} says its key is {found}, not {key}", object::DIR)));
    }
    Ok(Some((identity, status)))
}

/// `None`: it vanished meanwhile, look again.
fn open(key: &Key, name: &str, fd: OwnedFd, options: &Options, patience: &dyn Patience) -> Result<Option<Attached>> {
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
    let trusted = options.trust.unwrap_or_else(|| is_trusted(&status));
    let mut process = process::lock();
    let known = process.find(status.dev, status.ino, !options.readonly);
    let attachment = match known {
        Some(attachment) => {
            drop(process);
            attachment
        }
        None => {
            let Some(attachment) = map(identity, name, status, fd, !options.readonly)? else { return Ok(None) };
            let attachment = Arc::new(attachment);
            process.sweep();
            process.add(&attachment);
            drop(process);
            attachment
        }
    };
    attachment.handles.fetch_add(1, Ordering::SeqCst);
    let attached = Attached { attachment, created: false, trusted };
    if !options.readonly {
        attached.attachment.member(patience).inspect_err(|_| release(&attached.attachment))?;
        if let Some(size) = options.size {
            attached.attachment.raise(size, patience).inspect_err(|_| release(&attached.attachment))?;
        }
    }
    Ok(Some(attached))
}

/// A handle is detached or dropped: with the last one the participant number goes.
pub fn release(attachment: &Attachment) {
    if attachment.handles.fetch_sub(1, Ordering::SeqCst) == 1 {
        attachment.deregister();
    }
}

/// Could nobody but this user and root have written to it?
fn is_trusted(status: &Status) -> bool {
    // In a user namespace every unmapped owner shows as the overflow uid.
    let owner = (status.uid == crate::os::euid() || status.uid == 0) && status.uid != crate::os::overflow_uid();
    owner && status.mode & 0o022 == 0
}

fn map(identity: Identity, name: &str, status: Status, fd: OwnedFd, write: bool) -> Result<Option<Attachment>> {
    let mapping = match write {
        true => match Mapping::named(name, &status, fd.as_fd()) {
            Ok(mapping) if mapping.len() == status.size => mapping,
            // The name was gone, or another's, when it was opened again.
            Ok(_) => return Ok(None),
            Err(error) => match object::status_of(name) {
                Ok(now) if now.same(&status) => return Err(error),
                _ => return Ok(None),
            },
        },
        false => Mapping::of(fd.as_fd(), status.size, false)?,
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
                Err(error) => return Err(Error::system(format!("opening {lock_name}"), error)),
            }
        }
    };
    let attachment = assemble(identity, name, status, lock_status, mapping, fd, lock_fd, write);
    // The mapping came by name: is it the object that was parsed?
    if attachment.mapped_id()? != attachment.identity.id {
        return Ok(None);
    }
    Ok(Some(attachment))
}

#[allow(clippy::too_many_arguments, reason = "one constructor, two callers")]
fn assemble(
    identity: Identity,
    name: &str,
    status: Status,
    lock_status: Status,
    mapping: Mapping,
    fd: OwnedFd,
    lock_fd: Option<OwnedFd>,
    write: bool,
) -> Attachment {
    let query = lock_fd.or_else(|| object::reopen(fd.as_fd(), write).ok());
    Attachment {
        mem: mapping.mem(write),
        _mapping: mapping,
        identity,
        name: name.into(),
        status,
        lock_status,
        file: Descriptor::new(Some(fd)),
        query: Descriptor::new(query),
        member: AtomicU64::new(0),
        active: AtomicU64::new(0),
        anchor: ForkMutex::new(None),
        child: ForkMutex::new(Default::default()),
        chores: ForkMutex::new(Vec::new()),
        has_chores: AtomicBool::new(false),
        pins: ForkMutex::new(Default::default()),
        sound_root: AtomicU64::new(0),
        handles: AtomicU64::new(0),
    }
}

impl Attachment {
    /// The creation id that the mapping holds.
    fn mapped_id(&self) -> Result<[u8; 16]> {
        let mut bytes = Vec::new();
        self.mem.read_into(24, 16, &mut bytes)?;
        Ok(bytes.try_into().expect("sixteen bytes"))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // The last of it: nobody is inside.
        self.let_go();
        self.file.replace(None, &self.status);
        self.query.replace(None, &self.lock_status);
    }
}

/// Limit and arena of a new segment.
fn plan(options: &Options) -> Result<(u64, Vec<Geometry>)> {
    let (total, _) = object::file_system()?;
    let limit = options.size.unwrap_or(SIZE.min(total));
    if limit > total {
        let free = object::file_system().map_or(0, |(_, free)| free);
        let remedy = format!(
            "the memory file system {} is smaller than the size asked for: ask for less, or enlarge it (mount -o remount,size=…; \
             docker --shm-size; Kubernetes: a memory emptyDir)",
            object::DIR
        );
        return Err(Error::Full { needed: limit, free, size: total, remedy });
    }
    let (addresses, file) = crate::os::limits();
    let most = addresses.map_or(u64::MAX, |n| n / 2).min(file.unwrap_or(u64::MAX));
    let zone = ZONE * GRANULE;
    let want = limit.saturating_mul(RESERVE_FACTOR).max(RESERVE_MIN).min(1 << 45).next_power_of_two();
    let least = limit.saturating_mul(2).next_multiple_of(zone);
    let sizes =
        std::iter::successors(Some(want), |size| Some(size / 2)).take_while(|size| *size >= least && *size >= zone);
    let geometries: Vec<_> =
        sizes.filter_map(|size| Geometry::new(size / GRANULE)).filter(|geometry| geometry.length <= most).collect();
    if geometries.is_empty() {
        return Err(Error::Busy(format!(
            "a segment of {limit} bytes reserves at least {least} bytes of addresses; the limits of this process allow {most} \
             (ulimit -v, ulimit -f): raise them"
        )));
    }
    Ok((limit, geometries))
}

/// `None`: somebody else was first.
fn create(key: &Key, name: &str, options: &Options, patience: &dyn Patience) -> Result<Option<Attached>> {
    let (limit, geometries) = plan(options)?;
    let new = |mode| {
        Unpublished::new(mode).map_err(|e| match e {
            Errno::NOSPC => file_system_full(GRANULE),
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Error::Access(format!(
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
    let lock_mode = [6, 3, 0].iter().fold(0, |mode, class| mode | (options.perm >> class & 0o2) * 3 << class);
    let lock_object = reads_only.then(|| new(lock_mode)).transpose()?;
    let lock_inode = match &lock_object {
        Some(object) => object::status(object.fd()).map_err(|e| Error::system("fstat", e))?.ino,
        None => 0,
    };
    let (mut id, mut hash_key) = ([0; 16], [0; 16]);
    crate::os::random(&mut id)?;
    crate::os::random(&mut hash_key)?;
    let half = |i: usize| u64::from_le_bytes(hash_key[i..i + 8].try_into().expect("eight bytes"));

    let (geometry, mapping) = reserve(&object, &geometries)?;
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

    // The lock object first: nobody meets a segment without one. Nobody knows its name before he reads the segment's id.
    let lock_name = Identity::lock_name(&id);
    let lock_fd = match lock_object {
        Some(object) => {
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
                Errno::EXIST if options.create == Some(true) => {
                    Err(Error::Exists(format!("key {key}: a segment is there already ({}/{name})", object::DIR)))
                }
                Errno::EXIST => Ok(None),
                error => Err(Error::system(format!("publishing {}/{name}", object::DIR), error)),
            };
        }
    };
    crash_point!("published");
    let status = object::status(&fd).map_err(|e| Error::system("fstat", e))?;
    let lock_status = match &lock_fd {
        Some(fd) => object::status(fd).map_err(|e| Error::system("fstat", e))?,
        None => status,
    };
    let trusted = options.trust.unwrap_or_else(|| is_trusted(&status));
    let attachment = Arc::new(assemble(identity, name, status, lock_status, mapping, fd, lock_fd, true));
    {
        let mut process = process::lock();
        process.sweep();
        process.add(&attachment);
    }
    attachment.handles.fetch_add(1, Ordering::SeqCst);
    attachment.member(patience).inspect_err(|_| release(&attachment))?;
    Ok(Some(Attached { attachment, created: true, trusted }))
}

/// Gives the object its length and maps it: the largest reserve that this process's limits allow.
fn reserve(object: &Unpublished, geometries: &[Geometry]) -> Result<(Geometry, Mapping)> {
    let mut last = None;
    for geometry in geometries {
        let sized = rustix::fs::ftruncate(object.fd(), geometry.length);
        match sized.map_err(|e| Error::system("sizing a segment", e)) {
            Ok(()) => match Mapping::of(object.fd(), geometry.length, true) {
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
    let pages = [
        (0, at::PARTICIPANTS + PAGE),
        (at::SUMMARY / PAGE * PAGE, PAGE),
        (geo.zone_at(0), GRANULE),
        (geo.granule_at(0), GRANULE),
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
    state.zones.store(1, Ordering::Relaxed);
    let mut change = Change::new(Counters::read(state));
    arena.plan_free(0, Entry(0), ZONE_ORDER, pages_of(0), &mut change)?;
    arena.apply_span(&change.spans[0])?;
    arena.make_sticky(0, 0)?;
    let mut change = Change::new(Counters::read(state));
    let table = Entry::new(SpanState::Table, 0).with_sticky();
    let Some((granule, _)) = arena.plan_take(0, table, &mut change)? else { return Err(Error::corrupt("a new arena")) };
    for edit in &change.spans {
        arena.apply_span(edit)?;
    }
    state.root.store(Root::new(granule as u32, SLOTS_MIN_LOG2, 1).0, Ordering::Release);
    Ok(())
}

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
    // CRASH: an empty lock object stays, which nobody will ask for.
    if let Some(lock_name) = lock_name {
        let _ = object::unlink(lock_name);
    }
    Ok(true)
}

impl Attachment {
    /// Unlinks this very segment, if its name still means it.
    pub fn destroy(&self, patience: &dyn Patience) -> Result<()> {
        let lock_name = (self.identity.lock_object != 0).then(|| self.lock_name());
        let duplicate = |fd: rustix::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
        let fd = self
            .query
            .with(&self.lock_name(), &self.lock_status, self.mem.writable(), duplicate)?
            .map_err(|e| Error::system("a descriptor", e))?;
        if unlink(&self.identity.key, &self.name, &self.status, &fd, lock_name.as_deref(), patience)? {
            self.state().gone.store(1, Ordering::Release);
        }
        Ok(())
    }

    /// Raises the limit to `size`; never lowers it.
    pub fn raise(&self, size: u64, patience: &dyn Patience) -> Result<()> {
        if size > self.state().limit.load(Ordering::Relaxed) { self.set_limit(size, true, patience) } else { Ok(()) }
    }

    /// Changes the limit: not below what is used, not beyond what the segment or the memory file system can hold.
    pub fn set_limit(&self, size: u64, only_raise: bool, patience: &dyn Patience) -> Result<()> {
        let (total, free) = object::file_system()?;
        if size > total {
            let remedy = format!("the memory file system {} is smaller than that: enlarge it first", object::DIR);
            return Err(Error::Full { needed: size, free, size: total, remedy });
        }
        let most = self.identity.geometry.granules * GRANULE / 2;
        if size > most {
            return Err(Error::Full {
                needed: size,
                free: most,
                size: most,
                remedy:
                    "the reserve of addresses was fixed when the segment was created: create it anew with this size"
                        .into(),
            });
        }
        let writer = self.write(patience)?;
        let used = self.state().used.load(Ordering::Relaxed);
        let now = self.state().limit.load(Ordering::Relaxed);
        if size < used {
            return Err(Error::Full {
                needed: used,
                free: size,
                size: now,
                remedy: format!("the limit cannot go below the {used} bytes that are used: remove variables first"),
            });
        }
        if !only_raise || size > now {
            self.state().limit.store(size, Ordering::Release);
        }
        drop(writer);
        Ok(())
    }
}
