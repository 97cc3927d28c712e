//! The error type of the crate. Each error has the numbers and the remedy that a person needs to act on it.

use std::fmt;

/// The result of every call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What there is too little of where something does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Pages of the memory file system.
    Pages,
    /// Granules of the arena that lie together.
    Granules,
    /// Something that removing variables does not give: a limit, addresses or files as long as that of this process.
    Other,
}

/// An error of this crate. Each variant becomes one class of the Python package.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is no segment with this key.
    NotFound(String),
    /// There is already a segment with this key.
    Exists(String),
    /// The system refuses the access, or the segment belongs to another user.
    Access(String),
    /// A living process keeps the segment busy, or no participant number is free.
    Busy(String),
    /// The handle is read-only, and the call would change the segment.
    ReadOnly,
    /// The value does not fit.
    Full {
        /// Bytes that the change would have needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// The limit; or the size of the memory file system, if that is what is full.
        size: u64,
        /// The reason, and what to do about it.
        remedy: String,
        /// What there is too little of.
        lack: Lack,
    },
    /// The object is no segment, or a segment of another format version.
    Incompatible(String),
    /// The contents are damaged. The text names the place.
    Corrupt(String),
    /// The handle was detached.
    Detached,
    /// An argument is out of its range.
    Invalid(String),
    /// The caller would wait for itself.
    Deadlock(String),
    /// An index or a key is too large for its type.
    Overflow(String),
    /// The caller was interrupted while it waited. Only the caller knows the reason.
    Interrupted,
    /// The value's pickle could not be written or read (in the Rust interface).
    Pickle(serde_pickle::Error),
    /// This process has no memory left. Nothing has changed.
    Memory {
        /// Bytes of the allocation that failed.
        asked: u64,
        /// What the memory was for.
        what: &'static str,
    },
    /// Any other error of the system.
    System {
        /// What was tried.
        action: String,
        /// The error of the system.
        source: std::io::Error,
    },
}

impl Error {
    /// Returns an error for damage at a place in the segment.
    pub(crate) fn corrupt(place: impl fmt::Display) -> Self {
        Error::Corrupt(format!("the segment is damaged: {place}"))
    }

    /// Returns an error for a system call that failed with `errno`.
    pub(crate) fn system(action: impl Into<String>, errno: rustix::io::Errno) -> Self {
        Error::System { action: action.into(), source: errno.into() }
    }

    /// Returns an error for an operation that failed with an I/O error.
    pub(crate) fn io(action: impl Into<String>, source: std::io::Error) -> Self {
        Error::System { action: action.into(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound(text)
            | Error::Exists(text)
            | Error::Access(text)
            | Error::Busy(text)
            | Error::Deadlock(text)
            | Error::Incompatible(text)
            | Error::Corrupt(text)
            | Error::Invalid(text)
            | Error::Overflow(text) => f.write_str(text),
            Error::ReadOnly => {
                f.write_str("the handle is read-only: attach without readonly=True to change the segment")
            }
            Error::Full { needed, free, size, remedy, .. } => {
                write!(f, "does not fit: needs {needed} bytes, {free} of {size} are free; {remedy}")
            }
            Error::Detached => f.write_str("the handle is detached: attach again"),
            Error::Interrupted => f.write_str("interrupted"),
            Error::Pickle(error) => write!(f, "{error}"),
            Error::Memory { asked, what } => {
                write!(
                    f,
                    "this process has no memory left: it asked for {asked} bytes for {what}; release other objects, or \
                     raise its limit (ulimit -v, ulimit -d, the memory of its container)"
                )
            }
            Error::System { action, source } => {
                write!(f, "{action}: {source}")?;
                match source.raw_os_error().and_then(remedy) {
                    Some(remedy) => write!(f, "; {remedy}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Returns what a user can do about an error of the system, for those errors that have a remedy.
fn remedy(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::EMFILE => "this process has as many descriptors open as it may: close some, or raise `ulimit -n`",
        libc::ENFILE => "the machine has as many files open as it may: close some, or raise fs.file-max",
        libc::EROFS => "it is mounted read-only: mount -o remount,rw /dev/shm",
        libc::EOPNOTSUPP => "segments need a tmpfs at /dev/shm, which can reserve and give back pages (ramfs cannot)",
        libc::EFBIG => "this process may not write so far into a file: raise `ulimit -f`",
        libc::ENOLCK => "the kernel has no memory, or this control group no room, for one more lock",
        _ => return None,
    })
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Pickle(error) => Some(error),
            Error::System { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<serde_pickle::Error> for Error {
    fn from(error: serde_pickle::Error) -> Self {
        Error::Pickle(error)
    }
}
