//! What a dump remembers of the table between two passes: of each slot the word, and the line of the dump that has its
//! variable.
//!
//! A version is given once. So a variable whose version is the one that was noted is the one that was written, wherever
//! its slot is by now. The protocol is "Dumps" in docs/protocol.md.

use crate::error::Result;
use crate::fallible;
use crate::format::LeafWord;
use crate::sync::slot::{BUSY, Content, MOVES_BITS};
use crate::variables::dump_log::NO_LINE;
use crate::variables::leaf::Leaf;
use std::collections::HashMap;

/// The name of the notes in the error for a lack of memory.
pub(super) const NOTES: &str = "what a dump has written";

/// Private to the process: what was noted of the slots of one leaf.
pub(super) struct LeafNotes {
    /// The range of hashes of the leaf: its first, and the first behind it.
    pub begin: u64,
    pub end: Option<u64>,
    /// The directory's word of the leaf: another leaf of the same range and size has another one.
    pub word: LeafWord,
    /// The serial number of the last change before the leaf was looked at, or an earlier one.
    pub serial: u64,
    /// The words of the slots. 0: the slot was never used, or nothing is known of it.
    pub words: Vec<u64>,
    /// The lines of their variables.
    pub lines: Vec<u32>,
}

/// Private to the process: variables of leaves that are there no more as they were.
#[derive(Default)]
pub(super) struct Loose {
    /// By version: the line, and the word of the slot.
    by_version: HashMap<u64, (u32, u64)>,
    /// The first hash behind those leaves. `Some(None)`: there is none.
    end: Option<Option<u64>>,
    /// The lowest serial number among the notes of those leaves.
    pub serial: u64,
}

/// Returns the version in the word of a slot.
pub(super) fn version_of(word: u64) -> u64 {
    Content { word, rest: [0; 3] }.version()
}

/// Returns whether a range that ends here ends behind another one.
pub(super) fn is_behind(end: Option<u64>, other: Option<u64>) -> bool {
    match (end, other) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(end), Some(other)) => end > other,
    }
}

impl LeafNotes {
    /// Notes nothing of a leaf, for the hash `from`.
    pub fn new(leaf: &Leaf, from: u64, serial: u64) -> Result<Self> {
        let slots = leaf.slots as usize;
        let mut lines = fallible::with_room(slots, NOTES)?;
        lines.resize(slots, NO_LINE);
        let words = fallible::zeros(slots, NOTES)?;
        Ok(LeafNotes { begin: leaf.begin(from), end: leaf.end(from), word: leaf.word, serial, words, lines })
    }

    /// Returns whether these are notes of a leaf of the same range and size.
    pub fn is_of(&self, begin: u64, end: Option<u64>, slots: u64) -> bool {
        self.begin == begin && self.end == end && self.words.len() as u64 == slots
    }
}

impl Loose {
    /// Returns whether there is no such leaf.
    pub fn is_empty(&self) -> bool {
        self.end.is_none()
    }

    /// Returns how many variables there are.
    pub fn len(&self) -> usize {
        self.by_version.len()
    }

    /// Adds what was noted of a leaf.
    pub fn add(&mut self, notes: &LeafNotes) -> Result<()> {
        fallible::reserve_in_map(&mut self.by_version, notes.words.len(), NOTES)?;
        for (word, line) in notes.words.iter().zip(&notes.lines).filter(|(_, line)| **line != NO_LINE) {
            self.by_version.insert(version_of(*word), (*line, *word));
        }
        self.serial = if self.is_empty() { notes.serial } else { self.serial.min(notes.serial) };
        let end = self.end.get_or_insert(notes.end);
        if is_behind(notes.end, *end) {
            *end = notes.end;
        }
        Ok(())
    }

    /// Takes the variable with the version in this word: its line, and the word that was noted.
    pub fn take(&mut self, word: u64) -> Option<(u32, u64)> {
        self.by_version.remove(&version_of(word))
    }

    /// If all leaves end at this hash or before: gives the lines of those that are left, which are gone.
    pub fn end_at(&mut self, end: Option<u64>) -> Option<impl Iterator<Item = u32>> {
        if self.end.is_none_or(|own| is_behind(own, end)) {
            return None;
        }
        self.end = None;
        Some(std::mem::take(&mut self.by_version).into_values().map(|(line, _)| line))
    }
}

/// Returns whether the word of a slot is the one that was noted. The lowest bit of a note says whether the variable had
/// an expiry; in a slot it says that the slot is busy, and then it is not the same.
///
/// The same word is no proof that the expiry is the same one, see [`may_have_gone_round`].
#[inline(always)]
pub(super) fn is_noted(word: u64, noted: u64) -> bool {
    word == noted & !BUSY
}

/// Returns whether a slot's count of moves may have gone round since the serial number `noted`, so that the word is the
/// one that was noted, and the expiry is another one. Each change moves a slot once at most.
pub(super) fn may_have_gone_round(serial: u64, noted: u64) -> bool {
    serial.wrapping_sub(noted) >= 1 << MOVES_BITS
}

/// Returns whether a variable has an expiry, or had one when its word was noted.
pub(super) fn expires(content: &Content, noted: u64) -> bool {
    content.expires() || noted & BUSY == BUSY
}
