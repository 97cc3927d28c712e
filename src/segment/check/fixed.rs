//! What every other look of a check relies on: the identity, and the counters that bound the rest. It is verified at
//! the beginning of each hold (docs/protocol.md, "Check"). Sums are compared elsewhere, in `closing`.

use super::invariant::ensure;
use crate::error::Result;
use crate::format::identity::Identity;
use crate::format::{Eviction, GRANULE, IDENTITY_LEN, PARTICIPANTS, STAMPS_MIN_BITS, VERSION_MAX, ZONE_META, at};
use crate::os::object::{self, Status};
use crate::process::attachment::Attachment;
use std::sync::atomic::Ordering;

/// Verifies what is fixed at creation, the object's length and its names.
pub(super) fn check_identity(att: &Attachment, status: &Status) -> Result<()> {
    // If the object was cut short, every access beyond its end is a signal.
    let least = att.identity.geometry.end_of_zones(att.arena().zones());
    ensure!(status.size >= least, 13, "the object has {} bytes, its zones in use end at {least}", status.size);
    let mut bytes = Vec::new();
    att.mem.read_into(at::IDENTITY, IDENTITY_LEN, &mut bytes)?;
    ensure!(bytes == att.identity.to_bytes(), 13, "the identity has changed");
    let gone = att.state().gone.load(Ordering::Acquire);
    let named = || object::status_of(&att.object.name).is_ok_and(|now| now.is_same_object(&att.object.status));
    // A number of links above 0 proves nothing: other users may have linked to the object, and those names stay.
    ensure!(gone <= 1 && (gone == 0 || status.nlink == 0 || !named()), 13, "gone is {gone}, the object has its name");
    if att.identity.lock_object != 0 {
        let found = object::status_of(Identity::lock_object_name(&att.identity.id));
        // The lock object is unlinked after the segment. So it may be missing if the segment has lost its name.
        let sound = found.is_ok_and(|found| found.ino == att.identity.lock_object) || !named();
        ensure!(sound, 13, "its lock object {} is missing", Identity::lock_object_name(&att.identity.id));
    }
    Ok(())
}

/// Verifies the counters that bound everything else.
pub(super) fn check_state(att: &Attachment, status: &Status) -> Result<()> {
    let (state, geometry) = (att.state(), &att.identity.geometry);
    let (zones, limit) = (state.zones.load(Ordering::Acquire), state.limit.load(Ordering::Relaxed));
    ensure!((1..=geometry.zones_max).contains(&zones), 3, "{zones} zones are in use, of {}", geometry.zones_max);
    // The check is about to read the zones' metadata. If a page is not there, reading it may find no memory for it.
    ensure!(zones * ZONE_META <= status.resident, 12, "{zones} zones are in use, the object takes {}", status.resident);
    ensure!((1..=geometry.granules * GRANULE / 2).contains(&limit), 1, "the limit is {limit}");
    let used = state.used.load(Ordering::Relaxed);
    ensure!(used <= limit, 1, "{used} bytes are used, the limit is {limit}");
    let (batch, many) = (state.batch.load(Ordering::Relaxed), state.many.load(Ordering::Relaxed));
    ensure!(batch == 0 && many.is_multiple_of(2), 6, "many is {many}, a batch is {batch}, and no batch is under way");
    let version = state.version.load(Ordering::Relaxed);
    ensure!(version < VERSION_MAX, 9, "the last version is {version}");
    let (evict, stamps) = (state.evict.load(Ordering::Relaxed), state.stamps.load(Ordering::Relaxed));
    let bits = STAMPS_MIN_BITS..=geometry.stamps_max_bits();
    let sound = match Eviction::of_code(evict) {
        Some(Some(Eviction::Lru)) => bits.contains(&stamps),
        Some(_) => stamps == 0,
        None => false,
    };
    ensure!(sound && Some(att.eviction) == Eviction::of_code(evict), 13, "evict is {evict}, stamps is {stamps}");
    let top = state.participants_top.load(Ordering::Acquire);
    ensure!(top <= PARTICIPANTS, 11, "participants_top is {top}");
    Ok(())
}
