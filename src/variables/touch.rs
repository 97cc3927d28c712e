//! A new version for a variable whose value stays. The protocol is "Values in place" in docs/protocol.md, **touch**.

use crate::error::Result;
use crate::format::Eviction;
use crate::key::{Index, Name};
use crate::os::mem::Scratch;
use crate::process::wait_policy::WaitPolicy;
use crate::variables::Variables;
use crate::variables::place::Spot;

impl Variables {
    /// Gives a variable the next version, and wakes those that wait for it. Its value and its expiry stay. Returns the
    /// version, 0 if there is no such variable.
    pub fn touch(&self, index: &Index<'_>, policy: &dyn WaitPolicy) -> Result<u64> {
        let name = Name::from(index);
        let mut writer = self.write(policy)?;
        let place = writer.find_place(&name, &mut Scratch::new())?;
        let Spot::Occupied(offset, content) = place.spot else { return Ok(0) };
        if writer.visible_version(Some(&content))? == 0 {
            return Ok(0);
        }
        let version = writer.restamp(&place.leaf, offset, &content)?;
        let hash = name.hash(self.identity.hash_key);
        if self.eviction == Some(Eviction::Lru) {
            writer.note_stored(hash, false);
        }
        drop(writer);
        self.notify_changed(hash);
        Ok(version)
    }
}
