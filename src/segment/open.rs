//! Finding and mapping a segment by its key.

use crate::coordination::above::Above;
use crate::error::{Error, Result};
use crate::format::identity::{Identity, Unverified};
use crate::format::{GRANULE, IDENTITY_LEN, State, ZONE, at};
use crate::key::Key;
use crate::os::map::Mapping;
use crate::os::object::{self, Status};
use crate::process::at_fork;
use crate::process::attachment::{Attachment, Opened};
use crate::process::wait_policy::{WAIT_LIMIT, WaitPolicy};
use crate::process::writer::set_above;
use crate::segment::create::create;
use crate::segment::limit::raise;
use crate::segment::state_snapshot::StateSnapshot;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How to attach.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of values the segment may hold. `None`: 1 GiB, or what the memory file system has where that is less; of one
    /// that exists, what it has.
    pub size: Option<u64>,
    /// Bytes up to which the size of a segment that is created can ever be raised. `None`: 8 times the size and at least 32 GiB, or
    /// less where this process may take few addresses.
    pub reserve: Option<u64>,
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
        Options { size: None, reserve: None, perm: 0o600, create: None, readonly: false, trust: None, id: None }
    }
}

/// Half of the granules that the format can number, in whole zones.
const RESERVE_MAX: u64 = ((1 << 32) / ZONE - 1) * ZONE * GRANULE / 2;

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
pub fn attach(key: &Key, options: &Options, policy: &dyn WaitPolicy) -> Result<Attached> {
    set_above(&Above);
    check(options)?;
    let name = key.object_name();
    let none = || Error::NotFound(format!("no segment of key {key} ({}/{name})", object::DIR));
    for _ in 0..TRIES {
        match open_patiently(&name, !options.readonly, policy)? {
            Ok(fd) => {
                if options.create == Some(true) {
                    return Err(Error::Exists(format!(
                        "key {key}: a segment, or a file of its name, is there already ({}/{name})",
                        object::DIR
                    )));
                }
                let opened = open(key, &name, fd, options, policy);
                if let Some(attached) = opened.map_err(|error| with_remedy(error, key, &name))? {
                    return Ok(attached);
                }
            }
            Err(Errno::NOENT) if options.create == Some(false) || options.readonly || options.id.is_some() => {
                object::directory()?;
                return Err(none());
            }
            Err(Errno::NOENT) => {
                if let Some(attached) = create(key, &name, options, policy)? {
                    return Ok(attached);
                }
            }
            Err(error) => return Err(refused(key, &name, error)),
        }
        policy.interrupted()?;
    }
    Err(Error::Busy(format!("key {key}: it is created and destroyed faster than it can be opened: try again")))
}

fn check(options: &Options) -> Result<()> {
    if options.size == Some(0) {
        return Err(Error::Invalid("size must be at least 1 byte".into()));
    }
    if let Some(reserve) = options.reserve {
        if reserve < options.size.unwrap_or(1) {
            let size = options.size.unwrap_or(1);
            return Err(Error::Invalid(format!("reserve is {reserve}, less than the size of {size} bytes")));
        }
        if reserve > RESERVE_MAX {
            return Err(Error::Invalid(format!("reserve is {reserve}, and may be {RESERVE_MAX} at most")));
        }
    }
    if options.perm & !0o777 != 0 {
        return Err(Error::Invalid(format!("perm {:#o} has bits beyond 0o777", options.perm)));
    }
    if options.readonly && options.create == Some(true) {
        return Err(Error::Invalid("create=True and readonly=True exclude each other".into()));
    }
    Ok(())
}

/// Opens by name. Where a process has a lease on it (`F_SETLEASE`), the kernel asks that one to let go: it has 10 s.
fn open_patiently(name: &str, write: bool, policy: &dyn WaitPolicy) -> Result<rustix::io::Result<OwnedFd>> {
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

/// Says with an error what can be done about what is at a segment's name and cannot be attached.
fn with_remedy(error: Error, key: &Key, name: &str) -> Error {
    let status = object::status_of(name);
    if status.as_ref().is_ok_and(|status| !status.regular) {
        // `destroy` leaves that alone, and the error says what removes it.
        return error;
    }
    let uid = status.map_or_else(|_| crate::os::euid(), |status| status.uid);
    let remedy = format!(
        "if nobody needs it any more, its owner (uid {uid}) or root can remove it: shmvar.destroy({key}), or `shmvar remove`"
    );
    match error {
        Error::Incompatible(text) => Error::Incompatible(format!("{text}; {remedy}")),
        Error::Corrupt(text) => Error::Corrupt(format!("{text}; {remedy}")),
        other => other,
    }
}

/// What is no regular file is not ours to remove, whoever asks.
fn strange(name: &str, what: &str, remove: &str) -> Error {
    let dir = object::DIR;
    Error::Incompatible(format!(
        "{dir}/{name} is {what}, not a segment; it was not touched; if it is nobody's: {remove} '{dir}/{name}'"
    ))
}

/// What the system's refusal to open means.
pub fn refused(key: &Key, name: &str, error: Errno) -> Error {
    let status = object::status_of(name);
    match error {
        Errno::NOTDIR => object::directory().err().unwrap_or_else(|| Error::system(object::DIR, error)),
        Errno::LOOP => strange(name, "a symbolic link", "rm"),
        Errno::ISDIR => strange(name, "a directory", "rmdir"),
        Errno::NXIO | Errno::NODEV => strange(name, "a pipe, socket or device", "rm"),
        Errno::AGAIN => Error::Busy(format!(
            "key {key}: a process has a lease on {}/{name} (fcntl F_SETLEASE; lslocks shows its pid) and has not let go for \
             {} s: end it, or wait, for the kernel takes the lease away (fs.lease-break-time)",
            object::DIR,
            WAIT_LIMIT.as_secs()
        )),
        Errno::ROFS => Error::Access(format!(
            "key {key}: {} is mounted read-only: mount -o remount,rw {0}; or attach with readonly=True",
            object::DIR
        )),
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
    if !status.regular {
        return Err(strange(name, "no regular file", "rm"));
    }
    // More names than one are no harm: whose it is, who may write, and which key it has are asked of the object itself.
    if status.nlink == 0 {
        return Ok(None);
    }
    let mut bytes = [0; IDENTITY_LEN];
    let len = object::read_at(fd, &mut bytes, 0).map_err(|e| Error::system("reading the identity", e))?;
    let identity = Unverified::new(&bytes[..len]).finalize(name, status.size)?;
    if key.is_some_and(|key| *key != identity.key) {
        let (key, found) = (key.expect("just asked"), &identity.key);
        return Err(Error::Incompatible(format!("{}/{name} says its key is {found}, not {key}", object::DIR)));
    }
    let mut gone = [0; 4];
    let gone_at = at::STATE + std::mem::offset_of!(State, gone) as u64;
    object::read_at(fd, &mut gone, gone_at).map_err(|e| Error::system("reading the segment", e))?;
    if gone != [0; 4] {
        return match object::status_of(name) {
            Ok(now) if now.is_same_object(&status) => Err(Error::corrupt(format_args!(
                "{name} says that it was destroyed, and has its name: somebody who had another name for it gave it this one \
                 again, or changed its bytes"
            ))),
            _ => Ok(None),
        };
    }
    Ok(Some((identity, status)))
}

/// `None`: it vanished meanwhile, look again.
fn open(key: &Key, name: &str, fd: OwnedFd, options: &Options, policy: &dyn WaitPolicy) -> Result<Option<Attached>> {
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
        let lock_name = Identity::lock_object_name(&identity.id);
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

/// A handle is detached or dropped: with the last one the participant number goes.
pub fn release(attachment: &Attachment) {
    if attachment.registration.handles.fetch_sub(1, Ordering::SeqCst) == 1 {
        attachment.deregister();
    }
}

/// Could nobody but this user and root have written to it?
pub fn is_trusted(status: &Status) -> bool {
    distrust(status).is_none()
}

/// Who else could have written to it?
pub fn distrust(status: &Status) -> Option<&'static str> {
    // In a user namespace every unmapped owner shows as the overflow uid.
    if status.uid == crate::os::overflow_uid() {
        return Some("its owner has no number of his own here");
    }
    if status.uid != crate::os::euid() && status.uid != 0 {
        return Some("it is another user's");
    }
    (status.mode & 0o022 != 0).then_some("group or others may write to it")
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
            let lock_name = Identity::lock_object_name(&identity.id);
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
                    Ok(now) if now.is_same_object(&status) => {
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
    let again = |fd: &OwnedFd| object::status(fd).is_ok_and(|now| now.is_same_object(status));
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
    let mapping = Mapping::new_or_shorter(fd.as_fd(), status.size.min(most), least, write)?;
    Ok(Some((mapping, Some(fd))))
}
