//! Obtaining pages of the segment's file, and what is said where the system has none.

use crate::error::{Error, Result};
use crate::os::{Limited, limit_of, object};
use crate::process::attachment::Attachment;
use rustix::io::Errno;

/// What is said where the memory file system has no page left.
pub fn file_system_full(needed: u64) -> Error {
    let (size, free) = object::file_system().unwrap_or((0, 0));
    Error::Full {
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

/// What is said where this process may not write so far into a file.
pub fn beyond_file_limit(needed: u64, length: u64) -> Error {
    let most = limit_of(Limited::File).unwrap_or(u64::MAX);
    Error::Full {
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
    /// Makes pages present, or says what to do.
    pub fn obtain_pages(&self, offset: u64, len: u64) -> Result<()> {
        match self.obtain(offset, len)? {
            Ok(()) => {
                crash_point!("pages-obtained");
                // CRASH: present, and not yet in use: whoever needs them next finds them there.
                Ok(())
            }
            Err(Errno::NOSPC | Errno::NOMEM | Errno::DQUOT) => Err(file_system_full(len)),
            Err(error) => Err(Error::system("obtaining pages", error)),
        }
    }
}
