//! The creation lock of an index: who makes a value in place holds it, so that others wait for that value instead of
//! filling as much memory themselves. It decides nothing: the commit does. The protocol is "Values in place" in
//! `docs/protocol.md`.

use crate::error::Result;
use crate::os::bytelock::{self, Anchor};
use crate::process::at_fork;
use crate::process::attachment::Attachment;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::{WAIT_LIMIT, WaitPolicy};
use std::cell::Cell;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// Bytes that even a slow machine fills in a second. The wait for who fills them is longer by one second for each such
/// part.
const FILLED_PER_SECOND: u64 = 100 << 20;

/// What the wait for a creation lock came to.
pub enum Creation {
    /// The caller makes the value. While this lives, others wait for it.
    Turn(Option<CreationLock>),
    /// There is one by now.
    Made,
}

/// Private to the process: a creation lock, held until this is dropped. A forked child does not hold it.
pub struct CreationLock {
    #[allow(dead_code, reason = "dropping it releases the lock")]
    anchor: Anchor,
    /// Dropped in the thread that has taken it.
    _of_thread: PhantomData<*mut ()>,
}

thread_local! {
    /// How many creation locks this thread holds.
    static HELD: Cell<u32> = const { Cell::new(0) };
}

impl CreationLock {
    fn new(anchor: Anchor) -> Self {
        HELD.set(HELD.get() + 1);
        CreationLock { anchor, _of_thread: PhantomData }
    }
}

impl Drop for CreationLock {
    fn drop(&mut self) {
        HELD.set(HELD.get().saturating_sub(1));
    }
}

impl Attachment {
    /// Waits until no other process or thread makes a value under the name with this hash, or until `is_made` says that
    /// there is one. `len` is the number of bytes that are to be made. The caller holds no lock of this crate.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted) if `policy` says so, and what `is_made` fails with.
    pub fn wait_to_create(
        &self,
        hash: u64,
        len: u64,
        is_made: &mut dyn FnMut() -> Result<bool>,
        policy: &dyn WaitPolicy,
    ) -> Result<Creation> {
        let limit = WAIT_LIMIT + Duration::from_secs(len / FILLED_PER_SECOND);
        let (began, mut pause) = (Instant::now(), Duration::from_micros(50));
        // A signal handler, or another greenlet of this thread, must not wait for what goes on only afterwards.
        let held_by_thread = HELD.get() > 0;
        loop {
            let lock = if held_by_thread { Attempt::Impossible } else { self.try_creation_lock(hash) };
            if is_made()? {
                return Ok(Creation::Made);
            }
            match lock {
                Attempt::Taken(lock) => {
                    crash_point!("creation-locked");
                    // CRASH: the kernel lets the lock go, and the next process makes the value.
                    return Ok(Creation::Turn(Some(lock)));
                }
                Attempt::Impossible => return Ok(Creation::Turn(None)),
                // Its holder is stopped, or slow. The value may be made without the lock: at worst in vain.
                Attempt::Busy if began.elapsed() > limit => return Ok(Creation::Turn(None)),
                Attempt::Busy => {}
            }
            policy.sleep(&Sleep::pause(pause).short());
            policy.interrupted()?;
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// Tries to take a creation lock. The process's mutex is held meanwhile, so that no fork comes between opening the
    /// description and closing it: the child would keep the lock.
    fn try_creation_lock(&self, hash: u64) -> Attempt {
        let _process = at_fork::lock();
        let Some(fd) = self.fresh_description() else { return Attempt::Impossible };
        match bytelock::try_lock(&fd, bytelock::creation_byte_of(hash)) {
            // Without memory for the page the lock ends with the descriptor.
            Ok(true) => {
                Anchor::new(&fd).map_or(Attempt::Impossible, |anchor| Attempt::Taken(CreationLock::new(anchor)))
            }
            Ok(false) => Attempt::Busy,
            Err(_) => Attempt::Impossible,
        }
    }
}

/// What one attempt to take a creation lock came to.
enum Attempt {
    Taken(CreationLock),
    /// Another process or thread holds it.
    Busy,
    /// This process cannot take any: it has dropped its privileges, or has no descriptor left; or this thread holds one.
    Impossible,
}
