//! Second objects that no segment names: left by one who died between publishing the two, or between unlinking them.

use crate::identity::{ID_AT, Identity};
use crate::key;
use crate::os::bytelock::{self, REGISTRY};
use crate::os::object;
use std::collections::HashSet;

/// Removes those of this user. Called by whoever makes or removes a second object: nobody else pays.
pub fn remove_orphans() {
    let objects = object::list(object::LOCKS);
    let Some(named) = (if objects.is_empty() { None } else { named(crate::os::euid()) }) else { return };
    for name in objects.iter().filter(|name| !named.contains(*name)) {
        let _ = remove(name);
    }
}

/// The second objects that any segment may name, by its creation id alone: of another version or damaged, it counts, too. `None`:
/// one of this owner's cannot be read, and might name any of his.
pub fn named(uid: u32) -> Option<HashSet<String>> {
    let mut names = HashSet::new();
    for name in object::list(key::PREFIX) {
        let mut id = [0; 16];
        match object::open(&name, false).and_then(|fd| object::read_at(fd, &mut id, ID_AT)) {
            Ok(_) => drop(names.insert(Identity::lock_name(&id))),
            // Both objects belong to whoever made them: what is another user's names none of his.
            Err(_) if object::status_of(&name).is_ok_and(|status| status.uid == uid) => return None,
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
    if bytelock::try_lock(&fd, REGISTRY).ok()? && !named(status.uid)?.contains(name) {
        object::unlink(name).ok()?;
    }
    Some(())
}
