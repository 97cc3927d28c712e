//! Without.

use super::copy::private_copy;
use super::invariant::hold;
use super::report::Report;
use super::slices::check_at_once;
use crate::error::{Error, Result};
use crate::format::PARTICIPANTS;
use crate::process::attachment::Attachment;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::{WAIT_LIMIT, WaitPolicy};
use crate::sync::lock_word;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

pub(super) fn check_without_lock(att: &Attachment, policy: &dyn WaitPolicy) -> Result<Report> {
    let began = Instant::now();
    loop {
        // SYNC: with the release fences of `describe`: a store of a later change that `verify` saw is followed by the
        // sight of that change's serial, or of the lock held for it.
        let before = quiet(att)?;
        fence(Ordering::Acquire);
        let verified = private_copy(att).and_then(|copy| check_at_once(&copy, att, policy));
        fence(Ordering::Acquire);
        if before.is_some() && before == quiet(att)? {
            return verified;
        }
        if began.elapsed() > WAIT_LIMIT {
            return Err(Error::Busy(format!(
                "{}: others changed it each time it was checked, for {} s: check it through a handle that may write",
                att.object.name,
                WAIT_LIMIT.as_secs()
            )));
        }
        policy.sleep(&Sleep::pause(Duration::from_millis(1)).short());
        policy.interrupted()?;
    }
}

/// The serial of the last change, unless somebody is at one.
fn quiet(att: &Attachment) -> Result<Option<u64>> {
    let word = att.state().lock.load(Ordering::Acquire);
    if word == 0 {
        check_unlocked_intent(att)?;
        return Ok(Some(att.mem.intent().serial.load(Ordering::Acquire)));
    }
    let owner = lock_word::owner(word).filter(|owner| *owner < PARTICIPANTS);
    // He may have let go of the lock, then of his number.
    let his = || lock_word::owner(att.state().lock.load(Ordering::Acquire)) == owner;
    if owner.is_some_and(|owner| att.died(owner, his).is_ok_and(|died| died)) {
        return Err(Error::Busy(format!(
            "{}: a process died while it held the writer lock; the next one that may write puts that right",
            att.object.name
        )));
    }
    Ok(None)
}

/// Not asked under the lock: whoever takes that makes, or drops, a change that is under way.
pub(super) fn check_unlocked_intent(att: &Attachment) -> Result<()> {
    let (lock, valid) = (&att.state().lock, &att.mem.intent().valid);
    let stray = lock.load(Ordering::Acquire) == 0 && {
        // Not the change of somebody who came and went in between: its serial is not met twice.
        let serial = valid.load(Ordering::Acquire);
        serial != 0 && lock.load(Ordering::Acquire) == 0 && valid.load(Ordering::Acquire) == serial
    };
    hold!(!stray, 6, "the intent is valid although the lock is free");
    Ok(())
}
