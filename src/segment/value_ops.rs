//! What a handle does with one variable: puts and gets a value of any serde type, bytes, or a pickle; asks for it,
//! removes it. Versions, sums and several variables at once are in `atomic_ops`; the reading and the changing itself in
//! `variables/`. Protocols: docs/protocol.md, "A change", "Reading, without a lock".

use crate::codec::buffers;
use crate::error::{Error, Result};
use crate::fallible;
use crate::key::{Index, IndexBuf};
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::segment::handle::Segment;
use crate::variables::AsVariables;
use crate::variables::change::Condition;
use crate::variables::read::FoundValue;
use crate::variables::stored::{Layout, Stored, ValueSource};

impl Segment {
    /// Stores a value of any serde type, as a pickle.
    ///
    /// # Errors
    /// [`Error::Full`] and others; after an error nothing has changed.
    pub fn put<'a, T: serde::Serialize>(&self, index: impl Into<Index<'a>>, value: &T) -> Result<()> {
        let pickle = serde_pickle::to_vec(value, serde_pickle::SerOptions::new())?;
        let stored = Stored { parts: &[&pickle], layout: Layout::Pickle, expiry: None };
        let (source, always) = (ValueSource::OwnMemory, Condition::Always);
        self.for_change()?.variables().put_from(&index.into(), stored, source, always, &Blocking).map(drop)
    }

    /// The value, as any serde type; `None` if the variable is missing.
    ///
    /// # Errors
    /// [`Error::Pickle`] if the value is no `T`; and others.
    pub fn get<'a, T: serde::de::DeserializeOwned>(&self, index: impl Into<Index<'a>>) -> Result<Option<T>> {
        let Some(pickle) = self.get_pickle(&index.into(), &Blocking)? else { return Ok(None) };
        Ok(Some(serde_pickle::from_slice(&pickle, serde_pickle::DeOptions::new())?))
    }

    /// Stores bytes. Python reads them as `bytes`.
    ///
    /// # Errors
    /// As [`Segment::put`].
    pub fn put_bytes<'a>(&self, index: impl Into<Index<'a>>, bytes: &[u8]) -> Result<()> {
        let index = index.into();
        if bytes.len() >= buffers::LARGE_BYTES {
            let plan = buffers::plan(buffers::BYTES.len(), &[bytes.len()])?;
            let gap = &[0; buffers::ALIGN as usize][..plan.gaps[0]];
            let parts = [&plan.head, buffers::BYTES, gap, bytes];
            let stored = Stored { parts: &parts, layout: Layout::Buffers, expiry: None };
            return self.for_change()?.variables().put(&index, stored, Condition::Always, &Blocking).map(drop);
        }
        let (head, tail) = crate::codec::scalar::bytes_frame(bytes.len());
        self.put_pickle(&index, &[head.as_slice(), bytes, &tail], Condition::Always, &Blocking).map(drop)
    }

    /// The bytes that [`Segment::put_bytes`], or Python from a `bytes`, has stored; `None` if the variable is missing.
    ///
    /// # Errors
    /// [`Error::Pickle`] or [`Error::Invalid`] if the value is something else; and others.
    pub fn get_bytes<'a>(&self, index: impl Into<Index<'a>>) -> Result<Option<Vec<u8>>> {
        let Some(pickle) = self.get_pickle(&index.into(), &Blocking)? else { return Ok(None) };
        if let Some(crate::codec::scalar::Scalar::Bytes(bytes)) = crate::codec::scalar::decode(&pickle) {
            return fallible::copied(bytes, "a value").map(Some);
        }
        let value: serde_pickle::Value = serde_pickle::from_slice(&pickle, serde_pickle::DeOptions::new())?;
        match value {
            serde_pickle::Value::Bytes(bytes) => Ok(Some(bytes)),
            other => Err(Error::Invalid(format!("the value is not bytes: {other}"))),
        }
    }

    /// Stores a pickle stream, given in parts. Returns the new version, or `None` if the condition does not hold.
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
            Stored { parts: value, layout: Layout::Pickle, expiry: None },
            condition,
            policy,
        )
    }

    /// The pickle stream of a variable; `None` if it is missing.
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

    /// Removes a variable. Returns `false` if it was missing.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Busy`] and others.
    pub fn remove<'a>(&self, index: impl Into<Index<'a>>) -> Result<bool> {
        self.for_change()?.variables().remove(&index.into(), Condition::Always, &Blocking)
    }

    /// Removes all variables.
    ///
    /// # Errors
    /// As [`Segment::remove`].
    pub fn clear(&self) -> Result<()> {
        self.for_change()?.variables().clear(&Blocking)
    }

    /// The indexes of all variables, in no order.
    ///
    /// # Errors
    /// As [`Segment::get_pickle`].
    pub fn indexes(&self) -> Result<Vec<IndexBuf>> {
        self.attachment()?.variables().indexes(&Blocking)
    }
}
