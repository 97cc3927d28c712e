//! What can go wrong, with the numbers a person needs to act on it.

use std::fmt;

/// The result of every call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Each variant becomes one class of the Python package.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No segment of this key.
    NotFound(String),
    /// A segment of this key is there already.
    Exists(String),
    /// The system refuses, or the segment is another user's.
    Access(String),
    /// A living process holds the segment up, or no participant number is free.
    Busy(String),
    /// A change through a handle that only reads.
    ReadOnly,
    /// The value does not fit.
    Full {
        /// Bytes the change would have needed.
        needed: u64,
        /// Bytes left.
        free: u64,
        /// The limit, or the size of the memory file system where that is what is full.
        size: u64,
        /// Why, and what to do.
        remedy: String,
    },
    /// Not a segment of ours, or of another format version.
    Incompatible(String),
    /// Damaged contents, with the place.
    Corrupt(String),
    /// The handle was detached.
    Detached,
    /// An argument out of its range.
    Invalid(String),
    /// An index or a key too large for its type.
    Overflow(String),
    /// The caller was interrupted while it waited; the caller knows by what.
    Interrupted,
    /// The value's pickle could not be written or read (the Rust interface).
    Pickle(serde_pickle::Error),
    /// This process has no memory for it. Nothing has changed.
    Memory {
        /// Bytes that were asked for at once.
        asked: u64,
        /// For what.
        what: &'static str,
    },
    /// Anything else that the system said.
    System {
        /// What was tried.
        action: String,
        /// What it said.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn corrupt(place: impl fmt::Display) -> Self {
        Error::Corrupt(format!("the segment is damaged: {place}"))
    }

    pub(crate) fn system(action: impl Into<String>, errno: rustix::io::Errno) -> Self {
        Error::System { action: action.into(), source: errno.into() }
    }

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
            | Error::Incompatible(text)
            | Error::Corrupt(text)
            | Error::Invalid(text)
            | Error::Overflow(text) => f.write_str(text),
            Error::ReadOnly => {
                f.write_str("the handle is read-only: attach without readonly=True to change the segment")
            }
            Error::Full { needed, free, size, remedy } => {
                write!(f, "does not fit: needs {needed} bytes, {free} of {size} are free; {remedy}")
            }
            Error::Detached => f.write_str("the handle is detached: attach again"),
            Error::Interrupted => f.write_str("interrupted"),
            Error::Pickle(error) => write!(f, "{error}"),
            Error::Memory { asked, what } => {
                write!(
                    f,
                    "this process has no memory left: it asked for {asked} bytes for {what}; let go of other objects, or \
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

/// What helps where the system refused for a reason of its own.
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
