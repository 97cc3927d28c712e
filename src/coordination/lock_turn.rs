//! One caller's wait for a named lock.

use crate::coordination::Coordination;
use crate::coordination::lock_state::{LockWord, NOBODY, OwnerId};
use crate::error::Result;
use crate::key::{Index, Name};
use crate::os::mem::Scratch;
use crate::variables::place::Spot;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Who has waited this long asks for the next turn: after Go's `sync.Mutex`.
pub(super) const STARVING: Duration = Duration::from_millis(1);

/// Somebody waits.
pub(super) struct Wait {
    pub began: Instant,
    /// Tells waiters of one process apart. Two may have the same: then one takes the other's turn.
    pub token: u16,
    /// Found dead, after the last look.
    pub dead: [OwnerId; 2],
}

impl Wait {
    pub(super) fn began() -> Self {
        static TOKENS: AtomicU16 = AtomicU16::new(0);
        Wait { began: Instant::now(), token: TOKENS.fetch_add(1, Ordering::Relaxed), dead: [NOBODY; 2] }
    }

    pub(super) fn is_dead(&self, owner: OwnerId) -> bool {
        owner != NOBODY && self.dead.contains(&owner)
    }
}

/// The turn of one who waits in his own way.
#[derive(Default)]
pub struct Turn(pub(super) Option<Wait>);

impl Coordination {
    /// Asks who of those that a lock names is dead, with nothing held.
    pub(super) fn find_dead(&self, lock: &LockWord, wait: &mut Wait) -> Result<()> {
        for (dead, owner) in wait.dead.iter_mut().zip([lock.owner, lock.next]) {
            *dead = if owner == NOBODY || self.lives(owner)? { NOBODY } else { owner };
        }
        Ok(())
    }

    /// Takes back what a waiter asked for, if that can be done at once. If not, it lapses.
    pub(super) fn leave_queue(&self, name: &Index<'_>, wait: &Wait) {
        let Some(mut writer) = self.try_write() else { return };
        let (me, hash) = (self.life_of(writer.me), Name::of_lock(name).hash(self.identity.hash_key));
        let mut left = || -> Result<bool> {
            let place = writer.place(&Name::of_lock(name), &mut Scratch::new())?;
            let Spot::ReservedSpan(offset, content) = place.spot else { return Ok(false) };
            let lock = writer.lock_at(&content)?;
            if lock.next != me || lock.token != wait.token {
                return Ok(false);
            }
            if lock.owner == NOBODY {
                // It was reserved for us just now: whoever comes.
                return writer.discard(&place.leaf, offset, &content).map(|()| true);
            }
            writer.set_lock(name, &place, lock.without_next()).map(|_| false)
        };
        let freed = left().unwrap_or(false);
        drop(writer);
        if freed {
            self.notify_released(hash, false);
        }
    }
}
