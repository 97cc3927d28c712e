//! For who waits for locks in his own way: may a try come to something now? Looked at without the writer lock.

use crate::coordination::Coordination;
use crate::coordination::lock_state::{NOBODY, OwnerId};
use crate::error::{Error, Result};
use crate::format::WATCHER;
use crate::key::{Index, Name};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::wake_word;

/// One look at any number of locks: each owner is asked for once.
pub struct LockWatch<'a> {
    att: &'a Coordination,
    /// This process in its present life.
    me: Option<OwnerId>,
    asked: Option<(OwnerId, bool)>,
}

impl<'a> LockWatch<'a> {
    /// From now on.
    pub fn new(att: &'a Coordination) -> Self {
        LockWatch { att, me: att.number_now().map(|number| att.life_of(number)), asked: None }
    }

    fn lives(&mut self, owner: OwnerId) -> Result<bool> {
        match self.asked {
            Some((asked, lives)) if asked == owner => Ok(lives),
            _ => {
                let lives = self.att.lives(owner)?;
                self.asked = Some((owner, lives));
                Ok(lives)
            }
        }
    }

    /// Marks a lock's wake word, then looks: is the lock free, reserved for us or for one who did not come, a dead one's, or may
    /// the next turn be asked for?
    pub fn may_try(&mut self, name: &Index<'_>, policy: &dyn WaitPolicy) -> Result<bool> {
        let hash = Name::of_lock(name).hash(self.att.identity.hash_key);
        let Some(word) = self.att.wake_word(hash) else { return Err(Error::corrupt("the wake words")) };
        wake_word::mark(&word.released, WATCHER);
        let Some(lock) = self.att.lock_seen(name, policy)? else { return Ok(true) };
        if lock.owner != NOBODY && !self.lives(lock.owner)? {
            return Ok(true);
        }
        Ok(match (lock.owner, lock.next) {
            (NOBODY, next) if self.me == Some(next) => true,
            (NOBODY, next) => lock.lapsed() || next == NOBODY || !self.lives(next)?,
            (_, next) if self.me == Some(next) => false,
            (_, next) => next == NOBODY || !self.lives(next)?,
        })
    }
}
