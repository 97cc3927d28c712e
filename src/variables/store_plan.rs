//! What is to be stored under a name, and where: decided before the writer lock is acquired.
//!
//! The lengths follow "Slot" and "Slab" in docs/format.md. `publish.rs` stores it.

use crate::error::Result;
use crate::fallible;
use crate::format::slot_flags::{BUFFERS, EXPIRES, IN_PLACE};
use crate::format::{INLINE_MAX, QUEUE_HEAD, RECORD_MAX, SLOT, class_of, lead};
use crate::key::{Name, NameOf};
use crate::sync::slot::Content;
use crate::variables::stored::{Layout, Stored};
use std::borrow::Cow;

/// Private to the process: what is to be stored under a name, and where. It is made before the writer lock is acquired.
pub struct StorePlan<'a> {
    /// The name.
    pub name: Name<'a>,
    /// The hash of the name.
    pub hash: u64,
    /// What the record begins with: the expiry, if there is one, and the key.
    pub prefix: Cow<'a, [u8]>,
    /// The value.
    pub stored: Stored<'a>,
    /// Bytes of the record: prefix and value.
    pub record_len: u64,
    /// Where the value is stored.
    pub placement: Placement,
}

/// Where a value is stored. It follows from the record's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In the slot.
    Inline,
    /// In a block of this class.
    Block(usize),
    /// In a span of its own.
    Span,
}

impl<'a> StorePlan<'a> {
    /// Plans a value for a name that was checked already.
    ///
    /// # Errors
    /// No memory for the prefix.
    #[inline(always)]
    pub fn new(name: Name<'a>, stored: Stored<'a>, hash_key: [u64; 2]) -> Result<Self> {
        let hash = name.hash(hash_key);
        StorePlan::with_hash(name, hash, stored)
    }

    /// Plans a value for a name that was checked already, and whose hash is known.
    ///
    /// # Errors
    /// No memory for the prefix.
    #[inline(always)]
    pub fn with_hash(name: Name<'a>, hash: u64, stored: Stored<'a>) -> Result<Self> {
        let key = name.index.record_key();
        let prefix = match stored.expiry {
            None => Cow::Borrowed(key),
            Some(expiry) => Cow::Owned(fallible::joined(&[&expiry.to_le_bytes(), key], "an expiry and an index")?),
        };
        Ok(Self::with_prefix(name, hash, prefix, stored))
    }

    /// Plans a value whose prefix and hash the caller has made already.
    #[inline(always)]
    pub fn with_prefix(name: Name<'a>, hash: u64, prefix: Cow<'a, [u8]>, stored: Stored<'a>) -> Self {
        let value_len = stored.parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let record_len = prefix.len() as u64 + value_len;
        let placement = match record_len {
            _ if stored.layout != Layout::Pickle => Placement::Span,
            len if len <= INLINE_MAX as u64 && prefix.is_empty() && !name.is_text() => Placement::Inline,
            len if len <= RECORD_MAX => Placement::Block(class_of(len)),
            _ => Placement::Span,
        };
        StorePlan { name, hash, record_len, prefix, stored, placement }
    }

    /// Returns the bytes that the variable is charged. A named lock is charged nothing, a queue not by its entries.
    #[inline(always)]
    pub fn charge(&self) -> u64 {
        match self.placement {
            _ if self.name.of == NameOf::Lock => 0,
            _ if self.name.of == NameOf::Queue => SLOT + QUEUE_HEAD + self.name.index.record_key().len() as u64,
            Placement::Inline => SLOT,
            _ => SLOT + self.record_len,
        }
    }

    /// Returns the flags of the slot's tag.
    #[inline]
    pub fn flags(&self) -> u64 {
        let expires = if self.stored.expiry.is_some() { EXPIRES } else { 0 };
        let layout = match self.stored.layout {
            Layout::Pickle => 0,
            Layout::Buffers => BUFFERS,
            Layout::InPlace => BUFFERS | IN_PLACE,
        };
        self.name.flags() | expires | layout
    }

    /// Returns the number of bytes between the start of the span and the record.
    pub fn lead(&self) -> u64 {
        let key_len = self.name.index.record_key().len() as u64;
        lead(key_len, self.stored.layout != Layout::Pickle, self.stored.expiry.is_some())
    }

    /// Returns the contents of the slot for a record at this place. `block` is `None` for a span.
    pub fn content(&self, granule: u64, block: Option<u64>) -> Content {
        let key_len = self.name.index.record_key().len();
        Content::record(self.name.index_word(self.hash), self.flags(), key_len, self.record_len, granule, block)
    }

    /// Returns the contents of the slot for a value that is stored in it.
    #[inline(always)]
    pub fn inline(&self) -> Content {
        let mut pickle = [0; INLINE_MAX];
        let mut at = 0;
        for part in self.stored.parts {
            pickle[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Content::inline(self.name.index_word(self.hash) as i64, self.name.flags(), &pickle[..at])
    }
}
