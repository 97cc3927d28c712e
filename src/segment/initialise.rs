//! The first contents of a new segment, which nobody else sees yet: two empty tables in the first zone. Bytes:
//! docs/format.md, "Overall". Publishing it is in `create`.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::format::identity::Identity;
use crate::format::{
    Eviction, GRANULE, Geometry, LeafWord, PAGE, Root, STAMPS_MIN_BITS, SpanEntry, SpanState, ZONE_META, at,
};
use crate::os::map::Mapping;
use crate::os::mem::Mem;
use crate::os::object::{self, Unpublished};
use crate::process::pages::file_system_full;
use crate::segment::sizes::first_length;
use crate::sync::intent::SpanEdit;
use rustix::io::Errno;
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives the object its first length and maps it, with the largest arena that this process's limits allow.
pub fn size_and_map(object: &Unpublished, geometries: &[Geometry], limit: u64) -> Result<(Geometry, Mapping)> {
    let mut last = None;
    for geometry in geometries {
        let length = first_length(geometry, limit);
        let sized = rustix::fs::ftruncate(object.fd(), length);
        match sized.map_err(|e| Error::system("sizing a segment", e)) {
            Ok(()) => match Mapping::new(object.fd(), length, true) {
                Ok(mapping) => return Ok((*geometry, mapping)),
                Err(error) => last = Some(error),
            },
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("at least one geometry"))
}

/// Fills a new segment.
pub fn initialise(
    object: &Unpublished,
    mem: &Mem,
    identity: &Identity,
    limit: u64,
    evict: Option<Eviction>,
) -> Result<()> {
    let geo = &identity.geometry;
    // The first four granules of the arena are the directory and the leaf of each of the two tables.
    let pages = [
        (0, at::PARTICIPANTS + PAGE),
        (at::SUMMARY / PAGE * PAGE, PAGE),
        (geo.zone_at(0), ZONE_META),
        (geo.granule_at(0), 4 * GRANULE),
        (geo.stamps, 1 << STAMPS_MIN_BITS),
    ];
    let stamps = if evict == Some(Eviction::Lru) { STAMPS_MIN_BITS } else { 0 };
    for (offset, len) in pages.into_iter().filter(|(offset, _)| stamps > 0 || *offset != geo.stamps) {
        object::obtain(object.fd(), offset, len).map_err(|e| match e {
            Errno::NOSPC | Errno::NOMEM | Errno::DQUOT => file_system_full(len, object::file_system_of(object.fd())),
            e => Error::system("obtaining pages", e),
        })?;
    }
    mem.copy_in(0, &[&identity.to_bytes()])?;
    let (state, arena) = (mem.state(), Arena { mem, geo });
    state.limit.store(limit, Ordering::Relaxed);
    state.evict.store(Eviction::code(evict), Ordering::Relaxed);
    state.stamps.store(stamps, Ordering::Relaxed);
    arena.open_zones(1)?;
    state.zones.store(1, Ordering::Relaxed);
    for (first, root) in [(0, &state.root), (2, &state.names)] {
        let edit = |granule, state| SpanEdit { granule, before: SpanEntry(0), after: SpanEntry::new(state, 1) };
        arena.apply_span(&edit(first, SpanState::Directory))?;
        arena.apply_span(&edit(first + 1, SpanState::Leaf))?;
        let word = LeafWord::new(first + 1, 0, 1, 1);
        mem.at::<AtomicU64>(geo.granule_at(first))?.store(word.0, Ordering::Relaxed);
        root.store(Root::new(first, 0, 1).0, Ordering::Release);
    }
    Ok(())
}
