//! A slot that a reader found, and whether it is still what it was.

use crate::error::Result;
use crate::format::{LeafWord, Root};
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::sync::intent::Change;
use crate::sync::slot::{BUSY, Content};
use crate::variables::Variables;
use crate::variables::leaf::{Leaf, TableOf};
use std::num::NonZeroU64;
use std::sync::atomic::{Ordering, fence};

/// By what a copied value is known to be whole.
#[derive(Clone, Copy, Debug)]
pub enum ContentSource {
    /// The slot's word, the directory's word and the root did not change.
    Slot,
    /// The change of this serial is still under way, its slot still busy.
    Intent(NonZeroU64),
}

/// A variable that a reader found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// File offset of its slot.
    pub offset: u64,
    /// Its slot. A record's bytes are in the reader's scratch buffer.
    pub content: Content,
    /// What named its leaf: root, file offset of the directory's word, and that word.
    pub root: Root,
    pub word_at: u64,
    pub leaf_word: LeafWord,
    /// How to check it again.
    pub source: ContentSource,
}

impl Variables {
    /// Is what was found still so? Asked after whatever was copied meanwhile.
    pub fn is_unchanged(&self, found: &Found) -> Result<bool> {
        reading!(self, |access| self.is_unchanged_with(found, access))
    }

    #[inline(always)]
    pub fn is_unchanged_with(&self, found: &Found, access: impl Access) -> Result<bool> {
        // In this order: what is looked at next is what it was only while the one before it is.
        // SYNC: as in `Slot::unchanged`, which is the last look.
        fence(Ordering::Acquire);
        if !self.still_names(
            found.root,
            found.word_at,
            found.leaf_word,
            TableOf::of(found.content.is_lock()),
            access,
        )? {
            return Ok(false);
        }
        let pending = match found.source {
            ContentSource::Slot => true,
            ContentSource::Intent(serial) => Change::still(self.mem.intent(), serial.get()),
        };
        Ok(access.word(self, found.offset)? == found.word() && pending)
    }
}

impl Leaf {
    /// What was found in one of its slots.
    #[inline(always)]
    pub fn found(&self, offset: u64, content: Content, source: ContentSource) -> Found {
        Found { offset, content, root: self.root, word_at: self.word_at, leaf_word: self.word, source }
    }
}

impl Found {
    /// The slot's word as it was seen: busy, where the change under way makes it what it is.
    #[inline(always)]
    fn word(&self) -> u64 {
        match self.source {
            ContentSource::Slot => self.content.word,
            ContentSource::Intent(_) => self.content.word | BUSY,
        }
    }
}

/// What the change under way makes of a slot that was seen with this word: its serial, and the contents.
pub fn pending(att: &Variables, offset: u64, word: u64) -> Option<(NonZeroU64, Content)> {
    let (serial, content) = Change::pending(att.mem.intent(), offset)?;
    (content.word | BUSY == word).then_some((NonZeroU64::new(serial)?, content))
}
