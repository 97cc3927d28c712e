//! Telling an open file description of this package from others of the same object, by the number of a descriptor.
//!
//! User code may close a number (`os.closerange`), and the number may then be that of another file, even of the same
//! object: the program may open that itself, and a process may have the segment both for writing and for reading only.

use crate::os::object::{self, Status};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, SeekFrom, fcntl_getfl, seek};
use std::sync::atomic::{AtomicU64, Ordering};

/// The first file position of a description of this package; each next one has another. The position means nothing to
/// this package, which reads and writes at offsets of its own, and no program comes to one of them by chance: they are
/// odd, and far behind what is stored. They are less than what the file systems of Linux allow.
const FIRST_POSITION: u64 = 0x73_686d_7672 | 1;
/// How many positions there are.
const POSITIONS: u64 = 1 << 38;
/// How many descriptions were marked.
static MARKED: AtomicU64 = AtomicU64::new(0);

/// Private to the process: an open file description, as its object, its access mode and its file position tell it from
/// others.
///
/// (`kcmp` compares two descriptors exactly, but needs a second one of the same description to compare with, which user
/// code would have closed as well.) What remains: where something sets the file position of a description of this
/// package, the description is never closed. A program could do that with a number that is not its own; and so does
/// this package for an instant where it looks for holes in an object that it cannot open again (`object::first_hole`),
/// so that a forked child that asks just then, or all of them if the process is killed just then, would not close it.
#[derive(Clone, Copy)]
pub struct Description {
    object: Status,
    access: OFlags,
    position: u64,
}

impl Description {
    /// Marks the description of a descriptor, which must be this package's alone, so that it is known again. `None`: it
    /// is none of this object.
    pub fn mark(fd: impl AsFd, object: &Status) -> Option<Self> {
        if !object::is_descriptor_of(&fd, object) {
            return None;
        }
        // Where the position cannot be set it is what it is, and tells less.
        let own = FIRST_POSITION + 2 * (MARKED.fetch_add(1, Ordering::Relaxed) % POSITIONS);
        let position = seek(&fd, SeekFrom::Start(own)).or_else(|_| seek(&fd, SeekFrom::Current(0)));
        Some(Description { object: *object, access: access(&fd)?, position: position.unwrap_or(0) })
    }

    /// Returns whether a number, which user code may have closed, still is a descriptor of this description, so that it
    /// may be closed here.
    pub fn is_of(&self, fd: impl AsFd) -> bool {
        object::is_descriptor_of(&fd, &self.object)
            && access(&fd) == Some(self.access)
            && seek(&fd, SeekFrom::Current(0)).unwrap_or(0) == self.position
    }
}

/// Private to the process: a descriptor that is closed when this is dropped, unless user code has closed it
/// before: then its number may be the program's by now.
pub struct MarkedFd {
    /// `None`: only while this is dropped.
    fd: Option<OwnedFd>,
    /// `None`: it was none of the object. Then it is never closed.
    description: Option<Description>,
}

impl MarkedFd {
    /// Makes one of a descriptor of a description that no other descriptor has.
    pub fn new(fd: OwnedFd, object: &Status) -> Self {
        MarkedFd { description: Description::mark(&fd, object), fd: Some(fd) }
    }

    /// Returns whether the number still is that of the description.
    pub fn is_intact(&self) -> bool {
        self.description.is_some_and(|description| description.is_of(self))
    }
}

impl AsFd for MarkedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("until dropped").as_fd()
    }
}

impl Drop for MarkedFd {
    fn drop(&mut self) {
        if !self.is_intact() {
            std::mem::forget(self.fd.take());
        }
    }
}

/// Returns what the kernel says of the object of a descriptor, if the descriptor is of that object and may be used for
/// reading, and for writing if `write`.
pub fn usable(fd: impl AsFd, object: &Status, write: bool) -> Option<Status> {
    let found = object::status(&fd).ok().filter(|found| found.is_same_object(object))?;
    let mode = access(&fd)?;
    (mode == OFlags::RDWR || (!write && mode == OFlags::RDONLY)).then_some(found)
}

/// Returns the access mode of a descriptor. With `OFlags::PATH` it can be used for neither reading nor writing.
fn access(fd: impl AsFd) -> Option<OFlags> {
    fcntl_getfl(fd).ok().map(|flags| flags & (OFlags::RWMODE | OFlags::PATH))
}
