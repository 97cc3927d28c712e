//! How to attach.

use crate::error::{Error, Result};
use crate::format::{GRANULE, ZONE};

/// How to attach.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of values the segment may hold. `None`: 1 GiB, or what the memory file system has where that is less; of one
    /// that exists, what it has.
    pub size: Option<u64>,
    /// Bytes up to which the size of a segment that is created can ever be raised. `None`: 8 times the size and at least 32 GiB, or
    /// less where this process may take few addresses.
    pub reserve: Option<u64>,
    /// Mode of a segment that is created, exactly.
    pub perm: u32,
    /// `None` opens or creates, `Some(true)` must create, `Some(false)` must exist.
    pub create: Option<bool>,
    /// Never change anything.
    pub readonly: bool,
    /// May values run code when they are read? `None`: if nobody but this user and root could have written them.
    pub trust: Option<bool>,
    /// Only the segment of this creation id will do.
    pub id: Option<[u8; 16]>,
}

impl Default for Options {
    fn default() -> Self {
        Options { size: None, reserve: None, perm: 0o600, create: None, readonly: false, trust: None, id: None }
    }
}

/// Half of the granules that the format can number, in whole zones.
const RESERVE_MAX: u64 = ((1 << 32) / ZONE - 1) * ZONE * GRANULE / 2;

impl Options {
    /// Refuses what contradicts itself.
    pub(super) fn check(&self) -> Result<()> {
        if self.size == Some(0) {
            return Err(Error::Invalid("size must be at least 1 byte".into()));
        }
        if let Some(reserve) = self.reserve {
            if reserve < self.size.unwrap_or(1) {
                let size = self.size.unwrap_or(1);
                return Err(Error::Invalid(format!("reserve is {reserve}, less than the size of {size} bytes")));
            }
            if reserve > RESERVE_MAX {
                return Err(Error::Invalid(format!("reserve is {reserve}, and may be {RESERVE_MAX} at most")));
            }
        }
        if self.perm & !0o777 != 0 {
            return Err(Error::Invalid(format!("perm {:#o} has bits beyond 0o777", self.perm)));
        }
        if self.readonly && self.create == Some(true) {
            return Err(Error::Invalid("create=True and readonly=True exclude each other".into()));
        }
        Ok(())
    }
}
