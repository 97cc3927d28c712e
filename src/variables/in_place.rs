//! Values that processes change where they lie: making one, and what must hold before its memory is handed out. The
//! protocol is "Values in place" in docs/protocol.md.

use crate::codec::buffers;
use crate::error::{Error, Lack, Result};
use crate::fallible;
use crate::format::SLOT;
use crate::key::{Index, Name};
use crate::process::creation_lock::Creation;
use crate::process::wait_policy::WaitPolicy;
use crate::variables::Variables;
use crate::variables::change::Condition;
use crate::variables::publish::limit_reached;
use crate::variables::stored::{Layout, Stored, ValueSource};
use std::borrow::Cow;
use std::sync::atomic::Ordering;

/// A record has fewer bytes than this ("Slot" in docs/format.md). Some of them are not the buffer's: expiry, key, table
/// and pickle.
const RECORD_END: u64 = 1 << 40;
/// What a new value is filled with is handed on in parts of at least so many bytes, if it is that long.
const PART: usize = 1 << 20;
/// What an error calls the list of parts, and a part.
const PARTS: &str = "the parts of a new value";

/// A value in place that is to be made.
#[derive(Clone, Copy)]
pub struct NewValue<'a> {
    /// Its pickle, which takes one buffer.
    pub stream: &'a [u8],
    /// Bytes of the buffer.
    pub len: u64,
    /// What the buffer is filled with, again and again. Empty: zeros.
    pub pattern: &'a [u8],
}

impl Variables {
    /// Makes a value in place, unless there is a variable under this index. Returns whether this call has made it.
    ///
    /// # Errors
    /// [`Error::Full`] if it is larger than what is free, and others. Then nothing has changed.
    pub fn create_in_place(&self, index: &Index<'_>, new: &NewValue<'_>, policy: &dyn WaitPolicy) -> Result<bool> {
        index.check_length()?;
        self.check_length_in_place(index, new)?;
        let hash = Name::from(index).hash(self.identity.hash_key);
        let mut is_made = || self.has(index, policy);
        let _turn = match self.wait_to_create(hash, new.len, &mut is_made, policy)? {
            Creation::Turn(lock) => lock,
            Creation::Made => return Ok(false),
        };
        let (head, gap) = buffers::plan_one(new.stream.len(), new.len as usize);
        let tiled = tiled(new.pattern)?;
        let mut parts = fallible::with_room((new.len / tiled.len().max(1) as u64) as usize + 4, PARTS)?;
        parts.extend_from_slice(&[&head, new.stream, &[0; buffers::ALIGN as usize][..gap]]);
        let mut left = new.len as usize;
        while left > 0 {
            let part = &tiled[..left.min(tiled.len())];
            parts.push(part);
            left -= part.len();
        }
        let stored = Stored { parts: &parts, layout: Layout::InPlace, expiry: None };
        // There may be a variable by now all the same, made by somebody who did not wait.
        match self.put_from(index, stored, ValueSource::Anywhere, Condition::Version(0), policy) {
            // What that one takes may be what is missing here.
            Err(Error::Full { .. }) if self.has(index, policy)? => Ok(false),
            made => Ok(made?.is_some()),
        }
    }

    /// Fails if no record can be so long, or if even an empty segment has no room for it. (What others take is looked
    /// at later.)
    pub fn check_length_in_place(&self, index: &Index<'_>, new: &NewValue<'_>) -> Result<()> {
        let overhead = (index.record_key().len() + new.stream.len() + 2 * buffers::ALIGN as usize) as u64;
        let size = self.state().limit.load(Ordering::Relaxed);
        if new.len < (RECORD_END - overhead).min(size) {
            return Ok(());
        }
        let free = size.saturating_sub(self.state().used.load(Ordering::Relaxed));
        match new.len < RECORD_END - overhead {
            true => Err(limit_reached(new.len.saturating_add(SLOT), free, size)),
            false => {
                let remedy = "one variable has less than 1 TiB: divide it among several".into();
                Err(Error::Full { lack: Lack::Other, needed: new.len, free, size, remedy })
            }
        }
    }
}

/// Returns the pattern again and again, in at least [`PART`] bytes. It ends where a pattern ends.
fn tiled(pattern: &[u8]) -> Result<Cow<'_, [u8]>> {
    if pattern.is_empty() {
        return fallible::zeros(PART, PARTS).map(Cow::Owned);
    }
    if pattern.len() >= PART {
        return Ok(Cow::Borrowed(pattern));
    }
    let times = PART.div_ceil(pattern.len());
    let mut tiled = fallible::with_room(times * pattern.len(), PARTS)?;
    for _ in 0..times {
        tiled.extend_from_slice(pattern);
    }
    Ok(Cow::Owned(tiled))
}
