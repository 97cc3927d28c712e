//! What processes do together through a handle: values that expire, versions, counters, waiting, named locks, and
//! several variables at once. The protocols themselves are in `variables/` and `coordination/`: docs/protocol.md,
//! "Expiry", "Wake words", "Named locks", "Batches".

use crate::coordination::AsCoordination;
use crate::coordination::wait_any::Awaited;
use crate::error::{Error, Result};
use crate::fallible;
use crate::key::{Index, IndexBuf};
use crate::process::attachment::Attachment;
use crate::process::held_locks::LockOwner;
use crate::process::wait_policy::Blocking;
use crate::segment::handle::Segment;
use crate::variables::AsVariables;
use crate::variables::add::Number;
use crate::variables::change::Condition;
use crate::variables::expiry::expires_after;
use crate::variables::snapshot::SnapshotValue;
use crate::variables::stored::{Layout, Stored};
use std::sync::Weak;
use std::time::Duration;

/// What the lists of values are called in the error if there is no memory for them.
const LIST: &str = "the values of several variables";
/// The same for the list of indexes to wait for.
const AWAITED: &str = "the indexes to wait for";

/// Fails if a variable that is to live so long would not live at all.
fn check_ttl(ttl: Duration) -> Result<()> {
    if ttl.is_zero() {
        return Err(Error::Invalid("a time to live of 0".into()));
    }
    Ok(())
}

/// A named lock, held until dropped.
pub struct LockGuard {
    /// Weak: when the handle is detached, its locks are released anyway.
    attachment: Weak<Attachment>,
    name: IndexBuf,
    owner: LockOwner,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if let Some(attachment) = self.attachment.upgrade() {
            let _ = attachment.coordination().release_lock(&self.name.as_index(), self.owner, &Blocking);
        }
    }
}

impl Segment {
    /// Gives a variable a new version, and wakes whoever waits for it. Its value and its time to live stay. Returns the
    /// version; 0 if there is no such variable.
    ///
    /// # Errors
    /// As [`Segment::remove`].
    pub fn touch<'a>(&self, index: impl Into<Index<'a>>) -> Result<u64> {
        self.for_change()?.variables().touch(&index.into(), &Blocking)
    }

    /// Stores a value of any serde type that expires after `ttl`.
    ///
    /// # Errors
    /// As [`Segment::put`]; [`Error::Invalid`] if `ttl` is 0.
    pub fn put_for<'a, T: serde::Serialize>(
        &self,
        index: impl Into<Index<'a>>,
        value: &T,
        ttl: Duration,
    ) -> Result<()> {
        check_ttl(ttl)?;
        let pickle = serde_pickle::to_vec(value, serde_pickle::SerOptions::new())?;
        let stored = Stored { parts: &[&pickle], layout: Layout::Pickle, expiry: Some(expires_after(ttl)) };
        self.for_change()?.variables().put(&index.into(), stored, Condition::Always, &Blocking).map(drop)
    }

    /// Gives a variable `ttl` to live from now on; `None`: it stays for good. Its value and its version stay, and whoever
    /// waits for it goes by the new time. Returns `false` if there is no such variable.
    ///
    /// # Errors
    /// As [`Segment::put_for`].
    pub fn expire<'a>(&self, index: impl Into<Index<'a>>, ttl: Option<Duration>) -> Result<bool> {
        ttl.map_or(Ok(()), check_ttl)?;
        self.for_change()?.variables().expire(&index.into(), ttl, &Blocking)
    }

    /// A variable's version, which grows with every change; 0 if the variable is missing.
    ///
    /// # Errors
    /// As [`Segment::get_pickle`].
    pub fn version<'a>(&self, index: impl Into<Index<'a>>) -> Result<u64> {
        Ok(self.attachment()?.variables().version(&index.into(), &Blocking)?.0)
    }

    /// Adds to a number, which is 0 if the variable is missing, and returns the sum. `None` if the value is no number
    /// of 64 bits, or the sum would not be one: then nothing has changed.
    ///
    /// # Errors
    /// As [`Segment::put`].
    pub fn add<'a>(&self, index: impl Into<Index<'a>>, amount: Number) -> Result<Option<Number>> {
        let index = index.into();
        index.check_length()?;
        self.for_change()?.variables().add(&index, amount, None, &Blocking)
    }

    /// The same; if the variable is missing, it expires after `ttl`. One that is there keeps its time to live.
    ///
    /// # Errors
    /// As [`Segment::put_for`].
    pub fn add_for<'a>(&self, index: impl Into<Index<'a>>, amount: Number, ttl: Duration) -> Result<Option<Number>> {
        let index = index.into();
        index.check_length()?;
        check_ttl(ttl)?;
        self.for_change()?.variables().add(&index, amount, Some(ttl), &Blocking)
    }

    /// Waits until the version of a variable differs from `newer_than` (by default, from the version now), for
    /// `timeout` at most. Returns the new version, or `None` if the time is up.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the segment is destroyed meanwhile.
    pub fn wait<'a>(
        &self,
        index: impl Into<Index<'a>>,
        newer_than: Option<u64>,
        timeout: Option<Duration>,
    ) -> Result<Option<u64>> {
        self.attachment()?.coordination().wait(&index.into(), newer_than, timeout, &Blocking)
    }

    /// Waits until the version of one of the variables differs from the one beside its index (`None`: from the version
    /// now), for `timeout` at most. Returns the place of the variable in `indexes`, the first one if several have
    /// changed, and its new version; or `None` if the time is up. The thread sleeps as in [`Segment::wait`],
    /// however many variables there are; whenever it looks again, it looks at all of them.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are no indexes, [`Error::NotFound`] if the segment is destroyed meanwhile.
    pub fn wait_any(
        &self,
        indexes: &[(Index<'_>, Option<u64>)],
        timeout: Option<Duration>,
    ) -> Result<Option<(usize, u64)>> {
        let awaited = indexes.iter().map(|&(index, seen)| Ok(Awaited { index, seen }));
        let mut awaited = fallible::collect(awaited, AWAITED)?;
        self.attachment()?.coordination().wait_any(&mut awaited, timeout, &Blocking)
    }

    /// Takes a named lock for the calling thread, waiting for `timeout` at most. `None` if the time is up.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Busy`].
    pub fn lock<'a>(&self, name: impl Into<Index<'a>>, timeout: Option<Duration>) -> Result<Option<LockGuard>> {
        let (name, owner) = (name.into(), self.thread());
        let att = self.for_change()?;
        let taken = att.coordination().acquire_lock(&name, owner, timeout, &Blocking)?;
        Ok(taken.then(|| LockGuard { attachment: att.downgrade(), name: name.to_owned(), owner }))
    }

    /// Stores several pickle streams at one instant: all of them, or none after an error.
    ///
    /// # Errors
    /// As [`Segment::put`].
    pub fn put_many_pickles(&self, items: &[(Index<'_>, &[u8])]) -> Result<()> {
        let parts = fallible::collect(items.iter().map(|(_, pickle)| Ok([*pickle])), LIST)?;
        let stored = |parts| Stored { parts, layout: Layout::Pickle, expiry: None };
        let items = items.iter().zip(&parts).map(|((index, _), parts)| Ok((*index, stored(parts))));
        let items = fallible::collect(items, LIST)?;
        self.for_change()?.variables().put_many(&items, &Blocking)
    }

    /// The pickle streams of several variables as they were at one instant; `None` for each that is missing.
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
