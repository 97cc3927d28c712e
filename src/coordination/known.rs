//! What one iterator over changes believes to be there: the indexes, with a way from a slot's index word to them.
//!
//! Private to the process. A million integers take some 20 to 40 MB, a million texts of 20 characters some 80 to 100.

use crate::error::Result;
use crate::fallible;
use crate::key::Index;
use std::collections::{HashMap, HashSet};

/// The name of this memory in the error for a lack of it.
const KNOWN: &str = "the indexes that an iterator over changes knows";

/// Room for so many indexes is never given back.
const LEAST_ROOM: usize = 4_096;

/// Private to the process: a set of indexes.
#[derive(Debug, Default)]
pub struct Known {
    ints: HashSet<i64>,
    /// By their hashes.
    texts: HashMap<u64, Box<str>>,
    /// Texts whose hash another text in `texts` has as well. There are none, unless somebody looked for them.
    others: HashMap<u64, Vec<Box<str>>>,
}

impl Known {
    /// Reserves memory for further indexes.
    pub fn reserve(&mut self, ints: usize, texts: usize) -> Result<()> {
        fallible::reserve_in_set(&mut self.ints, ints, KNOWN)?;
        fallible::reserve_in_map(&mut self.texts, texts, KNOWN)
    }

    /// Adds an index. `word` is the index word of its slot.
    pub fn insert(&mut self, index: &Index<'_>, word: u64) -> Result<()> {
        match index {
            Index::Int(number) => fallible::replace(&mut self.ints, *number, KNOWN).map(drop),
            Index::Text(text) => {
                self.reserve(0, 1)?;
                let text = fallible::text(text, KNOWN)?.into_boxed_str();
                self.make_room_beside(&text, word)?;
                self.insert_text(text, word);
                Ok(())
            }
        }
    }

    /// Adds an integer, for which memory was reserved.
    pub fn insert_int(&mut self, number: i64) {
        self.ints.insert(number);
    }

    /// Adds a text, for which memory was reserved, also by [`Known::make_room_beside`].
    pub fn insert_text(&mut self, text: Box<str>, word: u64) {
        match self.texts.get(&word) {
            Some(there) if *there == text => {}
            Some(_) if self.contains(&Index::Text(&text), word) => {}
            Some(_) => self.others.entry(word).or_default().push(text),
            None => drop(self.texts.insert(word, text)),
        }
    }

    /// Reserves memory for a text whose hash another text has.
    pub fn make_room_beside(&mut self, text: &str, word: u64) -> Result<()> {
        if self.texts.get(&word).is_some_and(|there| **there != *text) {
            fallible::reserve_in_map(&mut self.others, 1, KNOWN)?;
            fallible::reserve(self.others.entry(word).or_default(), 1, KNOWN)?;
        }
        Ok(())
    }

    /// Takes an index out.
    pub fn remove(&mut self, index: &Index<'_>, word: u64) {
        let text = match index {
            Index::Int(number) => {
                self.ints.remove(number);
                return;
            }
            Index::Text(text) => *text,
        };
        if self.texts.get(&word).is_some_and(|there| **there == *text) {
            self.texts.remove(&word);
            if let Some(other) = self.others.get_mut(&word).and_then(Vec::pop) {
                self.texts.insert(word, other);
            }
        } else if let Some(others) = self.others.get_mut(&word) {
            others.retain(|there| **there != *text);
        }
    }

    /// Returns whether an index is known.
    pub fn contains(&self, index: &Index<'_>, word: u64) -> bool {
        match index {
            Index::Int(number) => self.ints.contains(number),
            Index::Text(text) => self.of_text_hash(word).any(|there| there == *text),
        }
    }

    /// Returns the indexes with an index word.
    pub fn with_word(&self, word: u64, text: bool) -> impl Iterator<Item = Index<'_>> {
        let number = Some(word as i64).filter(|number| !text && self.ints.contains(number));
        let texts = text.then(|| self.of_text_hash(word).map(Index::Text));
        number.map(Index::Int).into_iter().chain(texts.into_iter().flatten())
    }

    fn of_text_hash(&self, word: u64) -> impl Iterator<Item = &str> {
        let others = self.others.get(&word).into_iter().flatten();
        self.texts.get(&word).into_iter().chain(others).map(|text| &**text)
    }

    /// Returns all indexes with their index words, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Index<'_>, u64)> {
        let ints = self.ints.iter().map(|number| (Index::Int(*number), *number as u64));
        let texts = self.texts.iter().map(|(word, text)| (Index::Text(text), *word));
        let others = self.others.iter().flat_map(|(word, texts)| texts.iter().map(|text| (Index::Text(text), *word)));
        ints.chain(texts).chain(others)
    }

    /// Gives memory back of which less than a quarter is used, if there is memory for the smaller one.
    pub fn give_back_room(&mut self) {
        if is_mostly_room(self.ints.len(), self.ints.capacity()) {
            let mut smaller = HashSet::new();
            if smaller.try_reserve(self.ints.len()).is_ok() {
                smaller.extend(self.ints.drain());
                self.ints = smaller;
            }
        }
        if is_mostly_room(self.texts.len(), self.texts.capacity()) {
            let mut smaller = HashMap::new();
            if smaller.try_reserve(self.texts.len()).is_ok() {
                smaller.extend(self.texts.drain());
                self.texts = smaller;
            }
        }
    }

    /// Returns how many indexes are known, but for texts whose hash another one has.
    pub fn len(&self) -> usize {
        self.ints.len() + self.texts.len()
    }

    /// Returns whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.ints.is_empty() && self.texts.is_empty()
    }
}

fn is_mostly_room(used: usize, capacity: usize) -> bool {
    capacity > LEAST_ROOM && used < capacity / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_one_hash_are_told_apart() {
        let mut known = Known::default();
        for text in ["a", "b", "c", "b"] {
            known.insert(&Index::Text(text), 7).unwrap();
        }
        known.insert(&Index::Int(7), 7).unwrap();
        assert_eq!(
            (known.with_word(7, true).count(), known.with_word(7, false).count(), known.iter().count()),
            (3, 1, 4)
        );
        known.remove(&Index::Text("a"), 7);
        known.remove(&Index::Text("a"), 7);
        assert!(!known.contains(&Index::Text("a"), 7) && known.contains(&Index::Text("b"), 7));
        known.remove(&Index::Text("b"), 7);
        known.remove(&Index::Text("c"), 7);
        assert_eq!(known.iter().collect::<Vec<_>>(), [(Index::Int(7), 7)]);
    }

    #[test]
    fn room_is_given_back_when_little_is_left() {
        let mut known = Known::default();
        let texts: Vec<String> = (0..10_000).map(|number: u64| number.to_string()).collect();
        for (number, text) in (0..).zip(&texts) {
            known.insert(&Index::Int(number), number as u64).unwrap();
            known.insert(&Index::Text(text), number as u64).unwrap();
        }
        known.give_back_room();
        assert!(known.ints.capacity() >= 10_000 && known.texts.capacity() >= 10_000);
        for (number, text) in (0..).zip(&texts).skip(100) {
            known.remove(&Index::Int(number), number as u64);
            known.remove(&Index::Text(text), number as u64);
        }
        known.give_back_room();
        assert!(known.ints.capacity() < 1_000 && known.texts.capacity() < 1_000);
        assert!(known.len() == 200 && known.contains(&Index::Text("99"), 99) && known.contains(&Index::Int(99), 99));
    }
}
