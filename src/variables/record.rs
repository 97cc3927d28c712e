//! Where the record lies that a slot names, and how its bytes are read.
//!
//! A record lies in a block of a slab, or in a span of its own (docs/format.md, "Slab"). Nothing here decides whether a
//! slot is the one that is wanted: `lookup.rs` and `place.rs` do.

use crate::error::{Error, Result};
use crate::format::{CLASSES, GRANULE, RECORD_MAX, SLAB_HEAD, SpanState, blocks_of, class_of};
use crate::os::mem::Scratch;
use crate::process::access::{Access, MappedAccess};
use crate::process::attachment::Attachment;
use crate::sync::slot::Content;
use crate::variables::Variables;
use crate::variables::found::Found;

/// The longest record that is fetched before its span map entry was looked at. Of a longer one the copy takes more time
/// than the fetch saves.
const PREFETCHED: u64 = 512;

/// Returns the file offset of a record in a slab. `None`: the slab's span map entry does not agree with the slot. The
/// caller holds the writer lock.
#[inline(always)]
pub fn record_at(att: &Attachment, content: &Content) -> Result<Option<u64>> {
    Ok(place_of_record(att, content, MappedAccess)?.map(|(at, _)| at))
}

/// Returns the file offset of a record in a slab, and the slab's class. `None`: the slab's span map entry does not
/// agree with the slot.
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

/// Asks the processor to fetch the record that a slot names. Its address is guessed from the slot alone: a record lies
/// in a block of the smallest class that holds it. The span map entry, which decides, is loaded meanwhile.
#[inline(always)]
pub fn prefetch_record(att: &Attachment, content: &Content) {
    let (granule, len) = (content.granule(), content.record_len());
    if len <= PREFETCHED && granule < att.identity.geometry.granules {
        let size = u64::from(CLASSES[class_of(len)]);
        let at = att.identity.geometry.granule_at(granule) + SLAB_HEAD + content.block() * size;
        att.mem.prefetch(at);
        // Most blocks lie on two lines.
        att.mem.prefetch(at + len);
    }
}

impl Variables {
    /// Copies the first `len` bytes of a record in a slab to `scratch`. Returns `false` if the slot does not name that
    /// record any more.
    pub fn read_record(&self, found: &Found, len: u64, scratch: &mut Scratch, access: impl Access) -> Result<bool> {
        let place = place_of_record(self, &found.content, access)?;
        // The comparison comes before the copy: where the slot still names the record, its pages are present, and they
        // stay until this read section ends.
        if !self.is_unchanged_with(found, access)? {
            return Ok(false);
        }
        let Some((at, _)) = place else { return Err(Error::corrupt("a record's place")) };
        access.record(self, at, len.min(found.content.record_len()) as usize, scratch)?;
        Ok(true)
    }

    /// Returns whether the span map says that a record of this length can be in that span.
    pub(super) fn span_fits(&self, content: &Content, access: impl Access) -> bool {
        let Ok(entry) = access.entry(self, content.granule()) else { return false };
        // A filling span is that of a change that is decided but not yet made. A retired one belongs to a slot that has
        // changed, which the reader will notice.
        let holds = matches!(entry.state(), SpanState::Live | SpanState::Filling | SpanState::Retired);
        holds
            && content.lead() + content.record_len() <= GRANULE * entry.len()
            && content.prefix_len() <= content.record_len().min(RECORD_MAX)
    }

    /// Copies bytes of a record in a span, from `at` on, through the kernel. Whatever happens to the span meanwhile,
    /// the copy raises no signal.
    pub fn read_span(&self, content: &Content, at: u64, to: &mut [u8]) -> Result<()> {
        self.read_arena(content.granule(), content.lead() + at, to)
    }

    /// Copies bytes of the arena, from `at` bytes behind the start of a granule, through the kernel.
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
