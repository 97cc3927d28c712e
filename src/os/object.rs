//! Objects of the memory file system: made nameless, published whole, opened with suspicion.

use crate::error::{Error, Result};
use crate::fallible;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Where POSIX shared memory objects live on Linux.
pub const DIR: &str = "/dev/shm";
/// What a temporary name begins with, where nameless files are not to be had.
pub const TEMPORARY_PREFIX: &str = "shmvar-tmp.";

/// What the kernel says of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of stat(2)")]
pub struct Status {
    pub dev: u64,
    pub ino: u64,
    pub uid: u32,
    /// Permission bits.
    pub mode: u32,
    pub nlink: u64,
    pub size: u64,
    /// Bytes of memory it takes.
    pub resident: u64,
    pub regular: bool,
    /// Nanoseconds since 1970: contents, mode or name changed last.
    pub changed_at: u64,
}

impl Status {
    /// The same object?
    pub fn same(&self, other: &Status) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    #[allow(clippy::unnecessary_cast, reason = "the types of stat differ between architectures")]
    fn new(stat: &fs::Stat) -> Self {
        Status {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            uid: stat.st_uid,
            mode: stat.st_mode as u32 & 0o7777,
            nlink: stat.st_nlink as u64,
            size: stat.st_size as u64,
            resident: stat.st_blocks as u64 * 512,
            regular: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            changed_at: (stat.st_ctime as u64).wrapping_mul(1_000_000_000).wrapping_add(stat.st_ctime_nsec as u64),
        }
    }
}

fn path(name: impl AsRef<OsStr>) -> PathBuf {
    [OsStr::new(DIR), name.as_ref()].iter().collect()
}

/// Opens by name; neither follows links nor waits for a pipe's other end.
pub fn open(name: impl AsRef<OsStr>, write: bool) -> rustix::io::Result<OwnedFd> {
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    fs::open(path(name), flags, Mode::empty())
}

/// A new description of the object behind a descriptor.
pub fn reopen(fd: BorrowedFd<'_>, write: bool) -> rustix::io::Result<OwnedFd> {
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    // Without `NONBLOCK` it would wait for whoever has a lease on it.
    fs::open(by_descriptor(fd), access | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
}

fn by_descriptor(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Of an open object.
pub fn status(fd: impl AsFd) -> rustix::io::Result<Status> {
    Ok(Status::new(&fs::fstat(fd)?))
}

/// Of a name, links not followed.
pub fn status_of(name: impl AsRef<OsStr>) -> rustix::io::Result<Status> {
    Ok(Status::new(&fs::statat(CWD, path(name), AtFlags::SYMLINK_NOFOLLOW)?))
}

/// An object that has no name yet, or a temporary one. Dropped unpublished, it leaves nothing.
pub struct Unpublished {
    fd: Option<OwnedFd>,
    mode: u32,
    temporary: Option<String>,
}

impl Unpublished {
    /// A new, empty object that will have exactly this mode; until it is published, its maker may open it anew.
    pub fn new(mode: u32) -> rustix::io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let made = match fs::open(DIR, flags | OFlags::TMPFILE, Mode::RUSR | Mode::WUSR) {
            // Without /proc nothing leads from a descriptor to a name, nor to another description: a name does.
            Ok(fd) if fs::stat(by_descriptor(fd.as_fd())).is_ok() => {
                Unpublished { fd: Some(fd), mode, temporary: None }
            }
            Ok(_) | Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Self::temporary(mode)?,
            Err(error) => return Err(error),
        };
        Ok(made)
    }

    /// A new description of it, whatever mode it will have.
    pub fn reopen(&self) -> rustix::io::Result<OwnedFd> {
        match &self.temporary {
            Some(name) => open(name, true),
            None => reopen(self.fd(), true),
        }
    }

    fn temporary(mode: u32) -> rustix::io::Result<Self> {
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        let name = format!("{TEMPORARY_PREFIX}{:016x}", u64::from_ne_bytes(bytes));
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let fd = fs::open(path(&name), flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Unpublished { fd: Some(fd), mode, temporary: Some(name) })
    }

    /// To fill it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("until published").as_fd()
    }

    /// Gives it its name, unless that is taken (`EXIST`).
    pub fn publish(mut self, name: &str) -> std::result::Result<OwnedFd, (Errno, Self)> {
        // Not through the umask.
        let moded = fs::fchmod(self.fd(), Mode::from_raw_mode(self.mode));
        let done = moded.and_then(|()| match &self.temporary {
            Some(temporary) => fs::renameat_with(CWD, path(temporary), CWD, path(name), RenameFlags::NOREPLACE),
            None => {
                // CRASH: before this line nothing is left, after it a whole segment.
                fs::linkat(CWD, by_descriptor(self.fd()), CWD, path(name), AtFlags::SYMLINK_FOLLOW)
            }
        });
        if let Err(error) = done {
            return Err((error, self));
        }
        self.temporary = None;
        Ok(self.fd.take().expect("until published"))
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        if let Some(name) = &self.temporary {
            let _ = unlink(name);
        }
    }
}

/// Removes a name.
pub fn unlink(name: impl AsRef<OsStr>) -> rustix::io::Result<()> {
    fs::unlink(path(name))
}

/// All names of the directory that begin with `prefix`, in order.
pub fn list(prefix: &str) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(DIR).map_err(unlisted)? {
        let name = entry.map_err(unlisted)?.file_name();
        if name.as_bytes().starts_with(prefix.as_bytes()) {
            fallible::push(&mut names, name, "a list of names")?;
        }
    }
    // In place: no name is there twice, and no memory is needed for it.
    names.sort_unstable();
    Ok(names)
}

/// All names of a directory that has no more than so many.
pub fn list_few(most: usize) -> Option<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(DIR).ok()? {
        names.try_reserve(1).ok()?;
        names.push(entry.ok()?.file_name());
        if names.len() > most {
            return None;
        }
    }
    Some(names)
}

fn unlisted(error: std::io::Error) -> Error {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        // The C library reads a directory by pieces of this many bytes.
        Some(Errno::NOMEM) => Error::Memory { asked: 32 << 10, what: "a list of names" },
        Some(errno) => directory_error("listing", errno),
        None => Error::io(format!("listing {DIR}"), error),
    }
}

/// What an error means that came from the directory itself.
fn directory_error(action: &str, errno: Errno) -> Error {
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Error::Access(format!(
            "no shared memory here: {DIR} is no directory (after a chroot, or in a container without one?); mount a tmpfs \
             there, mode 1777"
        )),
        Errno::ACCESS | Errno::PERM => Error::Access(format!(
            "permission denied in {DIR}: this process is uid {}, and the directory's mode should be 1777",
            crate::os::euid()
        )),
        errno => Error::system(format!("{action} {DIR}"), errno),
    }
}

/// The directory itself, or an error that says what is lacking: where a name was not found, is it for want of a place to look?
pub fn directory() -> Result<Status> {
    fs::stat(DIR)
        .map(|stat| (FileType::from_raw_mode(stat.st_mode), Status::new(&stat)))
        .and_then(|(kind, status)| if kind == FileType::Directory { Ok(status) } else { Err(Errno::NOTDIR) })
        .map_err(|errno| directory_error("looking at", errno))
}

/// Makes pages present. A full file system is an error and leaves nothing behind.
pub fn obtain(fd: impl AsFd, offset: u64, len: u64) -> rustix::io::Result<()> {
    #[cfg(feature = "crash-points")]
    crate::crash_point::pages()?;
    retry(|| fs::fallocate(&fd, FallocateFlags::KEEP_SIZE, offset, len))
}

/// Gives pages back.
pub fn punch(fd: impl AsFd, offset: u64, len: u64) -> rustix::io::Result<()> {
    retry(|| fs::fallocate(&fd, FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE, offset, len))
}

fn retry(mut call: impl FnMut() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// How far into a file this process may write (`ulimit -f`), where that is limited.
pub fn may_write_to() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Fsize).current
}

/// Writes all of it, making pages present.
pub fn write_at(fd: impl AsFd, mut bytes: &[u8], mut offset: u64) -> rustix::io::Result<()> {
    #[cfg(feature = "crash-points")]
    crate::crash_point::pages()?;
    // Beyond it the kernel sends SIGXFSZ, too, which ends a program that does not ignore it.
    if may_write_to().is_some_and(|most| offset.saturating_add(bytes.len() as u64) > most) {
        return Err(Errno::FBIG);
    }
    while !bytes.is_empty() {
        match rustix::io::pwrite(&fd, bytes, offset) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads as much as there is, up to the whole of `bytes`.
pub fn read_at(fd: impl AsFd, bytes: &mut [u8], mut offset: u64) -> rustix::io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pread(&fd, &mut bytes[done..], offset) {
            Ok(0) => break,
            Ok(n) => {
                done += n;
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Size of the memory file system and what is free of it, in bytes; no limit shows as `u64::MAX`.
pub fn file_system() -> Result<(u64, u64)> {
    let stat = fs::statvfs(DIR).map_err(|errno| directory_error("looking at", errno))?;
    if stat.f_blocks == 0 {
        return Ok((u64::MAX, u64::MAX));
    }
    Ok((stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// Objects that the memory file system may have, and how many more; `None` where it does not count them.
pub fn file_system_objects() -> Option<(u64, u64)> {
    let stat = fs::statvfs(DIR).ok()?;
    (stat.f_files != 0).then_some((stat.f_files, stat.f_favail))
}

/// Is it descriptors that are lacking? For where the kernel's answer was lost on the way.
pub fn no_descriptors(action: &str) -> Option<Error> {
    match fs::open(DIR, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(error @ (Errno::MFILE | Errno::NFILE)) => Some(Error::system(action, error)),
        _ => None,
    }
}
