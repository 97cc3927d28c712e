//! How many named locks may be held at a time.
//!
//! Named locks are charged nothing, so that a lock never fails because of what others have stored. So their number has
//! a bound of its own.

use crate::coordination::{Coordination, CoordinationWriter};
use crate::error::{Error, Lack, Result};
use crate::format::PARTICIPANTS;
use crate::format::slot_flags::QUEUE;
use crate::process::wait_policy::WaitPolicy;
use crate::variables::AsVariables;
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::place::SlotPlace;
use std::sync::atomic::Ordering;

/// One lock is allowed for each of this many bytes of the limit: the most that a lock with a name of the longest kind
/// takes.
const BYTES_PER_LOCK: u64 = 1_024;
/// This many locks are allowed whatever the limit is.
const LOCKS_MIN: u64 = 1_024;

impl CoordinationWriter<'_> {
    /// Returns how many locks may be held.
    fn locks_allowed(&self) -> u64 {
        (self.att.state().limit.load(Ordering::Relaxed) / BYTES_PER_LOCK).max(LOCKS_MIN)
    }

    /// Returns whether one more lock is allowed, which would be stored at `place`. The hash spreads the locks over the
    /// leaves, so the counts of one leaf tell how many there are, give or take a half. Only where that comes near the
    /// bound are all leaves asked.
    #[inline]
    pub fn allows_one_more(&self, place: &SlotPlace) -> Result<bool> {
        let allowed = self.locks_allowed();
        let entries = self.att.variables().counts_of(&place.leaf)?.entries;
        let leaves = 1 << place.leaf.word.depth().min(place.leaf.root.depth()).min(63);
        Ok(entries.saturating_mul(leaves) <= allowed / 2
            // Queues and their items are entries, too: only the tags tell them from locks.
            || self.locks_in(&place.leaf)?.saturating_mul(leaves) <= allowed / 2
            || self.allows_one_more_counted(allowed)?)
    }

    /// Counts the locks in all leaves, unless this process may acquire some more before it counts again.
    #[cold]
    fn allows_one_more_counted(&self, allowed: u64) -> Result<bool> {
        let uncounted = &self.att.locks.until_recount;
        let left = uncounted.load(Ordering::Relaxed);
        if left > 0 {
            uncounted.store(left - 1, Ordering::Relaxed);
            return Ok(true);
        }
        if self.lock_slots(|leaf| Ok(self.att.variables().counts_of(leaf)?.entries))? < allowed {
            return Ok(true);
        }
        let held = self.locks_held()?;
        // Counting takes time in proportion to the table, so the locks of a large table are not counted for each lock.
        // Other processes may acquire locks meanwhile, so each process gets an equal share of what is left before it
        // counts again.
        uncounted.store(allowed.saturating_sub(held) / u64::from(PARTICIPANTS), Ordering::Relaxed);
        Ok(held < allowed)
    }

    /// Returns a sum over the leaves of the names.
    fn lock_slots(&self, count: impl Fn(&Leaf) -> Result<u64>) -> Result<u64> {
        let (mut sum, mut hash) = (0_u64, Some(0));
        while let Some(from) = hash {
            let leaf = self.att.variables().leaf_of(from, TableOf::Names)?;
            sum = sum.saturating_add(count(&leaf)?);
            hash = leaf.end(from);
        }
        Ok(sum)
    }

    /// Counts the locks in a leaf that are held or reserved. Queues and their items are entries of it as well.
    #[cold]
    fn locks_in(&self, leaf: &Leaf) -> Result<u64> {
        let slots = self.att.mem.slots(leaf.base, leaf.slots + 1)?;
        let is_lock = |tag: u64| tag & 7 >= 2 && tag & QUEUE == 0;
        let held = slots.iter().skip(1).filter(|slot| is_lock(slot.rest[1].load(Ordering::Relaxed))).count();
        Ok(held as u64)
    }

    /// Counts the locks that are held or reserved. The counts of a leaf are larger: they include integer names whose
    /// locks were released.
    fn locks_held(&self) -> Result<u64> {
        self.lock_slots(|leaf| self.locks_in(leaf))
    }

    /// Returns the error for a lock that the bound does not allow.
    #[cold]
    fn no_lock_left(&self) -> Result<Error> {
        let (held, allowed) = (self.locks_held()?, self.locks_allowed());
        let limit = self.att.state().limit.load(Ordering::Relaxed);
        Ok(Error::Full {
            lack: Lack::Other,
            needed: BYTES_PER_LOCK,
            free: allowed.saturating_sub(held).saturating_mul(BYTES_PER_LOCK),
            size: allowed.saturating_mul(BYTES_PER_LOCK),
            remedy: format!(
                "{held} named locks are held, and a segment of {limit} bytes may have {allowed} (one for each \
                 {BYTES_PER_LOCK} bytes of its size, at least {LOCKS_MIN}): release some, or raise the size"
            ),
        })
    }
}

impl Coordination {
    /// Reaps the dead, since their locks do not count, and looks again.
    ///
    /// # Errors
    /// [`Error::Full`] if there are still too many locks.
    #[cold]
    pub fn reap_for_lock(&self, policy: &dyn WaitPolicy) -> Result<()> {
        self.reap_the_dead(policy)?;
        let writer = self.write(policy)?;
        if writer.locks_held()? < writer.locks_allowed() { Ok(()) } else { Err(writer.no_lock_left()?) }
    }
}
