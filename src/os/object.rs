//! Objects of the memory file system: creating one without a name, publishing it, opening, listing and unlinking names,
//! and obtaining and punching pages.
//!
//! What is in an object is not known here. The protocols are "Opening" and "Pages" in `docs/protocol.md`.

use crate::error::{Error, Result};
use crate::fallible;
use crate::os::scratch::CopyTarget;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The directory of POSIX shared memory objects on Linux.
pub const DIR: &str = "/dev/shm";
/// The start of a temporary name. Such a name is used where the file system has no files without a name.
pub const TEMPORARY_PREFIX: &str = "shmvar-tmp.";

/// Private to the process: the status of an object, as `stat(2)` returned it.
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
    /// Bytes of memory that the object takes.
    pub resident: u64,
    /// The object is a regular file.
    pub regular: bool,
    /// Time of the last change of contents, mode or name, in nanoseconds since 1970.
    pub changed_at: u64,
}

impl Status {
    /// Returns `true` if both are of the same object (device and inode).
    pub fn is_same_object(&self, other: &Status) -> bool {
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

/// Returns the path of an object.
fn path(name: impl AsRef<OsStr>) -> PathBuf {
    [OsStr::new(DIR), name.as_ref()].iter().collect()
}

/// Opens an object by name. It follows no symbolic link, and does not wait for the other end of a pipe.
pub fn open(name: impl AsRef<OsStr>, write: bool) -> rustix::io::Result<OwnedFd> {
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    beyond_the_streams(fs::open(path(name), flags, Mode::empty())?)
}

/// Gives a descriptor another number if it has that of a standard stream, which is so where the program closed one. C
/// libraries print to these numbers whatever is behind them: the text of an error would be written over the segment.
fn beyond_the_streams(fd: OwnedFd) -> rustix::io::Result<OwnedFd> {
    const STREAMS: i32 = 3;
    if fd.as_raw_fd() >= STREAMS { Ok(fd) } else { rustix::io::fcntl_dupfd_cloexec(&fd, STREAMS) }
}

/// Opens the object of a descriptor again: the result is a new open file description of it.
pub fn reopen(fd: BorrowedFd<'_>, write: bool) -> rustix::io::Result<OwnedFd> {
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    // Without `NONBLOCK` the call would wait for a process that has a lease on the object.
    let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK;
    beyond_the_streams(fs::open(by_descriptor(fd), flags, Mode::empty())?)
}

/// Returns a path that leads to the object of a descriptor.
fn by_descriptor(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Returns the status of an open object.
pub fn status(fd: impl AsFd) -> rustix::io::Result<Status> {
    Ok(Status::new(&fs::fstat(fd)?))
}

/// Returns the status of the object with this name. It follows no symbolic link.
pub fn status_of(name: impl AsRef<OsStr>) -> rustix::io::Result<Status> {
    Ok(Status::new(&fs::statat(CWD, path(name), AtFlags::SYMLINK_NOFOLLOW)?))
}

/// Returns `true` if this is a descriptor of the object with that status. User code may have closed the descriptor, and
/// its number may be another file's.
pub fn is_descriptor_of(fd: impl AsFd, of: &Status) -> bool {
    status(fd).is_ok_and(|found| found.is_same_object(of))
}

/// Private to the process: an object that has no name yet, or a temporary one. If it is dropped unpublished, nothing is
/// left of it.
pub struct Unpublished {
    /// `None` once the object was published.
    fd: Option<OwnedFd>,
    /// The mode that the object gets when it is published.
    mode: u32,
    /// The temporary name, if the object has one.
    temporary: Option<String>,
}

impl Unpublished {
    /// Creates an empty object that will have exactly this mode. Until it is published, only its maker can open it.
    pub fn new(mode: u32) -> rustix::io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let opened = fs::open(DIR, flags | OFlags::TMPFILE, Mode::RUSR | Mode::WUSR);
        let made = match opened.and_then(beyond_the_streams) {
            // Without /proc, an object without a name could neither be given one nor be opened again. So it gets a
            // temporary name.
            Ok(fd) if fs::stat(by_descriptor(fd.as_fd())).is_ok() => {
                Unpublished { fd: Some(fd), mode, temporary: None }
            }
            Ok(_) | Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Self::temporary(mode)?,
            Err(error) => return Err(error),
        };
        Ok(made)
    }

    /// Opens the object again for reading and writing, whatever mode it will have.
    pub fn reopen(&self) -> rustix::io::Result<OwnedFd> {
        match &self.temporary {
            Some(name) => open(name, true),
            None => reopen(self.fd(), true),
        }
    }

    /// Creates an empty object with a temporary name.
    fn temporary(mode: u32) -> rustix::io::Result<Self> {
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        let name = format!("{TEMPORARY_PREFIX}{:016x}", u64::from_ne_bytes(bytes));
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let fd = beyond_the_streams(fs::open(path(&name), flags, Mode::RUSR | Mode::WUSR)?)?;
        Ok(Unpublished { fd: Some(fd), mode, temporary: Some(name) })
    }

    /// Returns a descriptor of the object, so that its maker can fill it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("until published").as_fd()
    }

    /// Gives the object its mode and its name.
    ///
    /// # Errors
    /// [`Errno::EXIST`] if another object has the name. The object comes back with the error, unpublished.
    pub fn publish(mut self, name: &str) -> std::result::Result<OwnedFd, (Errno, Self)> {
        // `fchmod` sets the mode exactly; the umask would take bits away from the mode of `open`.
        let moded = fs::fchmod(self.fd(), Mode::from_raw_mode(self.mode));
        let done = moded.and_then(|()| match &self.temporary {
            Some(temporary) => fs::renameat_with(CWD, path(temporary), CWD, path(name), RenameFlags::NOREPLACE),
            None => {
                // CRASH: before this call nothing is left; after it, a complete segment is.
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

/// Returns all names in the directory that begin with `prefix`, in order.
pub fn list(prefix: &str) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(DIR).map_err(listing_error)? {
        let name = entry.map_err(listing_error)?.file_name();
        if name.as_bytes().starts_with(prefix.as_bytes()) {
            fallible::push(&mut names, name, "a list of names")?;
        }
    }
    // The unstable sort needs no memory. No name occurs twice, so its order is as good as that of a stable one.
    names.sort_unstable();
    Ok(names)
}

/// Returns all names in the directory, or `None` if it has more than `most`, or cannot be read.
pub fn list_at_most(most: usize) -> Option<Vec<OsString>> {
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

/// Returns the error for a directory that could not be read.
fn listing_error(error: std::io::Error) -> Error {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        // The C library reads a directory through a buffer of this many bytes.
        Some(Errno::NOMEM) => Error::Memory { asked: 32 << 10, what: "a list of names" },
        Some(errno) => directory_error("listing", errno),
        None => Error::io(format!("listing {DIR}"), error),
    }
}

/// Returns the error for a call on the directory itself that failed with `errno`.
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

/// Returns the status of the directory.
///
/// # Errors
/// An error with a remedy if there is no such directory. A caller that did not find a name asks this to tell the two
/// apart.
pub fn directory() -> Result<Status> {
    fs::stat(DIR)
        .map(|stat| (FileType::from_raw_mode(stat.st_mode), Status::new(&stat)))
        .and_then(|(kind, status)| if kind == FileType::Directory { Ok(status) } else { Err(Errno::NOTDIR) })
        .map_err(|errno| directory_error("looking at", errno))
}

/// Makes the pages of a range present. If the file system is full, the call fails and obtains no page.
pub fn obtain(fd: impl AsFd, offset: u64, len: u64) -> rustix::io::Result<()> {
    #[cfg(feature = "crash-points")]
    crate::crash_point::pages()?;
    retry(|| fs::fallocate(&fd, FallocateFlags::KEEP_SIZE, offset, len))
}

/// Gives the pages of a range back to the system. The range reads as zeros afterwards.
pub fn punch(fd: impl AsFd, offset: u64, len: u64) -> rustix::io::Result<()> {
    retry(|| fs::fallocate(&fd, FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE, offset, len))
}

/// Returns whether any page of a range has been written. One that was obtained and not written does not count.
pub fn has_data(fd: impl AsFd, offset: u64, len: u64) -> bool {
    // Where the system cannot tell, there may be some.
    match seek_apart(fd.as_fd(), SeekFrom::Data(offset)) {
        Ok(at) => at < offset + len,
        Err(error) => error != Errno::NXIO,
    }
}

/// Returns where the first page of a range is that was not written. `None`: all of them were.
pub fn first_hole(fd: impl AsFd, offset: u64, len: u64) -> Option<u64> {
    match seek_apart(fd.as_fd(), SeekFrom::Hole(offset)) {
        Ok(at) => (at < offset + len).then_some(at),
        Err(_) => Some(offset),
    }
}

/// Returns a place in a file. The file position stays as it is: it tells the description from others, also in a forked
/// child, which may ask for it at any time. So a description of its own is moved.
fn seek_apart(fd: BorrowedFd<'_>, to: SeekFrom) -> rustix::io::Result<u64> {
    if let Ok(own) = reopen(fd, false) {
        return fs::seek(&own, to);
    }
    // Without /proc, the right to open the object, or a free descriptor, the position is moved for an instant.
    let before = fs::seek(fd, SeekFrom::Current(0));
    let found = fs::seek(fd, to);
    if let Ok(before) = before {
        let _ = fs::seek(fd, SeekFrom::Start(before));
    }
    found
}

/// Repeats a call while a signal interrupts it.
fn retry(mut call: impl FnMut() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Writes all of `bytes` at an offset. Pages that were not present become so.
pub fn write_at(fd: impl AsFd, mut bytes: &[u8], mut offset: u64) -> rustix::io::Result<()> {
    #[cfg(feature = "crash-points")]
    crate::crash_point::pages()?;
    // A write beyond the limit would fail and also raise SIGXFSZ, which ends a program that does not ignore it.
    let limit = super::limit_of(super::Limited::File);
    if limit.is_some_and(|limit| offset.saturating_add(bytes.len() as u64) > limit) {
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

/// Reads from an offset until `bytes` is full or the file ends. Returns the number of bytes that were read.
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

/// Fills memory from an offset on. Returns the number of bytes that were there.
pub fn fill_from(fd: impl AsFd, to: &mut CopyTarget<'_>, mut offset: u64) -> rustix::io::Result<usize> {
    let mut done = 0;
    while done < to.len() {
        match rustix::io::pread(&fd, to.from(done), offset) {
            Ok(([], _)) => break,
            Ok((filled, _)) => {
                done += filled.len();
                offset += filled.len() as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Returns the size of the memory file system and what is free of it, in bytes. Both are `u64::MAX` if it has no limit.
pub fn file_system() -> Result<(u64, u64)> {
    fs::statvfs(DIR).map(|stat| size_and_free(&stat)).map_err(|errno| directory_error("looking at", errno))
}

/// Returns the same of the file system of an open object. Its directory need not be there any more (after a chroot).
pub fn file_system_of(fd: impl AsFd) -> Result<(u64, u64)> {
    fs::fstatvfs(fd).map(|stat| size_and_free(&stat)).map_err(|errno| Error::system("fstatvfs", errno))
}

fn size_and_free(stat: &fs::StatVfs) -> (u64, u64) {
    if stat.f_blocks == 0 {
        return (u64::MAX, u64::MAX);
    }
    (stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Returns how many objects the memory file system may have, and how many more it may get. Returns `None` if it does
/// not count them.
pub fn file_system_objects() -> Option<(u64, u64)> {
    let stat = fs::statvfs(DIR).ok()?;
    (stat.f_files != 0).then_some((stat.f_files, stat.f_favail))
}

/// Returns an error if this process, or the machine, has no free descriptor. Called where an open failed and the reason
/// is not known any more.
pub fn descriptor_shortage(action: &str) -> Option<Error> {
    match fs::open(DIR, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(error @ (Errno::MFILE | Errno::NFILE)) => Some(Error::system(action, error)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn looking_for_data_and_holes_moves_no_description() {
        const POSITION: u64 = 12_345;
        const LOOKS: u64 = 200_000;
        let object = Unpublished::new(0o600).unwrap();
        fs::ftruncate(object.fd(), 3 << 12).unwrap();
        write_at(object.fd(), &[1], 1 << 12).unwrap();
        fs::seek(object.fd(), SeekFrom::Start(POSITION)).unwrap();
        let looks = AtomicU64::new(0);
        let moved = std::thread::scope(|scope| {
            // As a process does that shares the description.
            let looker = scope.spawn(|| {
                let mut moved = 0;
                while looks.fetch_add(1, Ordering::Relaxed) < LOOKS {
                    moved += u64::from(fs::seek(object.fd(), SeekFrom::Current(0)).unwrap() != POSITION);
                }
                moved
            });
            while looks.load(Ordering::Relaxed) < LOOKS {
                assert!(has_data(object.fd(), 0, 2 << 12) && !has_data(object.fd(), 0, 1 << 12));
                assert_eq!(first_hole(object.fd(), 1 << 12, 2 << 12), Some(2 << 12));
                assert_eq!(first_hole(object.fd(), 1 << 12, 1 << 12), None);
            }
            looker.join().unwrap()
        });
        assert_eq!(moved, 0);
    }
}
