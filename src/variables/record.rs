//! Where the bytes of a record are, and reading them.

use crate::error::{Error, Result};
use crate::format::{CLASSES, GRANULE, RECORD_MAX, SLAB_HEAD, SpanState, blocks_of};
use crate::os::mem::Scratch;
use crate::process::access::{Access, MappedAccess};
use crate::process::attachment::Attachment;
use crate::sync::slot::Content;
use crate::variables::Variables;
use crate::variables::found::Found;

/// File offset of a record's first byte, if the slab's entry agrees with it. The writer lock is held.
#[inline(always)]
pub fn record_at(att: &Attachment, content: &Content) -> Result<Option<u64>> {
    Ok(place_of_record(att, content, MappedAccess)?.map(|(at, _)| at))
}

/// The same, and the slab's class.
#[inline(always)]
pub fn place_of_record(att: &Attachment, content: &Content, access: impl Access) -> Result<Option<(u64, usize)>> {
    let (granule, block) = (content.granule(), content.block());
    if granule >= att.identity.geometry.granules {
        return Ok(None);
    }
    let Ok(entry) = access.entry(att, granule) else { return Ok(None) };
    let class = entry.class();
    if entry.state() != SpanState::Slab || class >= CLASSES.len() {
        return Ok(None);
    }
    let size = u64::from(CLASSES[class]);
    let fits = block < blocks_of(class) && content.record_len() <= size && content.prefix_len() <= content.record_len();
    Ok(fits.then(|| (att.identity.geometry.granule_at(granule) + SLAB_HEAD + block * size, class)))
}

impl Variables {
    /// Copies the first bytes of a record in a slab. False: the slot does not name it any more.
    pub fn read_record(&self, found: &Found, len: u64, scratch: &mut Scratch, access: impl Access) -> Result<bool> {
        let place = place_of_record(self, &found.content, access)?;
        // In this order: where the slot still names it, its pages are there, and stay until this section ends.
        if !self.is_unchanged_with(found, access)? {
            return Ok(false);
        }
        let Some((at, _)) = place else { return Err(Error::corrupt("a record's place")) };
        access.record(self, at, len.min(found.content.record_len()) as usize, scratch)?;
        Ok(true)
    }

    /// Does the span map say that a record of this length can be there?
    pub(super) fn span_fits(&self, content: &Content, access: impl Access) -> bool {
        let Ok(entry) = access.entry(self, content.granule()) else { return false };
        // Filling: of a change that is decided and not made yet. Retired: the slot changed, and the reader will see it.
        let holds = matches!(entry.state(), SpanState::Live | SpanState::Filling | SpanState::Retired);
        holds
            && content.lead() + content.record_len() <= GRANULE * entry.len()
            && content.prefix_len() <= content.record_len().min(RECORD_MAX)
    }

    /// Reads from a span through the kernel: never a signal, whatever happens to it meanwhile.
    pub fn read_span(&self, content: &Content, at: u64, to: &mut [u8]) -> Result<()> {
        self.read_arena(content.granule(), content.lead() + at, to)
    }

    /// The same, from so many bytes behind the start of a granule.
    pub fn read_arena(&self, granule: u64, at: u64, to: &mut [u8]) -> Result<()> {
        let offset = self.identity.geometry.granule_at(granule) + at;
        let done = self
            .with_file(|fd| crate::os::object::read_at(fd, to, offset))?
            .map_err(|e| Error::system("reading the segment", e))?;
        if done < to.len() {
            return Err(Error::corrupt("the object was truncated"));
        }
        Ok(())
    }
}
