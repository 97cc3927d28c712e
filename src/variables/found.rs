//! A slot that a reader found without a lock, and the check that it is still what it was (step R4).
//!
//! The protocol is "Reading, without a lock" in docs/protocol.md.

use crate::error::Result;
use crate::format::{LeafWord, Root};
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::sync::intent::Change;
use crate::sync::slot::{BUSY, Content};
use crate::variables::Variables;
use crate::variables::leaf::{Leaf, TableOf};
use std::num::NonZeroU64;
use std::sync::atomic::{Ordering, fence};

/// Where a reader got the contents of a slot from. It decides what must still hold for the copy to be consistent.
#[derive(Clone, Copy, Debug)]
pub enum ContentSource {
    /// From the slot itself. The copy is consistent if the root, the directory's word and the slot's word are
    /// unchanged.
    Slot,
    /// From the intent: the slot is busy, and the change with this serial says what it becomes. The copy is consistent
    /// if that change is still under way, too.
    Intent(NonZeroU64),
}

/// Private to the process: a slot as a reader saw it, with what proves that it is unchanged.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// File offset of the slot.
    pub offset: u64,
    /// A copy of the slot. The bytes of a record are not in it: they are in the reader's scratch buffer.
    pub content: Content,
    /// The root as the reader loaded it. With the next two fields it is the path that led to the leaf: root, file
    /// offset of the directory's word, and that word.
    pub root: Root,
    pub word_at: u64,
    pub leaf_word: LeafWord,
    /// Where `content` came from, and so what has to be compared again.
    pub source: ContentSource,
}

impl Variables {
    /// Returns whether a slot is still what the reader found, also on the way to it. A reader calls this after it has
    /// copied whatever the slot names.
    pub fn is_unchanged(&self, found: &Found) -> Result<bool> {
        reading!(self, |access| self.is_unchanged_with(found, access))
    }

    /// Returns whether a slot is still what the reader found, by a kind of access that the caller has already.
    #[inline(always)]
    pub fn is_unchanged_with(&self, found: &Found, access: impl Access) -> Result<bool> {
        // The order matters: the directory's word is one only while the root is that root, and the slot is one only
        // while the directory's word is that word. SYNC: as in `Slot::unchanged`, which is the last of these
        // comparisons.
        fence(Ordering::Acquire);
        if !self.still_names(
            found.root,
            found.word_at,
            found.leaf_word,
            TableOf::of(found.content.is_name()),
            access,
        )? {
            return Ok(false);
        }
        let pending = match found.source {
            ContentSource::Slot => true,
            ContentSource::Intent(serial) => Change::is_current(self.mem.intent(), serial.get()),
        };
        if access.word(self, found.offset)? != found.word() || !pending {
            return Ok(false);
        }
        // SYNC: the load of the slot's word was an acquire. The count of moves in it goes round, and whoever stores it
        // then has stored another root before: whoever sees that word sees that root.
        Ok(self.root_word(TableOf::of(found.content.is_name())).load(Ordering::Relaxed) == found.root.0)
    }
}

impl Leaf {
    /// Returns what was found in a slot of this leaf.
    #[inline(always)]
    pub fn found(&self, offset: u64, content: Content, source: ContentSource) -> Found {
        Found { offset, content, root: self.root, word_at: self.word_at, leaf_word: self.word, source }
    }
}

impl Found {
    /// Returns the slot's word as the reader saw it: with the busy bit where the contents came from the intent.
    #[inline(always)]
    fn word(&self) -> u64 {
        match self.source {
            ContentSource::Slot => self.content.word,
            ContentSource::Intent(_) => self.content.word | BUSY,
        }
    }
}

/// Returns what the change under way makes of a slot whose word was seen to be `word`: the serial of the change, and
/// the new contents. `None`: no change under way explains that word.
pub fn pending(att: &Variables, offset: u64, word: u64) -> Option<(NonZeroU64, Content)> {
    let (serial, content) = Change::pending_slot(att.mem.intent(), offset)?;
    (content.word | BUSY == word).then_some((NonZeroU64::new(serial)?, content))
}
