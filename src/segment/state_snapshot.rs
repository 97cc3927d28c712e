//! The state of a segment that is not mapped, read by one call. It is a look, not a consistent snapshot of the segment:
//! writers go on meanwhile, so the numbers need not belong to one instant. The words are those of docs/format.md,
//! "State".

use crate::error::{Error, Result};
use crate::format::{Eviction, PARTICIPANTS, State, at};
use crate::os::object;
use rustix::fd::OwnedFd;
use std::mem::{offset_of, size_of};

/// `N` bytes of what was read, from `at` on, for the `from_ne_bytes` of a number.
pub fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("within what was read")
}

/// Fills `bytes` from an open object.
pub fn read(fd: &OwnedFd, bytes: &mut [u8], offset: u64) -> Result<()> {
    object::read_at(fd, bytes, offset).map_err(|e| Error::system("reading the segment", e)).map(drop)
}

/// The bytes of a [`State`] when they were read.
pub struct StateSnapshot([u8; size_of::<State>()]);

impl StateSnapshot {
    /// Reads the state of an open object.
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

    /// The limit: bytes that the variables may be charged.
    pub fn limit(&self) -> u64 {
        self.u64_at(offset_of!(State, limit))
    }

    /// Bytes that the variables are charged.
    pub fn used(&self) -> u64 {
        self.u64_at(offset_of!(State, used))
    }

    /// Variables, including those that have expired and are not removed yet.
    pub fn count(&self) -> u64 {
        self.u64_at(offset_of!(State, count))
    }

    /// Zones in use.
    pub fn zones(&self) -> u64 {
        self.u64_at(offset_of!(State, zones))
    }

    /// What the segment evicts where there is no room. `None`: the word means nothing.
    pub fn eviction(&self) -> Option<Option<Eviction>> {
        Eviction::of_code(u32::from_ne_bytes(word(&self.0, offset_of!(State, evict))))
    }

    /// Variables that were evicted.
    pub fn evicted(&self) -> u64 {
        self.u64_at(offset_of!(State, evicted))
    }

    /// No participant number at or above this one was ever used.
    pub fn participants_top(&self) -> u32 {
        u32::from_ne_bytes(word(&self.0, offset_of!(State, participants_top))).min(PARTICIPANTS)
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_ne_bytes(word(&self.0, at))
    }
}
