//! A large value held still beyond a call, as Python's views hold it: for the tests of recovery, which have no Python.

use crate::error::Result;
use crate::key::Index;
use crate::os::mem::Scratch;
use crate::process::pins::OwnedPin;
use crate::process::wait_policy::Blocking;
use crate::segment::Segment;
use crate::variables::AsVariables;
use crate::variables::read::FoundValue;

/// The bytes of a span that stay as they are until this is dropped, in forked children, too.
pub struct PinnedValue {
    kept: OwnedPin,
    offset: u64,
    len: usize,
}

impl Segment {
    /// Pins a large value. `None`: it is missing, short, or changed meanwhile.
    ///
    /// # Errors
    /// As [`Segment::get_pickle`].
    pub fn hold<'a>(&self, index: impl Into<Index<'a>>) -> Result<Option<PinnedValue>> {
        let att = self.attachment()?;
        let Some(got) = att.variables().get(&index.into(), &mut Scratch::new(), &Blocking)? else { return Ok(None) };
        let FoundValue::Large(large) = got else { return Ok(None) };
        let (offset, len) = (large.offset(), large.len() as usize);
        Ok(large.into_owned_pin().map(|kept| PinnedValue { kept, offset, len }))
    }
}

impl PinnedValue {
    /// What stands there now: what stood there always.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where the segment is damaged.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.len];
        self.kept.attachment().mem.copy_to(self.offset, &mut bytes)?;
        Ok(bytes)
    }
}
