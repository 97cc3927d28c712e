//! Lock objects that no segment names. A lock object is the second object of a segment whose mode lets some users only
//! read. It is left over if a process dies between publishing the two objects, or between unlinking them. Protocol:
//! docs/protocol.md, "Creating". What `doctor` removes on request is in `repair`.

use crate::format::identity::{ID_AT, Identity, LOCK_OBJECT_PREFIX};
use crate::key;
use crate::os::bytelock::{self, REGISTRY_BYTE};
use crate::os::object;
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// In a directory with more names than this, no call looks for left-over lock objects: anybody may fill the directory,
/// and each name costs a few microseconds. `doctor` looks all the same.
const NAMES_MAX: usize = 1_000;
/// One call removes at most this many, since it reads the ids of all segments again for each of them.
const REMOVALS_MAX: usize = 8;

/// Removes left-over lock objects of this user. Only calls that make or remove a lock object do it, so no other call
/// pays for it, and these pay little.
pub fn remove_orphans() {
    let Some(names) = object::list_at_most(NAMES_MAX) else { return };
    let me = crate::os::euid();
    let begins = |name: &OsString, prefix: &str| name.as_bytes().starts_with(prefix.as_bytes());
    let mine = |name: &&OsString| object::status_of(name).is_ok_and(|status| status.uid == me);
    let objects: Vec<_> = names.iter().filter(|name| begins(name, LOCK_OBJECT_PREFIX)).filter(mine).collect();
    if objects.is_empty() {
        return;
    }
    let Some(named) = named_by(names.iter().filter(|name| begins(name, key::PREFIX)), me) else { return };
    let orphans = objects.iter().filter_map(|name| name.to_str()).filter(|name| !named.contains(*name));
    for name in orphans.take(REMOVALS_MAX) {
        let _ = remove(name);
    }
}

/// The names of the lock objects that the segments in the directory may name. Only a segment's id counts, so a segment
/// that is damaged or of another version counts, too. `None` if a segment of this owner cannot be read: it might name
/// any of the owner's objects.
pub fn lock_objects_named(uid: u32) -> Option<HashSet<String>> {
    named_by(object::list(key::PREFIX).ok()?.iter(), uid)
}

/// The same for these segments.
fn named_by<'a>(segments: impl Iterator<Item = &'a OsString>, uid: u32) -> Option<HashSet<String>> {
    let mut names = HashSet::new();
    // If there is no memory for the list, nothing is removed.
    for name in segments {
        let mut id = [0; 16];
        match object::open(name, false).and_then(|fd| object::read_at(fd, &mut id, ID_AT)) {
            Ok(_) => {
                names.try_reserve(1).ok()?;
                names.insert(Identity::lock_object_name(&id));
            }
            // Both objects of a segment belong to the same user. So a segment of another user names no object of this
            // owner.
            Err(_) if object::status_of(name).is_ok_and(|status| status.uid == uid) => return None,
            Err(_) => {}
        }
    }
    Some(names)
}

/// Removes a lock object, if it is empty, belongs to this user, and still no segment names it.
fn remove(name: &str) -> Option<()> {
    let fd = object::open(name, true).ok()?;
    let status = object::status(&fd).ok()?;
    if !status.regular || status.size != 0 || status.uid != crate::os::euid() {
        return None;
    }
    // SYNC: with `create` and `unlink`: the maker holds this lock until the segment is published, and a process that
    // unlinks the segment holds it until both names are gone. So only now, under the lock, do the names of the segments
    // decide.
    if bytelock::try_lock(&fd, REGISTRY_BYTE).ok()? && !lock_objects_named(status.uid)?.contains(name) {
        object::unlink(name).ok()?;
    }
    Some(())
}
