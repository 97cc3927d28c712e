//! A large value that is pinned beyond a call, as Python's views pin it: for the tests of recovery, which have no
//! Python. Pins themselves are in `process/pins.rs`. Protocol: docs/protocol.md, "Large records: spans and pins".

use crate::error::Result;
use crate::key::Index;
use crate::os::mem::Scratch;
use crate::process::pins::OwnedPin;
use crate::process::wait_policy::Blocking;
use crate::segment::handle::Segment;
use crate::variables::AsVariables;
use crate::variables::read::FoundValue;

/// A pinned span: its bytes stay as they are until this is dropped, in forked children, too.
pub struct PinnedValue {
    pin: OwnedPin,
    offset: u64,
    len: usize,
}

impl Segment {
    /// Pins a large value. `None` if the variable is missing, its value is short, or it changed meanwhile.
    ///
    /// # Errors
    /// As [`Segment::get_pickle`].
    pub fn hold<'a>(&self, index: impl Into<Index<'a>>) -> Result<Option<PinnedValue>> {
        let att = self.attachment()?;
        let Some(got) = att.variables().get(&index.into(), &mut Scratch::new(), &Blocking)? else { return Ok(None) };
        let FoundValue::Large(large) = got else { return Ok(None) };
        let (offset, len) = (large.offset(), large.len() as usize);
        Ok(large.into_owned_pin().map(|pin| PinnedValue { pin, offset, len }))
    }
}

impl PinnedValue {
    /// The bytes of the span: the same in each call.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] if the segment is damaged.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.len];
        self.pin.attachment().mem.copy_to(self.offset, &mut bytes)?;
        Ok(bytes)
    }
}
