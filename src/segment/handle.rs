//! A handle.

use crate::coordination::AsCoordination;
use crate::error::{Error, Result};
use crate::format::SLOT;
use crate::key::{Index, Key};
use crate::process::attachment::Attachment;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::segment::attach::attach;
use crate::segment::attached::release;
use crate::segment::check::{self, Report};
use crate::segment::info::{self, SegmentInfo, VariableInfo};
use crate::segment::options::Options;
use crate::segment::{limit, unlink};
use crate::sync::revocable::{Borrowed, Revocable};
use crate::variables::AsVariables;
use std::sync::atomic::{AtomicU64, Ordering};

/// A handle on a segment. Any number of threads may use it; a forked child uses the one it inherited.
///
/// Values that this interface stores are pickles written by serde-pickle (protocol 3), which Python reads; it reads what
/// Python wrote from plain data. Only [`Segment::get`] of a segment whose writers you trust: serde-pickle bounds neither
/// depth nor memory.
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
    /// The process's half, which goes when the handle is detached and the last call that had begun has ended.
    attachment: Revocable<Attachment>,
    key: Key,
    id: [u8; 16],
    options: Options,
    created: bool,
    trusted: bool,
    /// Tells handles of one process apart.
    pub(super) number: u64,
}

/// A number of variables that is compared with the memory that the object takes.
const ASK_FROM: u64 = 1 << 16;

/// Handles made so far.
static HANDLES: AtomicU64 = AtomicU64::new(1);

impl Segment {
    /// Attaches to the segment of this key, creating it where the options say so.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Exists`], [`Error::Access`], [`Error::Busy`], [`Error::Incompatible`],
    /// [`Error::Corrupt`], [`Error::Full`], [`Error::Invalid`].
    pub fn attach(key: impl Into<Key>, options: &Options) -> Result<Self> {
        Self::attach_with(&key.into(), options, &Blocking)
    }

    /// The same, waiting in the caller's way.
    pub fn attach_with(key: &Key, options: &Options, policy: &dyn WaitPolicy) -> Result<Self> {
        let attached = attach(key, options, policy)?;
        Ok(Segment {
            key: attached.attachment.identity.key.clone(),
            id: attached.attachment.identity.id,
            attachment: Revocable::new(attached.attachment),
            options: Options { id: None, ..options.clone() },
            created: attached.created,
            trusted: attached.trusted,
            number: HANDLES.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The process's half, for one call, unless detached.
    #[inline(always)]
    pub fn attachment(&self) -> Result<Borrowed<'_, Attachment>> {
        self.attachment.get().ok_or(Error::Detached)
    }

    /// The same, for a change.
    #[inline(always)]
    pub fn for_change(&self) -> Result<Borrowed<'_, Attachment>> {
        let attachment = self.attachment()?;
        if self.options.readonly { Err(Error::ReadOnly) } else { Ok(attachment) }
    }

    /// Its key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The random 128 bits that tell it from any other segment of that key.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// How it was attached.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Did this handle's attach create it?
    pub fn created(&self) -> bool {
        self.created
    }

    /// May values run code when they are read through this handle?
    pub fn trusted(&self) -> bool {
        self.trusted
    }

    /// Was [`Segment::detach`] called?
    pub fn detached(&self) -> bool {
        self.attachment.revoked()
    }

    /// The limit now: bytes that stored variables may be charged.
    ///
    /// # Errors
    /// [`Error::Detached`].
    pub fn size(&self) -> Result<u64> {
        Ok(self.attachment()?.state().limit.load(Ordering::Relaxed))
    }

    /// Variables in it.
    ///
    /// # Errors
    /// [`Error::Detached`].
    pub fn len(&self) -> Result<u64> {
        self.len_with(&Blocking)
    }

    /// The same, waiting in the caller's way.
    pub fn len_with(&self, policy: &dyn WaitPolicy) -> Result<u64> {
        let attachment = self.attachment()?;
        let count = attachment.state().count.load(Ordering::Relaxed);
        // Whoever may write may claim any number, and callers make room for so many; but each takes a slot.
        if count > ASK_FROM {
            let most = attachment.resident()? / SLOT;
            if count > most && attachment.state().count.load(Ordering::Relaxed) == count {
                return Err(Error::corrupt(format_args!("{count} variables in memory for at most {most}")));
            }
        }
        if attachment.state().expiring.load(Ordering::Relaxed) != 0 {
            return attachment.variables().live_count(policy);
        }
        Ok(count)
    }

    /// No variable in it?
    ///
    /// # Errors
    /// [`Error::Detached`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The segment, in numbers.
    ///
    /// # Errors
    /// [`Error::Detached`] and the system's.
    pub fn info(&self) -> Result<SegmentInfo> {
        self.info_with(&Blocking)
    }

    /// The same, waiting in the caller's way.
    pub fn info_with(&self, policy: &dyn WaitPolicy) -> Result<SegmentInfo> {
        info::info(&*self.attachment()?, policy)
    }

    /// A variable, in numbers; `None` where it is missing.
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

    /// Lets go of this handle; again is nothing. With a process's last handle on a segment its mapping and descriptors go, as
    /// soon as the calls end that other threads are in; objects over the memory of values keep it until they are dropped.
    pub fn detach(&self) {
        self.detach_with(|slow| slow());
    }

    /// The same; `allow_threads` runs what may wait. The rest ends what sections rely on: under an interpreter with a lock whoever calls
    /// has it.
    pub fn detach_with(&self, allow_threads: impl FnOnce(&mut (dyn FnMut() + Send))) {
        let Some(attachment) = self.attachment.get() else { return };
        if self.attachment.revoke() {
            allow_threads(&mut || attachment.coordination().release_those(|who| who.handle == self.number));
            release(&attachment);
        }
    }

    /// Unlinks the segment, if its key still means this very one: a new attach gets a new one, those attached keep it.
    ///
    /// # Errors
    /// [`Error::Access`] where it is another user's, [`Error::ReadOnly`].
    pub fn destroy(&self) -> Result<()> {
        self.destroy_with(&Blocking)
    }

    /// The same, waiting in the caller's way.
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

    /// Verifies every invariant of the format, in slices of the writer lock of some milliseconds; through a handle that only
    /// reads, without it, until nobody changed anything meanwhile.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with the first one that does not hold; [`Error::Busy`].
    pub fn check(&self) -> Result<Report> {
        self.check_with(&Blocking)
    }

    /// The same, waiting in the caller's way.
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
