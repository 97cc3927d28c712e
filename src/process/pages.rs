//! Obtaining pages of the segment's object before they are touched, and the errors for a system that has none. The
//! protocol is "Pages" in `docs/protocol.md`.

use crate::error::{Error, Lack, Result};
use crate::os::{Limited, limit_of, object};
use crate::process::attachment::Attachment;
use rustix::io::Errno;

/// Makes the error for a memory file system that has no page left. `needed`: bytes that were asked for. `size_and_free`:
/// what the system says of the file system that they were asked of.
pub fn file_system_full(needed: u64, size_and_free: Result<(u64, u64)>) -> Error {
    let (size, free) = size_and_free.unwrap_or((0, 0));
    Error::Full {
        lack: Lack::Pages,
        needed,
        free,
        size,
        remedy: format!(
            "the memory file system {} is full: remove variables and trim(), destroy segments, or enlarge it (mount -o \
             remount,size=…; docker --shm-size; Kubernetes: a memory emptyDir)",
            object::DIR
        ),
    }
}

/// Makes the error for a process that may not write so far into a file. `needed`: bytes of the value; `length`: bytes
/// of the segment.
pub fn beyond_file_limit(needed: u64, length: u64) -> Error {
    let most = limit_of(Limited::File).unwrap_or(u64::MAX);
    Error::Full {
        lack: Lack::Other,
        needed,
        free: 0,
        size: most,
        remedy: format!(
            "this process may write the first {most} bytes of a file (ulimit -f), and the segment's values lie anywhere in \
             {length}: raise `ulimit -f`, or store it from a process that has no such limit"
        ),
    }
}

impl Attachment {
    /// Makes the error for the memory file system of the segment's object, which has no page left. `needed`: bytes that
    /// were asked for.
    pub fn file_system_full(&self, needed: u64) -> Error {
        file_system_full(needed, self.file_system())
    }

    /// Makes the pages of a range present. The inner result is that of the system call, for a caller that can do
    /// without.
    pub fn try_obtain_pages(&self, offset: u64, len: u64) -> Result<rustix::io::Result<()>> {
        self.with_file(|fd| object::obtain(fd, offset, len))
    }

    /// Makes the pages of a range present.
    ///
    /// # Errors
    /// [`Error::Full`], with a remedy, if the memory file system has no page left.
    pub fn obtain_pages(&self, offset: u64, len: u64) -> Result<()> {
        match self.try_obtain_pages(offset, len)? {
            Ok(()) => {
                crash_point!("pages-obtained");
                // CRASH: the pages are present and not in use yet; the process that needs them next finds them there.
                Ok(())
            }
            Err(Errno::NOSPC | Errno::NOMEM | Errno::DQUOT) => Err(self.file_system_full(len)),
            Err(error) => Err(Error::system("obtaining pages", error)),
        }
    }
}
