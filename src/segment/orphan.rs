//! Second objects that no segment names: left by one who died between publishing the two, or between unlinking them.

use crate::format::identity::LOCK_OBJECT_PREFIX;
use crate::format::identity::{ID_AT, Identity};
use crate::key;
use crate::os::bytelock::{self, REGISTRY_BYTE};
use crate::os::object;
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// In a directory of more names than this nobody looks for them on the way: anybody may fill it, and each name costs a few
/// microseconds. `doctor` looks all the same.
const FEW: usize = 1_000;
/// So many are removed at one time: for each the names of all segments are asked again.
const AT_A_TIME: usize = 8;

/// Removes those of this user. Called by whoever makes or removes a second object: nobody else pays, and never for much.
pub fn remove_orphans() {
    let Some(names) = object::list_at_most(FEW) else { return };
    let me = crate::os::euid();
    let begins = |name: &OsString, prefix: &str| name.as_bytes().starts_with(prefix.as_bytes());
    let mine = |name: &&OsString| object::status_of(name).is_ok_and(|status| status.uid == me);
    let objects: Vec<_> = names.iter().filter(|name| begins(name, LOCK_OBJECT_PREFIX)).filter(mine).collect();
    if objects.is_empty() {
        return;
    }
    let Some(named) = named_by(names.iter().filter(|name| begins(name, key::PREFIX)), me) else { return };
    let orphans = objects.iter().filter_map(|name| name.to_str()).filter(|name| !named.contains(*name));
    for name in orphans.take(AT_A_TIME) {
        let _ = remove(name);
    }
}

/// The second objects that any segment may name, by its creation id alone: of another version or damaged, it counts, too. `None`:
/// one of this owner's cannot be read, and might name any of his.
pub fn named(uid: u32) -> Option<HashSet<String>> {
    named_by(object::list(key::PREFIX).ok()?.iter(), uid)
}

fn named_by<'a>(segments: impl Iterator<Item = &'a OsString>, uid: u32) -> Option<HashSet<String>> {
    let mut names = HashSet::new();
    // Without memory to list them nothing is removed.
    for name in segments {
        let mut id = [0; 16];
        match object::open(name, false).and_then(|fd| object::read_at(fd, &mut id, ID_AT)) {
            Ok(_) => {
                names.try_reserve(1).ok()?;
                names.insert(Identity::lock_object_name(&id));
            }
            // Both objects belong to whoever made them: what is another user's names none of his.
            Err(_) if object::status_of(name).is_ok_and(|status| status.uid == uid) => return None,
            Err(_) => {}
        }
    }
    Some(names)
}

fn remove(name: &str) -> Option<()> {
    let fd = object::open(name, true).ok()?;
    let status = object::status(&fd).ok()?;
    if !status.regular || status.size != 0 || status.uid != crate::os::euid() {
        return None;
    }
    // SYNC: its maker holds this lock until the segment is published, and whoever unlinks the segment until both are gone. So
    // the names are asked again now.
    if bytelock::try_lock(&fd, REGISTRY_BYTE).ok()? && !named(status.uid)?.contains(name) {
        object::unlink(name).ok()?;
    }
    Some(())
}
