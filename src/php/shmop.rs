//! Raw System V segments, as PHP's `shmop_*` functions use them ("Raw segments" in `docs/php.md`).

use crate::error::{Error, Result};
use crate::os;
use crate::os::fork::ForkMutex;
use crate::os::sysv_raw::RawMap;
use crate::os::sysv_shm;
use std::fmt;
use std::io;
use std::sync::Arc;

/// How a segment is opened: PHP's four letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `a`: one that is there, for reading alone.
    Access,
    /// `c`: one that is there, or a new one.
    Create,
    /// `n`: a new one.
    New,
    /// `w`: one that is there, also for writing.
    Write,
}

impl Mode {
    /// The mode with this letter.
    pub fn of(letter: &str) -> Option<Self> {
        Some(match letter {
            "a" => Mode::Access,
            "c" => Mode::Create,
            "n" => Mode::New,
            "w" => Mode::Write,
            _ => return None,
        })
    }

    /// Whether a segment may be made.
    pub fn creates(self) -> bool {
        matches!(self, Mode::Create | Mode::New)
    }
}

/// Private to the process: a handle on a raw segment.
pub struct Shmop {
    key: i32,
    id: i32,
    size: u64,
    readonly: bool,
    /// `None`: the handle was closed. A child keeps it, because it is only ever changed in one step.
    map: ForkMutex<Option<Arc<RawMap>>>,
}

/// How a key is named in errors.
struct Key(i32);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} (0x{:08x})", self.0, self.0)
    }
}

impl Shmop {
    /// Opens a segment. `size` and `permissions` are those of a new one.
    pub fn open(key: i32, mode: Mode, permissions: u32, size: u64) -> Result<Self> {
        let fail = |id: i32, error| open_error(key, id, mode, size, error);
        loop {
            if mode != Mode::New {
                match sysv_shm::find(key) {
                    Ok(id) => return Self::attach(key, id, mode, size, fail),
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) && mode.creates() => {}
                    Err(error) => return Err(fail(-1, error)),
                }
            }
            match sysv_shm::create(key, size, permissions) {
                Ok(id) => {
                    // Where it cannot be attached, for lack of addresses or of rights, nothing stays.
                    return Self::attach(key, id, mode, size, fail).inspect_err(|_| drop(sysv_shm::remove(id)));
                }
                // Somebody else has made it just now.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) && mode == Mode::Create => {}
                Err(error) => return Err(fail(-1, error)),
            }
        }
    }

    fn attach(key: i32, id: i32, mode: Mode, size: u64, fail: impl Fn(i32, io::Error) -> Error) -> Result<Self> {
        let readonly = mode == Mode::Access;
        let map = RawMap::new(id, readonly).map_err(|error| fail(id, error))?;
        if mode == Mode::Create && size > map.size() {
            return Err(Error::Incompatible(format!(
                "{}: there is a segment of {} bytes, fewer than the {size} that were asked for; open it with mode \"w\", \
                 or remove it first (ipcrm -m {id})",
                Key(key),
                map.size()
            )));
        }
        let (size, map) = (map.size(), ForkMutex::keeping(Some(Arc::new(map))));
        Ok(Shmop { key, id, size, readonly, map })
    }

    /// The key.
    pub fn key(&self) -> i32 {
        self.key
    }

    /// The kernel's number of the segment.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The size, as the kernel tells it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the handle is for reading alone.
    pub fn is_readonly(&self) -> bool {
        self.readonly
    }

    /// Whether the handle was closed.
    pub fn is_closed(&self) -> bool {
        self.map.lock().is_none()
    }

    /// The map, which stays while somebody has it.
    pub fn map(&self) -> Result<Arc<RawMap>> {
        self.map.lock().clone().ok_or(Error::Detached)
    }

    /// Ends the handle. The segment stays. A second call does nothing.
    pub fn close(&self) {
        let map = self.map.lock().take();
        drop(map);
    }

    /// Removes the segment: its key is free at once, its memory when nobody has it open any more.
    pub fn delete(&self) -> Result<()> {
        sysv_shm::remove(self.id).map_err(|error| match error.raw_os_error() {
            Some(libc::EIDRM | libc::EINVAL) => {
                Error::NotFound(format!("{}: the segment (id {}) was removed before", Key(self.key), self.id))
            }
            Some(libc::EPERM | libc::EACCES) => Error::Access(format!(
                "{}: the system does not let user {} remove the segment{}; only its owner, its maker or root may do that",
                Key(self.key),
                os::euid(),
                owner(self.id)
            )),
            _ => Error::io(format!("{}: cannot remove the segment", Key(self.key)), error),
        })
    }
}

/// Whose a segment is, for messages.
fn owner(id: i32) -> String {
    match sysv_shm::status(id) {
        Ok(status) => format!(" of uid {} with mode 0{:03o}", status.uid, status.permissions),
        Err(_) => String::new(),
    }
}

#[cold]
fn open_error(key: i32, id: i32, mode: Mode, size: u64, error: io::Error) -> Error {
    let key = Key(key);
    let limit = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}"));
        text.map_or("unknown".to_owned(), |text| text.trim().to_owned())
    };
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EIDRM) => Error::NotFound(format!(
            "{key}: there is no segment; modes \"a\" and \"w\" open what is there, \"c\" and \"n\" make one"
        )),
        Some(libc::EEXIST) => {
            Error::Exists(format!("{key}: there is a segment already; mode \"c\" opens it, \"n\" makes a new one"))
        }
        Some(libc::EACCES) => Error::Access(format!(
            "{key}: the system does not let user {} open the segment{} for {}{}",
            os::euid(),
            owner(id),
            if mode == Mode::Access { "reading" } else { "writing" },
            if mode == Mode::Access { "" } else { "; mode \"a\" reads alone" }
        )),
        Some(libc::EINVAL) => Error::Invalid(format!(
            "{key}: a segment of {size} bytes cannot be made: the kernel makes them of 1 to {} bytes \
             (/proc/sys/kernel/shmmax)",
            limit("shmmax")
        )),
        Some(libc::ENOSPC) => Error::io(
            format!(
                "{key}: a segment of {size} bytes cannot be made: the machine has as many as it may ({}, \
                 /proc/sys/kernel/shmmni) or as many pages ({}, /proc/sys/kernel/shmall); remove what nobody uses \
                 (ipcs -m, ipcrm -m ID), or raise them",
                limit("shmmni"),
                limit("shmall")
            ),
            error,
        ),
        _ => Error::io(format!("{key}: cannot open a segment of {size} bytes"), error),
    }
}
