//! Telling an open file description of this package from others of the same object, by the number of a descriptor.
//!
//! User code may close a number (`os.closerange`), and the number may then be that of another file, even of the same
//! object: the program may open that itself, and a process may have the segment both for writing and for reading only.

use crate::os::object::{self, Status};
use rustix::fd::AsFd;
use rustix::fs::{OFlags, SeekFrom, fcntl_getfl, seek};

/// The file position that descriptions of this package have. It means nothing to this package, which reads and writes
/// at offsets of its own, and no program comes to it by reading or writing: it is odd, and far behind what is stored.
/// It is less than what the file systems of Linux allow.
const POSITION: u64 = 0x73_686d_7672 | 1;

/// Private to the process: an open file description, as its object, its access mode and its file position tell it from
/// others.
///
/// What remains: other descriptions that this package has opened of the same object with the same access are taken for
/// it. That does no harm: they are marked only when a `Description` of their own is made, and whichever is closed by
/// mistake is opened again by its name at its next use. A description with another mark costs a descriptor that is
/// never closed. (`kcmp` compares two descriptors exactly, but needs a second one of the same description to compare
/// with, which user code would have closed as well.)
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
        if !super::map::is_descriptor_of(&fd, object) {
            return None;
        }
        // Where the position cannot be set it is what it is, and tells less.
        let position = seek(&fd, SeekFrom::Start(POSITION)).or_else(|_| seek(&fd, SeekFrom::Current(0)));
        Some(Description { object: *object, access: access(&fd)?, position: position.unwrap_or(0) })
    }

    /// Returns whether a number, which user code may have closed, still is a descriptor of this description, so that it
    /// may be closed here.
    pub fn is_of(&self, fd: impl AsFd) -> bool {
        super::map::is_descriptor_of(&fd, &self.object)
            && access(&fd) == Some(self.access)
            && seek(&fd, SeekFrom::Current(0)).unwrap_or(0) == self.position
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
