//! One caller's wait for a named lock: which owners it found dead, and its request to be the next owner.
//!
//! The protocol is "Named locks" in docs/protocol.md (*Giving up*, and step 2 of the wait).

use crate::coordination::Coordination;
use crate::coordination::lock_state::{LockState, NO_PARTICIPANT, ParticipantId};
use crate::error::Result;
use crate::key::{Index, Name};
use crate::os::mem::Scratch;
use crate::variables::place::Spot;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// A waiter that has waited this long asks to be the next owner, like the starvation mode of Go's `sync.Mutex`.
pub(super) const HAND_OFF_AFTER: Duration = Duration::from_millis(1);

/// Private to the process: one wait for a lock.
pub(super) struct LockWait {
    /// When the wait began.
    pub began: Instant,
    /// Tells the waiters of one process apart. Two waiters may have the same token: then one of them takes the other's
    /// turn.
    pub token: u16,
    /// The owner and the next owner of the lock as last seen, where they were found dead.
    pub dead: [ParticipantId; 2],
}

impl LockWait {
    /// Begins a wait now.
    pub(super) fn begin() -> Self {
        static TOKENS: AtomicU16 = AtomicU16::new(0);
        LockWait { began: Instant::now(), token: TOKENS.fetch_add(1, Ordering::Relaxed), dead: [NO_PARTICIPANT; 2] }
    }

    /// Returns whether a participant was found dead.
    pub(super) fn is_dead(&self, owner: ParticipantId) -> bool {
        owner != NO_PARTICIPANT && self.dead.contains(&owner)
    }
}

/// Private to the process: the wait of a caller that waits in its own way (a task, a greenlet) and makes one try after
/// the other. `None`: it has not begun to wait.
#[derive(Default)]
pub struct LockTurn(pub(super) Option<LockWait>);

impl Coordination {
    /// Asks whether the owner of a lock and its next owner are alive. No lock is held here, because that takes a system
    /// call.
    pub(super) fn find_dead(&self, lock: &LockState, wait: &mut LockWait) -> Result<()> {
        for (dead, owner) in wait.dead.iter_mut().zip([lock.owner, lock.next]) {
            *dead = if owner == NO_PARTICIPANT || self.is_alive(owner)? { NO_PARTICIPANT } else { owner };
        }
        Ok(())
    }

    /// Takes back the request to be the next owner, if the writer lock is free just now. If it is not, the reservation
    /// lapses.
    pub(super) fn withdraw_request(&self, name: &Index<'_>, wait: &LockWait) {
        let Some(mut writer) = self.try_write() else { return };
        let (own_id, hash) = (self.participant_id(writer.number), Name::of_lock(name).hash(self.identity.hash_key));
        let mut withdraw = || -> Result<bool> {
            let place = writer.find_place(&Name::of_lock(name), &mut Scratch::new())?;
            let Spot::Occupied(offset, content) = place.spot else { return Ok(false) };
            let lock = writer.lock_state(&content)?;
            if lock.next != own_id || lock.token != wait.token {
                return Ok(false);
            }
            if lock.owner == NO_PARTICIPANT {
                // The lock was reserved for this waiter just now: it becomes free, and any waiter may have it.
                return writer.discard(&place.leaf, offset, &content).map(|()| true);
            }
            writer.update_lock(name, &place, lock.without_next()).map(|_| false)
        };
        let freed = withdraw().unwrap_or(false);
        drop(writer);
        if freed {
            self.notify_released(hash, false);
        }
    }
}
