//! A private copy of what a check looks at, for a handle that may not write. Writers may give pages back to the system
//! during the check. Touching such a page through the mapping would take memory for it again, or end the process with a
//! signal if there is none; so the pages are read by calls. The copy is consistent only if nobody changed the segment
//! meanwhile: `without_lock` decides that (docs/protocol.md, "Check"; "Giving back").

use super::invariant::LISTS;
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{GRANULE, SpanEntry, SpanState, ZONE, ZONE_META, at};
use crate::os::map::Mapping;
use crate::os::mem::Mem;
use crate::os::object;
use crate::process::attachment::Attachment;
use crate::process::attachment::Opened;
use std::sync::atomic::Ordering;

/// Bytes that one call reads at most.
const PIECE: u64 = 1 << 20;

/// Copies the fixed part of the segment, the metadata of the zones in use, and their directories, leaves and slabs.
/// Values in spans of their own are not copied: the check reads what it needs of them by calls, through the same
/// descriptor.
pub(super) fn private_copy(att: &Attachment) -> Result<Attachment> {
    let geometry = &att.identity.geometry;
    let mapping = Mapping::private(geometry.end_of_zones(att.arena().zones()))?;
    let duplicate = |fd: rustix::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let fd = att.with_file(duplicate)?.map_err(|e| Error::system("a descriptor", e))?;
    // Writable only here, to fill the copy: the attachment over it may not write.
    let memory = mapping.mem(true);
    let identity = att.identity.clone();
    let copy = Attachment::new(Opened {
        identity,
        name: &att.object.name,
        status: att.object.status,
        lock_status: att.object.lock_status,
        mapping,
        fd: Some(fd),
        query: None,
        write: false,
    });
    copy_range(att, &memory, 0, at::READERS)?;
    let zones = copy.arena().zones();
    copy_range(att, &memory, at::SUMMARY, zones.div_ceil(64) * 1_024)?;
    copy_range(att, &memory, geometry.zone_at(0), zones * ZONE_META)?;
    for zone in 0..zones {
        for (number, word) in copy.arena().zone(zone)?.entries.iter().enumerate() {
            let (granule, entry) = (zone * ZONE + number as u64, SpanEntry(word.load(Ordering::Relaxed)));
            let looked_at = matches!(entry.state(), SpanState::Slab | SpanState::Leaf | SpanState::Directory);
            if looked_at && copy.arena().fits(granule, entry.len(), zones) {
                copy_range(att, &memory, geometry.granule_at(granule), entry.len() * GRANULE)?;
            }
        }
    }
    Ok(copy)
}

/// Copies bytes of the object to the same place in the copy.
fn copy_range(att: &Attachment, to: &Mem, offset: u64, len: u64) -> Result<()> {
    let mut bytes = fallible::zeros(PIECE.min(len) as usize, LISTS)?;
    for (start, len) in crate::bit_runs::pieces(offset, len, PIECE) {
        let piece = &mut bytes[..len as usize];
        let read = att.with_file(|fd| object::read_at(fd, piece, start))?;
        read.map_err(|e| Error::system("reading the segment", e))?;
        // The copy is all zeros at first: a piece of zeros is left out, so that it takes no memory.
        if piece.iter().any(|byte| *byte != 0) {
            to.write_unpublished(start, piece)?;
        }
    }
    Ok(())
}
