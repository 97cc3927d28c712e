//! How to attach: the options and what contradicts itself in them. The defaults that depend on the machine are worked
//! out in `create`. What each option does when a segment exists, or does not, is in docs/protocol.md, "Opening".

use crate::error::{Error, Result};
use crate::format::{Eviction, GRANULE, ZONE};

/// How to attach.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of values that the segment may hold. `None`: 1 GiB for a new segment, or the size of the memory file
    /// system if that is less; a segment that exists keeps its limit.
    pub size: Option<u64>,
    /// Bytes up to which the limit of a new segment can ever be raised. `None`: 8 times the size and at least 32 GiB,
    /// or less if this process may map few addresses.
    pub reserve: Option<u64>,
    /// The mode of a new segment, exactly: the umask does not count.
    pub perm: u32,
    /// `None` opens or creates, `Some(true)` must create, `Some(false)` must open.
    pub create: Option<bool>,
    /// Never change anything.
    pub readonly: bool,
    /// May values run code when they are read? `None`: only if nobody but this user and root could have written them.
    pub trust: Option<bool>,
    /// What a new segment evicts where there is no room. `None`: nothing; a segment that exists keeps what it has, and is
    /// refused if another one is given.
    pub evict: Option<Eviction>,
    /// If given, only the segment with this id will do.
    pub id: Option<[u8; 16]>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            size: None,
            reserve: None,
            perm: 0o600,
            create: None,
            readonly: false,
            trust: None,
            evict: None,
            id: None,
        }
    }
}

/// The largest reserve: half of the granules that the format can number, in whole zones.
const RESERVE_MAX: u64 = ((1 << 32) / ZONE - 1) * ZONE * GRANULE / 2;

impl Options {
    /// Refuses options that contradict one another, or that no segment can have.
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
