//! One caller's wait for a named lock.

use crate::coordination::Coordination;
use crate::coordination::lock_state::{LockState, NO_PARTICIPANT, ParticipantId};
use crate::error::Result;
use crate::key::{Index, Name};
use crate::os::mem::Scratch;
use crate::variables::place::Spot;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Who has waited this long asks for the next turn: after Go's `sync.Mutex`.
pub(super) const HAND_OFF_AFTER: Duration = Duration::from_millis(1);

/// Somebody waits.
pub(super) struct LockWait {
    pub began: Instant,
    /// Tells waiters of one process apart. Two may have the same: then one takes the other's turn.
    pub token: u16,
    /// Found dead, after the last look.
    pub dead: [ParticipantId; 2],
}

impl LockWait {
    pub(super) fn began() -> Self {
        static TOKENS: AtomicU16 = AtomicU16::new(0);
        LockWait { began: Instant::now(), token: TOKENS.fetch_add(1, Ordering::Relaxed), dead: [NO_PARTICIPANT; 2] }
    }

    pub(super) fn is_dead(&self, owner: ParticipantId) -> bool {
        owner != NO_PARTICIPANT && self.dead.contains(&owner)
    }
}

/// The turn of one who waits in his own way.
#[derive(Default)]
pub struct LockTurn(pub(super) Option<LockWait>);

impl Coordination {
    /// Asks who of those that a lock names is dead, with nothing held.
    pub(super) fn find_dead(&self, lock: &LockState, wait: &mut LockWait) -> Result<()> {
        for (dead, owner) in wait.dead.iter_mut().zip([lock.owner, lock.next]) {
            *dead = if owner == NO_PARTICIPANT || self.is_alive(owner)? { NO_PARTICIPANT } else { owner };
        }
        Ok(())
    }

    /// Takes back what a waiter asked for, if that can be done at once. If not, it lapses.
    pub(super) fn withdraw_request(&self, name: &Index<'_>, wait: &LockWait) {
        let Some(mut writer) = self.try_write() else { return };
        let (own_id, hash) = (self.participant_id(writer.me), Name::of_lock(name).hash(self.identity.hash_key));
        let mut left = || -> Result<bool> {
            let place = writer.find_place(&Name::of_lock(name), &mut Scratch::new())?;
            let Spot::Occupied(offset, content) = place.spot else { return Ok(false) };
            let lock = writer.lock_state(&content)?;
            if lock.next != own_id || lock.token != wait.token {
                return Ok(false);
            }
            if lock.owner == NO_PARTICIPANT {
                // It was reserved for us just now: whoever comes.
                return writer.discard(&place.leaf, offset, &content).map(|()| true);
            }
            writer.update_lock(name, &place, lock.without_next()).map(|_| false)
        };
        let freed = left().unwrap_or(false);
        drop(writer);
        if freed {
            self.notify_released(hash, false);
        }
    }
}
