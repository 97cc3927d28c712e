//! A look at a segment that is not attached: read, never mapped.

use crate::error::{Error, Result};
use crate::format::identity::Identity;
use crate::format::{PARTICIPANTS, State, at};
use crate::os::object::{self, Status};
use crate::segment::open::identify;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::mem::{offset_of, size_of};

/// Does this say nothing of the object, and everything of this process: it can look at none?
pub fn fatal(error: &Error) -> bool {
    let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(|errno| Some(errno.raw_os_error()));
    matches!(error, Error::System { source, .. } if lacking.contains(&source.raw_os_error()))
}

/// Opens what is at a name of ours to read it, and believes what it says of itself. `None`: it vanished.
pub fn identify_by_name(name: &OsStr) -> Result<Option<(OwnedFd, Identity, Status)>> {
    let fd = match object::open(name, false) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::ACCESS | Errno::PERM) => return Err(Error::Access("this user may not read it".into())),
        Err(Errno::AGAIN) => return Err(Error::Busy("a process has a lease on it (fcntl F_SETLEASE)".into())),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV) => {
            return Err(Error::Incompatible("it is no regular file".into()));
        }
        Err(error) => return Err(Error::system(format!("opening {}/{}", object::DIR, name.to_string_lossy()), error)),
    };
    let Some(text) = name.to_str() else { return Err(Error::Incompatible("its name is no text, so no key's".into())) };
    let Some((identity, status)) = identify(None, text, &fd)? else { return Ok(None) };
    if identity.key.object_name() != text {
        let (key, right) = (&identity.key, identity.key.object_name());
        return Err(Error::Incompatible(format!("it says that its key is {key}, whose name would be {right}")));
    }
    Ok(Some((fd, identity, status)))
}

/// Words of the machine's own order, `at` bytes into what was read.
pub fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("within what was read")
}

/// Fills `bytes` from the object.
pub fn read(fd: &OwnedFd, bytes: &mut [u8], offset: u64) -> Result<()> {
    object::read_at(fd, bytes, offset).map_err(|e| Error::system("reading the segment", e)).map(drop)
}

/// What a [`State`] held when it was read.
pub struct StateSnapshot([u8; size_of::<State>()]);

impl StateSnapshot {
    /// Of an open object.
    pub fn of(fd: &OwnedFd) -> Result<Self> {
        let mut bytes = [0; size_of::<State>()];
        read(fd, &mut bytes, at::STATE)?;
        Ok(StateSnapshot(bytes))
    }

    /// The word of the writer lock.
    #[cfg(feature = "python")]
    pub fn lock(&self) -> u32 {
        u32::from_ne_bytes(word(&self.0, offset_of!(State, lock)))
    }

    /// Bytes that may be charged.
    pub fn limit(&self) -> u64 {
        self.u64_at(offset_of!(State, limit))
    }

    /// Sum of charges.
    pub fn used(&self) -> u64 {
        self.u64_at(offset_of!(State, used))
    }

    /// Variables, expired ones that nobody has removed yet among them.
    pub fn count(&self) -> u64 {
        self.u64_at(offset_of!(State, count))
    }

    /// Zones in use.
    pub fn zones(&self) -> u64 {
        self.u64_at(offset_of!(State, zones))
    }

    /// No participant at or above this number was ever used.
    pub fn participants_top(&self) -> u32 {
        u32::from_ne_bytes(word(&self.0, offset_of!(State, participants_top))).min(PARTICIPANTS)
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_ne_bytes(word(&self.0, at))
    }
}
