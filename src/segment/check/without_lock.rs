//! The check for a handle that may not write: it takes no lock, verifies a private copy, and takes the result only if
//! nobody changed the segment meanwhile. Protocol: docs/protocol.md, "Check". Invariant 6 stands here, too: it is about
//! the moments at which the writer lock is free.

use super::invariant::ensure;
use super::private_copy::private_copy;
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

/// Verifies a copy of the segment, and begins again until nobody has changed the segment meanwhile, for [`WAIT_LIMIT`]
/// at most.
pub(super) fn check_without_lock(att: &Attachment, policy: &dyn WaitPolicy) -> Result<Report> {
    let began = Instant::now();
    loop {
        // SYNC: with the release fences of `describe` (sync/intent.rs): if the copy holds a store of a later change,
        // then the second look below sees that change's serial, or the lock that is held for it.
        let before = quiet_serial(att)?;
        fence(Ordering::Acquire);
        let verified = private_copy(att).and_then(|copy| check_at_once(&copy, att, policy));
        fence(Ordering::Acquire);
        if before.is_some() && before == quiet_serial(att)? {
            return verified;
        }
        if began.elapsed() > WAIT_LIMIT {
            return Err(Error::Busy(format!(
                "{}: others changed it during each check, for {} s: check it through a handle that may write",
                att.object.name,
                WAIT_LIMIT.as_secs()
            )));
        }
        policy.sleep(&Sleep::pause(Duration::from_millis(1)).short());
        policy.interrupted()?;
    }
}

/// The serial of the last change. `None` if a living process holds the writer lock and may be changing something.
fn quiet_serial(att: &Attachment) -> Result<Option<u64>> {
    let word = att.state().lock.load(Ordering::Acquire);
    if word == 0 {
        check_unlocked_intent(att)?;
        return Ok(Some(att.mem.intent().serial.load(Ordering::Acquire)));
    }
    let owner = lock_word::owner(word).filter(|owner| *owner < PARTICIPANTS);
    // The owner may have released the lock meanwhile, and then its participant number.
    let still_owner = || lock_word::owner(att.state().lock.load(Ordering::Acquire)) == owner;
    if owner.is_some_and(|owner| att.died(owner, still_owner).is_ok_and(|died| died)) {
        return Err(Error::Busy(format!(
            "{}: a process died while it held the writer lock; the next one that may write puts that right",
            att.object.name
        )));
    }
    Ok(None)
}

/// Verifies that no change is under way while the writer lock is free. This cannot be asked under the lock: whoever
/// takes the lock finishes, or drops, a change that is under way.
pub(super) fn check_unlocked_intent(att: &Attachment) -> Result<()> {
    let (lock, valid) = (&att.state().lock, &att.mem.intent().valid);
    let stray = lock.load(Ordering::Acquire) == 0 && {
        // The second look tells a stray intent from a change that began and ended in between: no serial occurs twice.
        let serial = valid.load(Ordering::Acquire);
        serial != 0 && lock.load(Ordering::Acquire) == 0 && valid.load(Ordering::Acquire) == serial
    };
    ensure!(!stray, 6, "the intent is valid although the lock is free");
    Ok(())
}
