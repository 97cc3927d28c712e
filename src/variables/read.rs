//! Reading the value of one variable, without a lock.
//!
//! The protocol is "Reading, without a lock" in docs/protocol.md. A slot is found in `lookup.rs`; a large value is
//! copied in `large.rs`.

use crate::error::Result;
use crate::format::slot_flags::{LOCK, TEXT};
use crate::format::{Eviction, Root, Slot, slab_has_all_pages};
use crate::key::{Index, Name};
use crate::os::mem::Scratch;
use crate::process::access::MappedAccess;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::slot::{BUSY, Content, Kind, Seqlock};
use crate::variables::Variables;
use crate::variables::found::Found;
use crate::variables::large::LargeValue;
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::record::place_of_record;
use std::sync::atomic::{Ordering, fence};

/// What a value is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The caller of the program gets it: that is a use ("Eviction" in docs/protocol.md).
    Use,
    /// It is only looked at: for a description, or with all others.
    Look,
}

/// Private to the process: a variable's value as a reader gets it.
pub enum FoundValue<'a> {
    /// The value was in the slot: the pickle is `bytes[2..2 + len]`.
    Inline {
        /// The last two words of the slot.
        bytes: [u8; 16],
        /// Bytes of the pickle.
        len: usize,
        /// The version of the variable.
        version: u64,
    },
    /// The record was copied to the scratch buffer: the pickle begins at `prefix`.
    Record {
        /// Bytes of the record before the pickle.
        prefix: usize,
        /// The version of the variable.
        version: u64,
        /// Whether the record begins with an expiry.
        expires: bool,
    },
    /// The value is in a span and is still to be copied.
    Large(LargeValue<'a>),
}

impl Variables {
    /// Reads the value of a variable, and notes that it was used. `None`: it is missing, or has expired.
    #[inline]
    pub fn get<'a>(
        &'a self,
        index: &Index<'_>,
        scratch: &mut Scratch,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<FoundValue<'a>>> {
        self.get_as(Purpose::Use, index, scratch, policy)
    }

    /// Reads the value of a variable. `None`: it is missing, or has expired. `purpose` is
    /// known where this is compiled.
    #[inline(always)]
    pub fn get_as<'a>(
        &'a self,
        purpose: Purpose,
        index: &Index<'_>,
        scratch: &mut Scratch,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<FoundValue<'a>>> {
        if let Some(value) = self.get_fast(purpose, index, scratch) {
            return Ok(Some(value));
        }
        let Some(found) = self.find(index, scratch, policy)? else { return Ok(None) };
        let value = self.value_of(found, policy)?;
        if purpose == Purpose::Use && self.eviction == Some(Eviction::Lru) {
            self.note_use_of(index);
        }
        Ok(Some(value))
    }

    /// Reads a variable in the usual case, in one straight run: it has no expiry, is in its slot or in a block of a
    /// slab, and nothing changes meanwhile. The steps are those of `find`. `None`: something is
    /// not usual, and `find` decides.
    #[inline(always)]
    fn get_fast<'a>(&'a self, purpose: Purpose, index: &Index<'_>, scratch: &mut Scratch) -> Option<FoundValue<'a>> {
        let name = Name::from(index);
        let hash = name.hash(self.identity.hash_key);
        let (first, flags) = (name.index_word(hash), name.flags());
        let _section = self.read_section()?;
        let leaf = self.leaf_fast(hash)?;
        let slots = self.mem.slots(leaf.base, leaf.slots + 1).ok()?;
        let (mut number, mut left) = (leaf.home(hash), leaf.slots);
        let (slot, word, tag) = loop {
            left = left.checked_sub(1)?;
            let slot = slots.get(number as usize)?;
            let word = slot.begin();
            let tag = slot.rest[1].load(Ordering::Relaxed);
            if word == 0 || word & BUSY == 1 {
                return None;
            }
            if slot.rest[0].load(Ordering::Relaxed) == first && tag & (TEXT | LOCK) == flags {
                break (slot, word, tag);
            }
            number = leaf.after(number);
        };
        let content = Content { word, rest: [first, tag, slot.rest[2].load(Ordering::Relaxed)] };
        let value = match content.kind() {
            Kind::Inline => {
                let (bytes, len) = content.inline_bytes();
                FoundValue::Inline { bytes, len, version: content.version() }
            }
            Kind::Record if !content.expires() => {
                let (at, class) = place_of_record(self, &content, MappedAccess).ok()??;
                // Only a block that is still named is certain to be present: as in `probe`.
                if !slab_has_all_pages(class) && !self.is_still_there(&leaf, slot, word)? {
                    return None;
                }
                self.mem.read_scratch(at, content.record_len() as usize, scratch).ok()?;
                FoundValue::Record { prefix: content.prefix_len() as usize, version: content.version(), expires: false }
            }
            _ => return None,
        };
        // SYNC: as in `is_unchanged_with`: these are its comparisons, in its order.
        fence(Ordering::Acquire);
        let named = self.still_names(leaf.root, leaf.word_at, leaf.word, TableOf::Variables, MappedAccess).ok()?;
        if !named || !slot.unchanged(word) || !self.is_root(leaf.root) {
            return None;
        }
        if name.is_text() {
            let prefix = content.prefix_len() as usize;
            let key = scratch.bytes().get(prefix - (content.key_len() as usize).min(prefix)..prefix)?;
            if key != name.index.record_key() {
                return None;
            }
        }
        if purpose == Purpose::Use && self.eviction == Some(Eviction::Lru) {
            self.note_use(hash);
        }
        Some(value)
    }

    /// Returns whether a slot of this leaf still has this word, and the leaf is still in force. `None`: damaged.
    #[inline(never)]
    fn is_still_there(&self, leaf: &Leaf, slot: &Slot, word: u64) -> Option<bool> {
        // SYNC: as in `is_unchanged_with`: these are its comparisons, in its order.
        fence(Ordering::Acquire);
        let named = self.still_names(leaf.root, leaf.word_at, leaf.word, TableOf::Variables, MappedAccess).ok()?;
        Some(named && slot.unchanged(word) && self.is_root(leaf.root))
    }

    /// Returns whether this is still the root, once a slot's word was seen to be the same: as in `is_unchanged_with`.
    #[inline(always)]
    fn is_root(&self, root: Root) -> bool {
        // SYNC: the slot's word before the root.
        fence(Ordering::Acquire);
        self.state().root.load(Ordering::Relaxed) == root.0
    }

    /// Returns the value of a variable that was just found.
    #[inline(always)]
    pub fn value_of(&self, found: Found, policy: &dyn WaitPolicy) -> Result<FoundValue<'_>> {
        let (content, version) = (&found.content, found.content.version());
        Ok(match content.kind() {
            Kind::Inline => {
                let (bytes, len) = content.inline_bytes();
                FoundValue::Inline { bytes, len, version }
            }
            Kind::Record => {
                FoundValue::Record { prefix: content.prefix_len() as usize, version, expires: content.expires() }
            }
            _ => FoundValue::Large(self.pin_large(found, policy)?),
        })
    }

    /// Returns whether there is a variable of this index that has not expired.
    #[inline]
    pub fn has(&self, index: &Index<'_>, policy: &dyn WaitPolicy) -> Result<bool> {
        Ok(self.find(index, &mut Scratch::new(), policy)?.is_some())
    }
}
