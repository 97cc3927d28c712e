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
pub enum Token {
    /// The slot's word, the directory's word and the root did not change.
    Stable,
    /// The change of this serial is still under way, its slot still busy.
    Pending(NonZeroU64),
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
    pub leaf_at: u64,
    pub leaf: LeafWord,
    /// How to check it again.
    pub token: Token,
}

impl Variables {
    /// Is what was found still so? Asked after whatever was copied meanwhile.
    pub fn still(&self, found: &Found) -> Result<bool> {
        reading!(self, |look| self.still_by(found, look))
    }

    #[inline(always)]
    pub fn still_by(&self, found: &Found, look: impl Access) -> Result<bool> {
        // In this order: what is looked at next is what it was only while the one before it is.
        // SYNC: as in `Slot::unchanged`, which is the last look.
        fence(Ordering::Acquire);
        if !self.names_still(found.root, found.leaf_at, found.leaf, TableOf::of(found.content.is_lock()), look)? {
            return Ok(false);
        }
        let pending = match found.token {
            Token::Stable => true,
            Token::Pending(serial) => Change::still(self.mem.intent(), serial.get()),
        };
        Ok(look.word(self, found.offset)? == found.word() && pending)
    }
}

impl Leaf {
    /// What was found in one of its slots.
    #[inline(always)]
    pub fn found(&self, offset: u64, content: Content, token: Token) -> Found {
        Found { offset, content, root: self.root, leaf_at: self.at, leaf: self.word, token }
    }
}

impl Found {
    /// The slot's word as it was seen: busy, where the change under way makes it what it is.
    #[inline(always)]
    fn word(&self) -> u64 {
        match self.token {
            Token::Stable => self.content.word,
            Token::Pending(_) => self.content.word | BUSY,
        }
    }
}

/// What the change under way makes of a slot that was seen with this word: its serial, and the contents.
pub fn pending(att: &Variables, offset: u64, word: u64) -> Option<(NonZeroU64, Content)> {
    let (serial, content) = Change::pending(att.mem.intent(), offset)?;
    (content.word | BUSY == word).then_some((NonZeroU64::new(serial)?, content))
}
