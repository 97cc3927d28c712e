//! A look at a segment that is not attached: read, never mapped.

use crate::error::{Error, Result};
use crate::format::{PARTICIPANTS, State, at};
use crate::os::object;
use rustix::fd::OwnedFd;
use std::mem::{offset_of, size_of};

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
