//! A handle on a segment: the public interface of the crate.

mod atomic_ops;
mod check;
mod create;
mod info;
#[cfg(feature = "python")]
mod inspect;
mod limit;
mod open;
mod orphan;
#[cfg(feature = "crash-points")]
mod pinned_value;
#[cfg(feature = "python")]
mod repair;
mod state_snapshot;
mod unlink;

pub use crate::segment::atomic_ops::LockGuard;
pub use crate::segment::check::Report;
pub use crate::segment::info::{SegmentInfo, Standing, VariableInfo, segments};
#[cfg(feature = "python")]
pub use crate::segment::inspect::{ObjectKind, ObjectReport, SegmentReport, inspect};
pub use crate::segment::open::Options;
#[cfg(feature = "crash-points")]
pub use crate::segment::pinned_value::PinnedValue;
#[cfg(feature = "python")]
pub use crate::segment::repair::remove_stale;
pub use crate::segment::unlink::{destroy_with, exists};

use crate::codec::buffers;
use crate::coordination::AsCoordination;
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::SLOT;
use crate::key::{Index, IndexBuf, Key};
use crate::os::mem::Scratch;
use crate::process::attachment::Attachment;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::sync::revocable::{Borrowed, Revocable};
use crate::variables::AsVariables;
use crate::variables::change::Condition;
use crate::variables::read::FoundValue;
use crate::variables::stored::Stored;
use std::sync::atomic::{AtomicU64, Ordering};

/// Unlinks a segment by its key, or whatever other file is at its name. False: there was none. Those attached keep it until
/// they detach.
///
/// # Errors
/// [`Error::Access`] where it is another user's or there is no shared memory, [`Error::Incompatible`] where it is no file.
pub fn destroy(key: &Key) -> Result<bool> {
    destroy_with(key, &Blocking)
}

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
    number: u64,
}

/// When what lives so long from now on expires.
pub fn expires_after(ttl: std::time::Duration) -> u64 {
    let nanos = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
    crate::os::boottime_ns().saturating_add(nanos).min(i64::MAX as u64)
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
        let attached = open::attach(key, options, policy)?;
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

    /// Stores a value of any serde type, as a pickle.
    ///
    /// # Errors
    /// [`Error::Full`] and others; nothing has changed then.
    pub fn put<'a, T: serde::Serialize>(&self, index: impl Into<Index<'a>>, value: &T) -> Result<()> {
        let pickle = serde_pickle::to_vec(value, serde_pickle::SerOptions::new())?;
        self.put_pickle(&index.into(), &[&pickle], Condition::Always, &Blocking).map(drop)
    }

    /// The value, of any serde type; `None` where the index is missing.
    ///
    /// # Errors
    /// [`Error::Pickle`] where the value is not such a `T`; and others.
    pub fn get<'a, T: serde::de::DeserializeOwned>(&self, index: impl Into<Index<'a>>) -> Result<Option<T>> {
        let Some(pickle) = self.get_pickle(&index.into(), &Blocking)? else { return Ok(None) };
        Ok(Some(serde_pickle::from_slice(&pickle, serde_pickle::DeOptions::new())?))
    }

    /// Stores bytes; Python reads them as `bytes`.
    ///
    /// # Errors
    /// As [`Segment::put`].
    pub fn put_bytes<'a>(&self, index: impl Into<Index<'a>>, bytes: &[u8]) -> Result<()> {
        let index = index.into();
        if bytes.len() >= buffers::LARGE_BYTES {
            let plan = buffers::plan(buffers::BYTES.len(), &[bytes.len()])?;
            let gap = &[0; buffers::ALIGN as usize][..plan.gaps[0]];
            let parts = [&plan.head, buffers::BYTES, gap, bytes];
            let stored = Stored { parts: &parts, buffers: true, expiry: None };
            return self.for_change()?.variables().put(&index, stored, Condition::Always, &Blocking).map(drop);
        }
        let (head, tail) = crate::codec::scalar::bytes_frame(bytes.len());
        self.put_pickle(&index, &[head.as_slice(), bytes, &tail], Condition::Always, &Blocking).map(drop)
    }

    /// Bytes that were stored by [`Segment::put_bytes`], or a `bytes` that Python stored.
    ///
    /// # Errors
    /// [`Error::Pickle`] where the value is something else; and others.
    pub fn get_bytes<'a>(&self, index: impl Into<Index<'a>>) -> Result<Option<Vec<u8>>> {
        let Some(pickle) = self.get_pickle(&index.into(), &Blocking)? else { return Ok(None) };
        if let Some(crate::codec::scalar::Scalar::Bytes(bytes)) = crate::codec::scalar::decode(&pickle) {
            return fallible::copied(bytes, "a value").map(Some);
        }
        let value: serde_pickle::Value = serde_pickle::from_slice(&pickle, serde_pickle::DeOptions::new())?;
        match value {
            serde_pickle::Value::Bytes(bytes) => Ok(Some(bytes)),
            other => Err(Error::Invalid(format!("the value is no bytes: {other}"))),
        }
    }

    /// Stores a pickle stream, given in parts. `None`: the condition does not hold; else the new version.
    ///
    /// # Errors
    /// As [`Segment::put`].
    pub fn put_pickle(
        &self,
        index: &Index<'_>,
        value: &[&[u8]],
        condition: Condition,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<u64>> {
        self.for_change()?.variables().put(
            index,
            Stored { parts: value, buffers: false, expiry: None },
            condition,
            policy,
        )
    }

    /// The pickle stream of a variable.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Busy`], [`Error::Detached`].
    pub fn get_pickle(&self, index: &Index<'_>, policy: &dyn WaitPolicy) -> Result<Option<Vec<u8>>> {
        let attachment = self.attachment()?;
        let mut backoff = Backoff::default();
        loop {
            let mut scratch = Scratch::new();
            let Some(got) = attachment.variables().get(index, &mut scratch, policy)? else { return Ok(None) };
            match got {
                FoundValue::Inline { bytes, len, .. } => {
                    return fallible::copied(&bytes[2..2 + len], "a value").map(Some);
                }
                FoundValue::Record { prefix, .. } => {
                    return fallible::copied(&scratch.bytes()[prefix..], "a value").map(Some);
                }
                FoundValue::Large(large) => {
                    if let Some(pickle) = large.pickle(policy)? {
                        return Ok(Some(pickle));
                    }
                    backoff.again(Obstacle::Replaced, &*self.attachment()?, policy)?;
                }
            }
        }
    }

    /// Is there such a variable?
    ///
    /// # Errors
    /// As [`Segment::get_pickle`].
    pub fn has<'a>(&self, index: impl Into<Index<'a>>) -> Result<bool> {
        self.attachment()?.variables().has(&index.into(), &Blocking)
    }

    /// Removes a variable. False: it was not there.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Busy`] and others.
    pub fn remove<'a>(&self, index: impl Into<Index<'a>>) -> Result<bool> {
        self.for_change()?.variables().remove(&index.into(), Condition::Always, &Blocking)
    }

    /// Removes every variable that is there.
    ///
    /// # Errors
    /// As [`Segment::remove`].
    pub fn clear(&self) -> Result<()> {
        self.for_change()?.variables().clear(&Blocking)
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

    /// The indexes of all variables, in no order.
    ///
    /// # Errors
    /// As [`Segment::get_pickle`].
    pub fn indexes(&self) -> Result<Vec<IndexBuf>> {
        self.attachment()?.variables().indexes(&Blocking)
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
            allow_threads(&mut || attachment.coordination().release_locks_of(|who| who.handle == self.number));
            open::release(&attachment);
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
        unlink::destroy(&*self.for_change()?, policy)
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
