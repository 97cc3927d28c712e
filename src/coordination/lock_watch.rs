//! For callers that wait for locks in their own way: looking, without the writer lock, whether a try may succeed.
//!
//! The protocol is "Wake words" in docs/protocol.md (the watcher). The try itself is in `lock_acquire.rs`.

use crate::coordination::Coordination;
use crate::coordination::lock_state::{NO_PARTICIPANT, ParticipantId};
use crate::error::{Error, Result};
use crate::format::WATCHER;
use crate::key::{Index, Name};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::wake_word;

/// Private to the process: one look at any number of locks. Whether an owner is alive is asked once for locks in a row
/// that it owns.
pub struct LockWatch<'a> {
    att: &'a Coordination,
    /// The id of this process. `None`: it has no participant number.
    own_id: Option<ParticipantId>,
    /// The participant that was asked for last, and whether it is alive.
    asked: Option<(ParticipantId, bool)>,
}

impl<'a> LockWatch<'a> {
    /// Begins a look.
    pub fn new(att: &'a Coordination) -> Self {
        LockWatch { att, own_id: att.number_now().map(|number| att.participant_id(number)), asked: None }
    }

    /// Returns whether a participant is alive.
    fn is_alive(&mut self, owner: ParticipantId) -> Result<bool> {
        match self.asked {
            Some((asked, lives)) if asked == owner => Ok(lives),
            _ => {
                let lives = self.att.is_alive(owner)?;
                self.asked = Some((owner, lives));
                Ok(lives)
            }
        }
    }

    /// Marks the wake word of a lock, then looks whether a try may help: the lock is missing, or its owner is dead, or
    /// it is reserved for this process or for one that did not come, or it has no next owner.
    pub fn may_try(&mut self, name: &Index<'_>, policy: &dyn WaitPolicy) -> Result<bool> {
        let hash = Name::of_lock(name).hash(self.att.identity.hash_key);
        let Some(word) = self.att.wake_word(hash) else { return Err(Error::corrupt("the wake words")) };
        wake_word::mark(&word.released, WATCHER);
        let Some(lock) = self.att.read_lock(name, policy)? else { return Ok(true) };
        if lock.owner != NO_PARTICIPANT && !self.is_alive(lock.owner)? {
            return Ok(true);
        }
        Ok(match (lock.owner, lock.next) {
            (NO_PARTICIPANT, next) if self.own_id == Some(next) => true,
            (NO_PARTICIPANT, next) => lock.lapsed() || next == NO_PARTICIPANT || !self.is_alive(next)?,
            (_, next) if self.own_id == Some(next) => false,
            (_, next) => next == NO_PARTICIPANT || !self.is_alive(next)?,
        })
    }
}
