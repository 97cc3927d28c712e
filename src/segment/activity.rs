//! What goes on in a segment at this moment, for displays that look again and again: they may not wait, take no lock
//! and disturb nobody. [`info`](super::info) knows more, but it looks for the longest value that fits, which may have
//! to wait for a living writer.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{PARTICIPANTS, SLEEPER, WAKE_WORDS, WATCHER};
use crate::heap::AsHeap;
use crate::heap::memory_map::MemoryUse;
use crate::os::object;
use crate::process::attachment::Attachment;
#[cfg(feature = "python")]
use crate::process::wait_policy::WaitPolicy;
use crate::segment::handle::Segment;
use crate::sync::lock_word;
#[cfg(feature = "python")]
use crate::variables::AsVariables;
#[cfg(feature = "python")]
use crate::variables::table_iter::FirstIndexes;
use std::sync::atomic::Ordering;

/// A process that is attached for writing.
pub struct AttachedProcess {
    /// Its pid in its own pid namespace.
    pub pid: u32,
    /// Nanoseconds since 1970.
    pub attached_at: u64,
}

/// What goes on in a segment. Sizes are bytes.
///
/// A plain report for callers: one public field for each fact, hence so many of them.
pub struct Activity {
    /// The limit.
    pub size: u64,
    /// What its variables are charged.
    pub used: u64,
    /// Its variables, with those that have expired and are not removed yet.
    pub count: u64,
    /// Memory that it takes.
    pub resident: u64,
    /// Of it, values that were replaced or removed and that views still use.
    pub held: u64,
    /// Of it, what is free.
    pub spare: u64,
    /// Permission bits.
    pub perm: u32,
    /// The owner's uid.
    pub uid: u32,
    /// Was it destroyed? Who has attached it keeps it.
    pub gone: bool,
    /// Grows with each change of a variable, by 1 as a rule.
    pub changes: u64,
    /// Variables that it has evicted.
    pub evicted: u64,
    /// About so many threads wait for a variable, a lock or a queue. Of those that share a wake word, one counts. One
    /// that has given up, or was killed, counts until something changes there or no process is attached.
    pub waiting: u32,
    /// The pid of the owner of the writer lock.
    pub writer: Option<u32>,
    /// The processes that are attached for writing, and alive.
    pub processes: Vec<AttachedProcess>,
}

impl Segment {
    /// What goes on at this moment.
    ///
    /// # Errors
    /// [`Error::Detached`]; [`Error::Corrupt`] if the object was cut short.
    pub fn activity(&self) -> Result<Activity> {
        activity_of(&*self.attachment()?)
    }

    /// What the memory is used for: all of it, and `cells` parts of its addresses. `apart` calls what it is given, and may
    /// let other threads run meanwhile.
    ///
    /// # Errors
    /// As of [`Segment::activity`].
    pub fn memory_map(
        &self,
        cells: usize,
        apart: impl FnOnce(&mut (dyn FnMut() + Send)),
    ) -> Result<(MemoryUse, Vec<MemoryUse>)> {
        let att = self.attachment()?;
        att.with_file(|_| ())?;
        let (heap, mut found) = (att.heap(), Ok(Default::default()));
        // SYNC: the use of the attachment begins before and ends after that (`Revocable`).
        apart(&mut || found = heap.memory_map(cells));
        found
    }

    /// The indexes of at most `count` variables, whichever come first in the table. None is there twice, unless the
    /// table changes meanwhile.
    ///
    /// # Errors
    /// As of any read.
    #[cfg(feature = "python")]
    pub fn first_indexes(&self, count: usize, policy: &dyn WaitPolicy) -> Result<FirstIndexes> {
        self.attachment()?.variables().first_indexes(count, policy)
    }
}

/// Describes what goes on in the segment of an attachment.
fn activity_of(att: &Attachment) -> Result<Activity> {
    // The length comes first: if the object was cut short, touching its pages would be a signal and not an error.
    att.with_file(|_| ())?;
    let status = att.with_file(|fd| object::status(fd))?.map_err(|e| Error::system("fstat", e))?;
    let state = att.state();
    let mut processes = Vec::new();
    for number in 0..state.participants_top.load(Ordering::Acquire).min(PARTICIPANTS) {
        let Some(participant) = att.participant(number) else { break };
        if participant.state.load(Ordering::Acquire) != 1 {
            continue;
        }
        // A process that may only read, and may not even open the lock object, sees all that are registered.
        if att.alive(number).or_else(|e| if att.mem.writable() { Err(e) } else { Ok(true) })? {
            let pid = participant.pid.load(Ordering::Relaxed);
            let attached_at = participant.attached_at.load(Ordering::Relaxed);
            fallible::push(&mut processes, AttachedProcess { pid, attached_at }, "a list of processes")?;
        }
    }
    let owner = lock_word::owner(state.lock.load(Ordering::Relaxed)).and_then(|number| att.participant(number));
    Ok(Activity {
        size: state.limit.load(Ordering::Relaxed),
        used: state.used.load(Ordering::Relaxed),
        count: state.count.load(Ordering::Relaxed),
        resident: status.resident,
        held: att.heap().retired_bytes().min(status.resident),
        spare: att.heap().warm_bytes().min(status.resident),
        perm: status.mode & 0o777,
        uid: status.uid,
        gone: state.gone.load(Ordering::Relaxed) != 0,
        changes: state.version.load(Ordering::Relaxed),
        evicted: state.evicted.load(Ordering::Relaxed),
        // A mark stays where its sleeper ended without being woken. Only attached processes make marks.
        waiting: if processes.is_empty() { 0 } else { waiting(att) },
        writer: owner.map(|participant| participant.pid.load(Ordering::Relaxed)),
        processes,
    })
}

/// About so many threads wait: the sleepers' marks on all wake words. Who watches all changes has a mark on each of
/// the words, so the watchers count as one.
fn waiting(att: &Attachment) -> u32 {
    let (mut sleepers, mut watched) = (0, false);
    for pair in (0..WAKE_WORDS).filter_map(|word| att.wake_word(word)) {
        let changed = pair.changed.waits.load(Ordering::Relaxed);
        let released = pair.released.waits.load(Ordering::Relaxed);
        sleepers += (changed & SLEEPER).count_ones() + (released & !WATCHER).count_ones();
        watched |= (changed | released) & WATCHER != 0;
    }
    sleepers + u32::from(watched)
}
