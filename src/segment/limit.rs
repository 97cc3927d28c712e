//! The limit: how many bytes the variables may be charged. That a change stays below it is looked at in `variables/`;
//! how far it can be raised was fixed when the segment was created (`create`). The word is `limit` in docs/format.md,
//! "State".

use crate::error::{Error, Lack, Result};
use crate::format::GRANULE;
use crate::os::object;
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::variables::AsVariables;
use std::sync::atomic::Ordering;

/// Raises the limit to `size`; does nothing if it is that large already.
pub fn raise_limit(att: &Attachment, size: u64, policy: &dyn WaitPolicy) -> Result<()> {
    if size > att.state().limit.load(Ordering::Relaxed) { set_limit(att, size, true, policy) } else { Ok(()) }
}

/// Changes the limit: not below what is used, and not beyond what the segment or the memory file system can hold. If
/// `only_raise`, a limit that is larger by now stays.
pub fn set_limit(att: &Attachment, size: u64, only_raise: bool, policy: &dyn WaitPolicy) -> Result<()> {
    let (total, free) = att.file_system()?;
    if size > total {
        let remedy = format!("the memory file system {} is smaller than that: enlarge it first", object::DIR);
        return Err(Error::Full { lack: Lack::Other, needed: size, free, size: total, remedy });
    }
    let most = att.identity.geometry.granules * GRANULE / 2;
    if size > most {
        return Err(Error::Full {
            lack: Lack::Other,
            needed: size,
            free: most.saturating_sub(att.state().used.load(Ordering::Relaxed)),
            size: most,
            remedy: format!(
                "the reserve was fixed when the segment was created: destroy it and create it anew, attach(key, {size}) or \
                 attach(key, reserve={size})"
            ),
        });
    }
    let mut writer = att.write(policy)?;
    if size < att.state().used.load(Ordering::Relaxed) {
        drop(writer);
        att.variables().collect_expired(policy)?;
        writer = att.write(policy)?;
    }
    let used = att.state().used.load(Ordering::Relaxed);
    let now = att.state().limit.load(Ordering::Relaxed);
    if size < used {
        return Err(Error::Full {
            lack: Lack::Other,
            needed: used,
            free: 0,
            size,
            remedy: format!("the limit cannot go below the {used} bytes that are used: remove variables first"),
        });
    }
    if !only_raise || size > now {
        // CRASH: the limit is one word, so it is the old one or the new one. A process that dies here leaves the lock,
        // and no change under way.
        att.state().limit.store(size, Ordering::Release);
        crash_point!("limit-stored");
    }
    drop(writer);
    Ok(())
}
