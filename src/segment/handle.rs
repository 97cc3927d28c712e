//! The handle on a segment, and what it does with the segment as a whole. What it does with variables is in `value_ops`
//! and `atomic_ops`. The process's half of the segment, which the handles of a process share, is in
//! `process/attachment.rs`. Protocol of detaching: docs/protocol.md, "A handle that is detached while other threads
//! call it".

use crate::coordination::AsCoordination;
use crate::error::{Error, Result};
use crate::format::{Eviction, SLOT};
use crate::key::{Index, Key};
use crate::process::attachment::Attachment;
use crate::process::backoff::Backoff;
use crate::process::backoff::Obstacle;
use crate::process::held_locks::LockOwner;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::segment::attach::attach;
use crate::segment::attached::release;
use crate::segment::check::{self, Report};
use crate::segment::info::{self, SegmentInfo, VariableInfo};
use crate::segment::options::Options;
use crate::segment::{limit, unlink};
use crate::sync::revocable::{Revocable, RevocableGuard};
use crate::variables::AsVariables;
use std::sync::atomic::{AtomicU64, Ordering};

/// A handle on a segment. Any number of threads may use it; a forked child uses the one that it inherited.
///
/// Values that this interface stores are pickles written by serde-pickle (protocol 3), which Python reads. It reads
/// values of plain data that Python wrote. Use [`Segment::get`] only if you trust whoever may write to the segment:
/// serde-pickle bounds neither depth nor memory.
///
/// ```
/// let key = shmvar::Key::from(-0x5EED_D0C0);
/// # shmvar::destroy(&key).unwrap();
/// let segment = shmvar::Segment::attach(key.clone(), &shmvar::Options::default())?;
/// segment.put(7, &("seven", 7.0))?;
/// assert_eq!(segment.get::<(String, f64)>(7)?, Some(("seven".into(), 7.0)));
/// segment.destroy()?;
/// # Ok::<(), shmvar::Error>(())
/// ```
pub struct Segment {
    /// The process's half. It goes when the handle is detached and the last call has ended that had begun before.
    attachment: Revocable<Attachment>,
    key: Key,
    id: [u8; 16],
    options: Options,
    created: bool,
    trusted: bool,
    /// Tells the handles of one process apart.
    number: u64,
}

/// A `count` of variables above this is compared with the memory that the object takes.
const PLAUSIBLE_COUNT: u64 = 1 << 16;

/// The number of the next handle.
static NEXT_HANDLE: AtomicU64 = AtomicU64::new(1);

impl Segment {
    /// Attaches to the segment of this key, and creates it if it is missing and the options allow that.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Exists`], [`Error::Access`], [`Error::Busy`], [`Error::Incompatible`],
    /// [`Error::Corrupt`], [`Error::Full`], [`Error::Invalid`].
    pub fn attach(key: impl Into<Key>, options: &Options) -> Result<Self> {
        Self::attach_with(&key.into(), options, &Blocking)
    }

    /// The same with the caller's way to wait.
    pub fn attach_with(key: &Key, options: &Options, policy: &dyn WaitPolicy) -> Result<Self> {
        let attached = attach(key, options, policy)?;
        Ok(Segment {
            key: attached.attachment.identity.key.clone(),
            id: attached.attachment.identity.id,
            attachment: Revocable::new(attached.attachment),
            options: Options { id: None, ..options.clone() },
            created: attached.created,
            trusted: attached.trusted,
            number: NEXT_HANDLE.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The process's half for the time of one call, unless the handle is detached.
    #[inline(always)]
    pub fn attachment(&self) -> Result<RevocableGuard<'_, Attachment>> {
        self.attachment.get().ok_or(Error::Detached)
    }

    /// The same for a call that changes something.
    #[inline(always)]
    pub fn for_change(&self) -> Result<RevocableGuard<'_, Attachment>> {
        let attachment = self.attachment()?;
        if self.options.readonly { Err(Error::ReadOnly) } else { Ok(attachment) }
    }

    /// The segment's key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// 128 random bits that tell this segment from any other one of its key.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// How the handle was attached.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Did the attach of this handle create the segment?
    pub fn created(&self) -> bool {
        self.created
    }

    /// May values run code when they are read through this handle?
    pub fn trusted(&self) -> bool {
        self.trusted
    }

    /// Was [`Segment::detach`] called?
    pub fn detached(&self) -> bool {
        self.attachment.is_revoked()
    }

    /// The calling thread as an owner of named locks that it takes through this handle.
    pub fn thread(&self) -> LockOwner {
        LockOwner::thread(self.number)
    }

    /// A task as an owner of named locks.
    pub fn task(&self, number: u64) -> LockOwner {
        LockOwner::task(number, self.number)
    }

    /// The limit: how many bytes the stored variables may be charged.
    ///
    /// # Errors
    /// [`Error::Detached`].
    pub fn size(&self) -> Result<u64> {
        Ok(self.attachment()?.state().limit.load(Ordering::Relaxed))
    }

    /// What the segment evicts where there is no room; `None`: nothing.
    ///
    /// # Errors
    /// [`Error::Detached`].
    pub fn evict(&self) -> Result<Option<Eviction>> {
        Ok(self.attachment()?.eviction)
    }

    /// How many variables there are.
    ///
    /// # Errors
    /// [`Error::Detached`]; [`Error::Corrupt`] if the segment claims more variables than its memory can hold.
    pub fn len(&self) -> Result<u64> {
        self.len_with(&Blocking)
    }

    /// The same with the caller's way to wait.
    pub fn len_with(&self, policy: &dyn WaitPolicy) -> Result<u64> {
        let attachment = self.attachment()?;
        let mut backoff = Backoff::default();
        let count = loop {
            let count = attachment.state().count.load(Ordering::Relaxed);
            // A hostile writer may store any number here, and callers allocate memory by it. But each variable takes a
            // slot.
            if count <= PLAUSIBLE_COUNT {
                break count;
            }
            let most = attachment.resident()? / SLOT;
            if count <= most {
                break count;
            }
            if attachment.state().count.load(Ordering::Relaxed) == count {
                return Err(Error::corrupt(format_args!("{count} variables in memory for at most {most}")));
            }
            backoff.again(Obstacle::Changed, &attachment, policy)?;
        };
        if attachment.state().expiring.load(Ordering::Relaxed) != 0 {
            return attachment.variables().live_count(policy);
        }
        Ok(count)
    }

    /// Is there no variable?
    ///
    /// # Errors
    /// As [`Segment::len`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The segment in numbers.
    ///
    /// # Errors
    /// [`Error::Detached`] and the system's.
    pub fn info(&self) -> Result<SegmentInfo> {
        self.info_with(&Blocking)
    }

    /// The same with the caller's way to wait.
    pub fn info_with(&self, policy: &dyn WaitPolicy) -> Result<SegmentInfo> {
        info::info(&*self.attachment()?, policy)
    }

    /// A variable in numbers; `None` if it is missing.
    ///
    /// # Errors
    /// As [`Segment::get_pickle`].
    pub fn stat<'a>(&self, index: impl Into<Index<'a>>) -> Result<Option<VariableInfo>> {
        self.stat_with(&index.into(), &Blocking)
    }

    #[doc(hidden)]
    pub fn stat_with(&self, index: &Index<'_>, policy: &dyn WaitPolicy) -> Result<Option<VariableInfo>> {
        info::stat(&*self.attachment()?, index, policy)
    }

    #[doc(hidden)]
    #[cfg(feature = "python")]
    pub fn stream_with(&self, index: &Index<'_>, policy: &dyn WaitPolicy) -> Result<Option<Vec<u8>>> {
        info::stream(&*self.attachment()?, index, policy)
    }

    /// Lets this handle go; a second call does nothing. With the last handle that a process has on a segment, the
    /// mapping and the descriptors go, as soon as the calls of other threads have ended that had begun before. Objects
    /// over the memory of values keep that memory until they are dropped.
    pub fn detach(&self) {
        self.detach_with(|slow| slow());
    }

    /// The same; `allow_threads` runs the part that may wait. The other part ends what read sections rely on: under an
    /// interpreter with a global lock, the caller holds that lock.
    pub fn detach_with(&self, allow_threads: impl FnOnce(&mut (dyn FnMut() + Send))) {
        let Some(attachment) = self.attachment.get() else { return };
        if self.attachment.revoke() {
            allow_threads(&mut || {
                attachment.coordination().release_locks_of(|who| who.handle == self.number);
                attachment.coordination().give_back_of_handle(self.number);
            });
            release(&attachment);
        }
    }

    /// Unlinks the segment, if its key still means this very one. The next attach gets a new segment; processes that
    /// are attached keep this one until they detach.
    ///
    /// # Errors
    /// [`Error::Access`] if it belongs to another user, [`Error::ReadOnly`].
    pub fn destroy(&self) -> Result<()> {
        self.destroy_with(&Blocking)
    }

    /// The same with the caller's way to wait.
    pub fn destroy_with(&self, policy: &dyn WaitPolicy) -> Result<()> {
        unlink::destroy_attached(&*self.for_change()?, policy)
    }

    /// Changes the limit.
    ///
    /// # Errors
    /// [`Error::Full`] below what is used or beyond what can be held; [`Error::Invalid`] for 0.
    pub fn resize(&self, size: u64, policy: &dyn WaitPolicy) -> Result<()> {
        if size == 0 {
            return Err(Error::Invalid("size must be at least 1 byte".into()));
        }
        limit::set_limit(&*self.for_change()?, size, false, policy)
    }

    /// Gives free memory back to the system.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Busy`].
    pub fn trim(&self, policy: &dyn WaitPolicy) -> Result<()> {
        self.for_change()?.variables().trim(policy)
    }

    /// Verifies every invariant of the format, holding the writer lock for some milliseconds at a time. A handle that
    /// only reads takes no lock, and verifies again until nobody has changed the segment meanwhile.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with the first invariant that does not hold; [`Error::Busy`].
    pub fn check(&self) -> Result<Report> {
        self.check_with(&Blocking)
    }

    /// The same with the caller's way to wait.
    pub fn check_with(&self, policy: &dyn WaitPolicy) -> Result<Report> {
        check::check(&*self.attachment()?, !self.options.readonly, policy)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.detach();
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Segment(key={})", self.key())
    }
}
