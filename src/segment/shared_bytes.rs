//! Bytes that processes change where they lie: what `Segment.buffer` is in Python. Protocol: docs/protocol.md, "Values
//! in place".

use crate::codec::buffers;
use crate::error::{Error, Result};
use crate::key::Index;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::pins::OwnedPin;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::segment::handle::Segment;
use crate::variables::AsVariables;
use crate::variables::in_place::NewValue;
use crate::variables::read::FoundValue;
use std::sync::atomic::{AtomicU8, AtomicU64};

/// Bytes of a segment that every process may change at any time. The memory is theirs until this is dropped, whatever
/// happens to the variable, the segment or the handle; a forked child keeps it, too.
///
/// ```
/// use std::sync::atomic::Ordering;
/// # let key = shmvar::Key::text(&format!("shared-bytes-{}", std::process::id()))?;
/// let segment = shmvar::Segment::attach(key, &shmvar::Options::default())?;
/// let counters = segment.shared_bytes("counters", 64)?;
/// counters.words()[0].fetch_add(1, Ordering::Relaxed);
/// assert_eq!(segment.shared_bytes("counters", 64)?.words()[0].load(Ordering::Relaxed), 1);
/// # segment.destroy()?;
/// # Ok::<(), shmvar::Error>(())
/// ```
pub struct SharedBytes {
    pin: OwnedPin,
    /// File offset of the first byte.
    offset: u64,
    len: u64,
}

impl Segment {
    /// Opens the bytes in place under an index, or makes as many, all 0, if there is no such variable. Others see them
    /// once they are complete, and if several processes make some at once, all get those that were made first. An array
    /// that Python made in place may be opened as its bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `len` is 0, if there are more or fewer bytes under this index, or a variable that is not
    /// changed in place. [`Error::Full`]; [`Error::ReadOnly`] through a handle that may not write; and others. Then
    /// nothing has changed.
    pub fn shared_bytes<'a>(&self, index: impl Into<Index<'a>>, len: u64) -> Result<SharedBytes> {
        self.shared_bytes_with(&index.into(), len, &Blocking)
    }

    #[doc(hidden)]
    pub fn shared_bytes_with(&self, index: &Index<'_>, len: u64, policy: &dyn WaitPolicy) -> Result<SharedBytes> {
        if len == 0 {
            return Err(Error::Invalid("0 bytes in place: at least 1".into()));
        }
        let new = NewValue { stream: buffers::MEMORYVIEW, len, pattern: &[] };
        loop {
            match self.open_shared_bytes(index, policy)? {
                Some(bytes) if bytes.len != len => {
                    let there = bytes.len;
                    return Err(Error::Invalid(format!("index {index}: there are {there} bytes in place, not {len}")));
                }
                Some(bytes) => return Ok(bytes),
                // Whoever makes them, they are there then, unless somebody removes them at once.
                None => self.for_change()?.variables().create_in_place(index, &new, policy).map(drop)?,
            }
        }
    }

    /// Opens the bytes in place under an index. `None`: there is no such variable.
    fn open_shared_bytes(&self, index: &Index<'_>, policy: &dyn WaitPolicy) -> Result<Option<SharedBytes>> {
        let mut backoff = Backoff::default();
        loop {
            let att = self.for_change()?;
            let mut scratch = Scratch::new();
            let large = match att.variables().get(index, &mut scratch, policy)? {
                None => return Ok(None),
                Some(FoundValue::Large(large)) if large.is_in_place() => large,
                Some(_) => {
                    return Err(Error::Invalid(format!(
                        "index {index} holds a plain value, which no process changes in place: remove it first, or take \
                         another index"
                    )));
                }
            };
            if large.check_memory(!self.trusted(), policy)? {
                if let Some(parsed) = large.parse(policy)? {
                    let [(at, len)] = parsed.buffers[..] else {
                        return Err(Error::corrupt("the buffers of a value in place"));
                    };
                    let offset = large.offset() + at;
                    if let Some(pin) = large.into_owned_pin() {
                        return Ok(Some(SharedBytes { pin, offset, len }));
                    }
                }
            }
            backoff.again(Obstacle::Changed, &att, policy)?;
        }
    }
}

impl SharedBytes {
    /// Returns how many bytes they are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns `true` if they are none, as those of an array without items.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[AtomicU8] {
        self.pin.attachment().mem.bytes(self.offset, self.len).unwrap_or_default()
    }

    /// Returns the whole words of 8 bytes. The first one begins with the first byte, which is aligned to 64.
    pub fn words(&self) -> &[AtomicU64] {
        self.pin.attachment().mem.words(self.offset, self.len / 8).unwrap_or_default()
    }

    /// Returns the address of the first byte. It is valid for `len` bytes as long as this lives. Other processes may
    /// store into them at any time, so whoever reads or writes there does it as with memory of a device: by volatile or
    /// atomic accesses, or with copies that tolerate a race.
    pub fn as_ptr(&self) -> *mut u8 {
        self.bytes().as_ptr().cast::<u8>().cast_mut()
    }
}
