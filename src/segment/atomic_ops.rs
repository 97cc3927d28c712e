//! Working together, in Rust: versions, counters, waiting, locks, batches.

use crate::coordination::AsCoordination;
use crate::error::{Error, Result};
use crate::fallible;
use crate::key::{Index, IndexBuf};
use crate::process::attachment::Attachment;
use crate::process::held_locks::LockOwner;
use crate::process::wait_policy::Blocking;
use crate::segment::{Segment, expires_after};
use crate::variables::AsVariables;
use crate::variables::add::Number;
use crate::variables::change::Condition;
use crate::variables::snapshot::SnapshotValue;
use crate::variables::stored::Stored;
use std::sync::Weak;
use std::time::Duration;

/// What lists of values are called where there is no memory for them.
const LIST: &str = "the values of several variables";

/// A named lock, held until dropped.
pub struct LockGuard {
    /// Detaching lets go of what was taken through the handle.
    attachment: Weak<Attachment>,
    name: IndexBuf,
    who: LockOwner,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if let Some(attachment) = self.attachment.upgrade() {
            let _ = attachment.coordination().release_lock(&self.name.as_index(), self.who, &Blocking);
        }
    }
}

impl Segment {
    /// Who the calling thread is for locks taken through this handle.
    pub fn thread(&self) -> LockOwner {
        LockOwner::thread(self.number)
    }

    /// Who a task is.
    pub fn task(&self, number: u64) -> LockOwner {
        LockOwner::task(number, self.number)
    }

    /// Stores a value of any serde type for so long; then it is gone.
    ///
    /// # Errors
    /// As [`Segment::put`]; [`Error::Invalid`] for no time at all.
    pub fn put_for<'a, T: serde::Serialize>(
        &self,
        index: impl Into<Index<'a>>,
        value: &T,
        ttl: Duration,
    ) -> Result<()> {
        if ttl.is_zero() {
            return Err(Error::Invalid("a time to live of nothing".into()));
        }
        let pickle = serde_pickle::to_vec(value, serde_pickle::SerOptions::new())?;
        let stored = Stored { parts: &[&pickle], buffers: false, expiry: Some(expires_after(ttl)) };
        self.for_change()?.variables().put(&index.into(), stored, Condition::Always, &Blocking).map(drop)
    }

    /// A variable's version, 0 where it is missing: grows with every change.
    ///
    /// # Errors
    /// As [`Segment::get_pickle`].
    pub fn version<'a>(&self, index: impl Into<Index<'a>>) -> Result<u64> {
        Ok(self.attachment()?.variables().version(&index.into(), &Blocking)?.0)
    }

    /// Adds to a number, from 0 where the variable is missing, and returns the sum. `None`: it is no number of 64 bits, or
    /// the sum would be none; nothing has changed.
    ///
    /// # Errors
    /// As [`Segment::put`].
    pub fn add<'a>(&self, index: impl Into<Index<'a>>, amount: Number) -> Result<Option<Number>> {
        let index = index.into();
        index.check()?;
        self.for_change()?.variables().add(&index, amount, &Blocking)
    }

    /// Waits until the version of a variable differs from `newer_than` (`None`: from now's), at most so long. The version
    /// then; `None`: time is up.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the segment is destroyed meanwhile.
    pub fn wait<'a>(
        &self,
        index: impl Into<Index<'a>>,
        newer_than: Option<u64>,
        timeout: Option<Duration>,
    ) -> Result<Option<u64>> {
        self.attachment()?.coordination().wait(&index.into(), newer_than, timeout, &Blocking)
    }

    /// Takes a named lock for the calling thread, at most after so long. `None`: time is up.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Busy`].
    pub fn lock<'a>(&self, name: impl Into<Index<'a>>, timeout: Option<Duration>) -> Result<Option<LockGuard>> {
        let (name, who) = (name.into(), self.thread());
        let att = self.for_change()?;
        let taken = att.coordination().acquire_lock(&name, who, timeout, &Blocking)?;
        Ok(taken.then(|| LockGuard { attachment: att.downgrade(), name: name.to_owned(), who }))
    }

    /// Stores several pickle streams at one instant, or none of them.
    ///
    /// # Errors
    /// As [`Segment::put`].
    pub fn put_many_pickles(&self, items: &[(Index<'_>, &[u8])]) -> Result<()> {
        let parts = fallible::collect(items.iter().map(|(_, pickle)| Ok([*pickle])), LIST)?;
        let stored = |parts| Stored { parts, buffers: false, expiry: None };
        let items = items.iter().zip(&parts).map(|((index, _), parts)| Ok((*index, stored(parts))));
        let items = fallible::collect(items, LIST)?;
        self.for_change()?.variables().put_many(&items, &Blocking)
    }

    /// The pickle streams of several variables, as of one instant; `None` for each that is missing.
    ///
    /// # Errors
    /// As [`Segment::get_pickle`].
    pub fn get_many_pickles(&self, indexes: &[Index<'_>]) -> Result<Vec<Option<Vec<u8>>>> {
        let att = self.attachment()?;
        let mut snapshot = att.variables().get_many(indexes, &Blocking)?;
        let large = std::mem::take(&mut snapshot.large);
        let pickle = |seen: &SnapshotValue| {
            Ok(match seen {
                SnapshotValue::Missing => None,
                SnapshotValue::Inline(bytes, len) => Some(fallible::copied(&bytes[2..2 + usize::from(*len)], LIST)?),
                SnapshotValue::Small(start, len) => Some(fallible::copied(&snapshot.bytes[*start..start + len], LIST)?),
                SnapshotValue::Large(number) => match &large[*number] {
                    Some(large) => large.pickle(&Blocking)?,
                    None => None,
                },
            })
        };
        fallible::collect(snapshot.values.iter().map(pickle), LIST)
    }
}
