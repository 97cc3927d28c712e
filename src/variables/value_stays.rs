//! Whether a large value is still where a reader found it, although its slot has another word: `expire` changes the word
//! and leaves the value where it is.
//!
//! The argument is in "Large records: spans and pins" of docs/protocol.md, "A slot whose expiry changes".

use crate::error::Result;
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::sync::slot::{Content, Kind};
use crate::variables::Variables;
use crate::variables::found::Found;
use crate::variables::leaf::TableOf;
use crate::variables::scan::ScanPass;
use std::sync::atomic::{Ordering, fence};

/// How often the slot is looked for before the value counts as changed. The leaf is replaced more seldom than that.
const LOOKS: u32 = 8;

impl Variables {
    /// Returns whether a large value that a reader found is still its variable's, at the same place. A reader calls this
    /// after it has copied bytes of the value, or pinned its span.
    #[inline]
    pub fn value_stays(&self, found: &Found) -> Result<bool> {
        Ok(self.is_unchanged(found)? || self.is_still_stored(found)?)
    }

    /// Looks for the slot of the value anew.
    #[cold]
    fn is_still_stored(&self, found: &Found) -> Result<bool> {
        for _ in 0..LOOKS {
            if let Some(stored) = reading!(self, |access| self.look_for(found, access))? {
                return Ok(stored);
            }
        }
        Ok(false)
    }

    /// Looks once, within one read section. `None`: something changed during the look.
    fn look_for(&self, found: &Found, access: impl Access) -> Result<Option<bool>> {
        // SYNC: nothing that was copied of the value is newer than the slots below.
        fence(Ordering::Acquire);
        let hash = self.hash_of(&found.content);
        let leaf = self.leaf_with(hash, TableOf::Variables, access)?;
        let pass = ScanPass::new(self, leaf, TableOf::Variables);
        let mut number = leaf.home(hash);
        for _ in 0..leaf.slots {
            let Some(now) = pass.slot(leaf.slot_at(number), access)? else { return Ok(None) };
            if is_same_value(&now.content, &found.content) {
                return Ok(Some(true));
            }
            if now.content.word == 0 {
                break;
            }
            number = leaf.after(number);
        }
        Ok(Some(false))
    }
}

/// Returns whether two contents of a slot name the same large value at the same place. While the version is the same, a
/// value is only ever moved to a lower place, so it was not elsewhere in between.
fn is_same_value(now: &Content, before: &Content) -> bool {
    now.kind() == Kind::Span
        && now.version() == before.version()
        && now.rest[0] == before.rest[0]
        && now.granule() == before.granule()
}
