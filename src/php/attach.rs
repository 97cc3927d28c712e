//! Finding or creating a segment by its key.

use crate::error::{Error, Result};
use crate::os;
use crate::os::sysv_owner::{self, Kind};
use crate::os::sysv_shm::{self, Mapping};
use crate::php::format_new::{format_new, is_begun, is_blank, is_formatted};
use crate::php::header::Header;
use crate::php::layout::HEADER;
use std::io;
use std::time::{Duration, Instant};

/// How long a segment that another process has created is waited for until it is formatted.
const FORMATTED_WITHIN: Duration = Duration::from_millis(100);
/// How often a segment that is removed while it is attached is looked for again.
const ATTEMPTS: u32 = 1_000;

/// What a handle has after it has attached.
pub struct Attached {
    /// The map.
    pub map: Mapping,
    /// The id of the segment.
    pub id: i32,
    /// This call has created the segment.
    pub created: bool,
}

/// Attaches to the segment with a key. `create` is whether it is created: `None` stands for if it is missing.
pub fn attach(key: i32, size: u64, permissions: u32, create: Option<bool>) -> Result<Attached> {
    check_arguments(key, size)?;
    let action = || format!("attaching the segment of PHP's with key {}", name(key));
    for _ in 0..ATTEMPTS {
        let (id, created) = match find_or_create(key, size, permissions, create)? {
            Some(found) => found,
            None => continue,
        };
        let map = match Mapping::new(id) {
            Ok(map) => map,
            // It was removed in between.
            Err(error) if is_gone(&error) => continue,
            Err(error) => {
                let error = match error.raw_os_error() {
                    Some(libc::EACCES) => no_access(key),
                    _ => Error::io(action(), error),
                };
                if created {
                    // Nobody else could attach to it either, and its key would be lost until somebody removes it.
                    let _ = sysv_shm::remove(id);
                }
                return Err(error);
            }
        };
        if created {
            format_new(&map).map_err(|error| with_name(key, error))?;
        } else {
            let formatted = wait_until_formatted(&map, key, id).and_then(|()| Header::read(&map));
            formatted.map_err(|error| with_name(key, error))?;
        }
        return Ok(Attached { map, id, created });
    }
    Err(Error::Busy(format!(
        "the segment of PHP's with key {} was created and removed {ATTEMPTS} times while it was attached",
        name(key)
    )))
}

/// Checks what does not depend on the segment.
fn check_arguments(key: i32, size: u64) -> Result<()> {
    if key == libc::IPC_PRIVATE {
        return Err(Error::Invalid(
            "key 0 makes a new segment each time, which nobody else can attach to: take another key".into(),
        ));
    }
    if size < 1 || size > i64::MAX as u64 {
        return Err(Error::Invalid(format!("the size is {size}, and must be at least 1 and below 2**63")));
    }
    Ok(())
}

/// Returns the id of the segment, and whether it was created by this call. Returns `None` if another process has
/// created or removed it in between.
fn find_or_create(key: i32, size: u64, permissions: u32, create: Option<bool>) -> Result<Option<(i32, bool)>> {
    if create != Some(true) {
        match sysv_shm::find(key) {
            Ok(id) => return Ok(Some((id, false))),
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                return Err(Error::io(format!("looking for the segment of PHP's with key {}", name(key)), error));
            }
            Err(_) if create == Some(false) => {
                return Err(Error::NotFound(format!(
                    "there is no segment of PHP's with key {}: attach with create=None or create=True to make it",
                    name(key)
                )));
            }
            Err(_) => {}
        }
    }
    if size < HEADER {
        return Err(Error::Invalid(format!(
            "a new segment of PHP's needs at least {HEADER} bytes, and a size of {size} was given"
        )));
    }
    match sysv_shm::create(key, size, permissions) {
        Ok(id) => Ok(Some((id, true))),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => match create {
            Some(true) => Err(Error::Exists(format!(
                "there is already a segment with key {}: attach with create=None or create=False, or remove it \
                 (destroy() of its handle; ipcrm -M {key:#010x})",
                name(key)
            ))),
            _ => Ok(None),
        },
        Err(error) => Err(creation_error(key, size, error)),
    }
}

/// Waits until the creator of a segment has formatted it. A segment with other bytes is no segment of PHP's, and one of
/// zeros may be anybody's: it is never formatted here.
fn wait_until_formatted(map: &Mapping, key: i32, id: i32) -> Result<()> {
    if map.size() < HEADER {
        return Ok(());
    }
    let give_up = Instant::now() + FORMATTED_WITHIN;
    let mut pause = Duration::from_micros(20);
    while is_blank(map)? {
        if Instant::now() > give_up {
            return Err(never_formatted(key, id));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    // PHP stores the magic first, and the other numbers a few instructions later; this package stores it last.
    while Header::read(map).is_err() && is_begun(map)? && Instant::now() < give_up {
        std::thread::sleep(Duration::from_millis(1));
    }
    // CRASH: this package was killed while it formatted the segment.
    if is_begun(map)? && !is_formatted(map)? { Err(never_formatted(key, id)) } else { Ok(()) }
}

/// Returns the error for a segment that has no magic, and nothing else either.
fn never_formatted(key: i32, id: i32) -> Error {
    let wait = FORMATTED_WITHIN.as_millis();
    Error::Incompatible(format!(
        "its first bytes are zero, and nobody has formatted it within {wait} ms. It may be another program's; if its \
         creator was killed, remove it (ipcrm -m {id}, or shmop_delete(shmop_open({key}, 'w', 0, 0)) of shmvar.php) \
         and attach again"
    ))
}

/// Returns `true` if a segment was removed while this process was about to use it.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIDRM))
}

/// Returns a key as `ipcs` and PHP write it.
pub fn name(key: i32) -> String {
    format!("{key} ({key:#010x})")
}

/// Returns an error with the name of the segment.
#[cold]
pub fn with_name(key: i32, error: Error) -> Error {
    let named = |text: String| format!("the segment of PHP's with key {}: {text}", name(key));
    match error {
        Error::Corrupt(text) => Error::Corrupt(named(text)),
        Error::Incompatible(text) => Error::Incompatible(named(text)),
        Error::Busy(text) => Error::Busy(named(text)),
        other => other,
    }
}

/// Returns the error for a segment that the system gives no access to.
fn no_access(key: i32) -> Error {
    let found = sysv_owner::owner(Kind::Segment, key);
    let whose = found.map_or_else(|| "it belongs to somebody else".to_owned(), |owner| owner.to_string());
    Error::Access(format!(
        "the segment of PHP's with key {}: the system refuses user {}: {whose}; its owner, or root, has to remove it and \
         to make it with permissions that let this user read and write, as 0o666",
        name(key),
        os::euid()
    ))
}

/// Returns the error for a segment that the system does not create.
fn creation_error(key: i32, size: u64, error: io::Error) -> Error {
    let action = format!("creating the segment of PHP's with key {} and {size} bytes", name(key));
    let remedy = match error.raw_os_error() {
        Some(libc::EINVAL) => "it is larger than the system allows (kernel.shmmax)",
        Some(libc::ENOSPC) => {
            "the system has no more segments or pages for them (kernel.shmmni, kernel.shmall): remove some (ipcs -m)"
        }
        Some(libc::ENOMEM) => "the system has not so much memory",
        Some(libc::EACCES | libc::EPERM) => return Error::Access(format!("{action}: {error}")),
        _ => return Error::io(action, error),
    };
    Error::io(format!("{action}: {remedy}"), error)
}
