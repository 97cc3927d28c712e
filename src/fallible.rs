//! Allocations that fail with an error. Whatever grows with a segment, a value or an argument is allocated here, so
//! that a limit (`ulimit -v`, `ulimit -d`, a full machine) is an error and not an abort.
//!
//! The error says how many bytes were asked for. It contains no allocated text, so it can be made when there is no
//! memory. In all functions, `what` says what the memory is for.

use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// Returns the error for an allocation of `asked` bytes that failed.
#[cold]
fn no_memory(asked: usize, what: &'static str) -> Error {
    Error::Memory { asked: asked as u64, what }
}

/// Reserves memory for `more` further elements.
#[inline]
pub fn reserve<T>(all: &mut Vec<T>, more: usize, what: &'static str) -> Result<()> {
    let asked = |all: &Vec<T>| all.len().saturating_add(more).max(all.capacity().saturating_mul(2));
    all.try_reserve(more).map_err(|_| no_memory(asked(all).saturating_mul(size_of::<T>()), what))
}

/// Makes an empty vector with memory for exactly `len` elements.
pub fn with_room<T>(len: usize, what: &'static str) -> Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(len).map_err(|_| no_memory(len.saturating_mul(size_of::<T>()), what))?;
    Ok(all)
}

/// Returns a place for `len` values, which are `filler` at first: the first of `few`, which stand on the caller's stack
/// and cost no allocation, or else `many`, which is empty before.
#[inline(always)]
pub fn few_or_many<'a, T: Copy>(
    few: &'a mut [T],
    many: &'a mut Vec<T>,
    len: usize,
    filler: T,
    what: &'static str,
) -> Result<&'a mut [T]> {
    if len <= few.len() {
        return Ok(&mut few[..len]);
    }
    reserve(many, len, what)?;
    many.resize(len, filler);
    Ok(many)
}

/// Appends an element.
#[inline]
pub fn push<T>(all: &mut Vec<T>, one: T, what: &'static str) -> Result<()> {
    if all.len() == all.capacity() {
        reserve(all, 1, what)?;
    }
    all.push(one);
    Ok(())
}

/// Makes a vector of `len` default values (zeros for numbers).
pub fn zeros<T: Clone + Default>(len: usize, what: &'static str) -> Result<Vec<T>> {
    let mut all = with_room(len, what)?;
    all.resize(len, T::default());
    Ok(all)
}

/// Returns a copy of some bytes.
pub fn copied(bytes: &[u8], what: &'static str) -> Result<Vec<u8>> {
    joined(&[bytes], what)
}

/// Returns a copy of several parts, one after the other.
pub fn joined(parts: &[&[u8]], what: &'static str) -> Result<Vec<u8>> {
    let mut bytes = with_room(parts.iter().map(|part| part.len()).sum(), what)?;
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    Ok(bytes)
}

/// Returns a copy of a text.
pub fn text(text: &str, what: &'static str) -> Result<String> {
    let mut own = String::new();
    own.try_reserve_exact(text.len()).map_err(|_| no_memory(text.len(), what))?;
    own.push_str(text);
    Ok(own)
}

/// Collects the items of an iterator. Returns its first error instead, if there is one.
pub fn collect<T>(each: impl Iterator<Item = Result<T>>, what: &'static str) -> Result<Vec<T>> {
    let mut all = with_room(each.size_hint().0, what)?;
    for one in each {
        push(&mut all, one?, what)?;
    }
    Ok(all)
}

/// Returns the size in bytes of a hash table that the standard library makes when `capacity` entries of `entry` bytes
/// have to grow by one.
fn hash_table_size(capacity: usize, entry: usize) -> usize {
    let buckets = capacity.saturating_add(1).saturating_mul(8).div_ceil(7).max(4).next_power_of_two();
    buckets.saturating_mul(entry + 1)
}

/// Reserves memory for `more` further entries of a map.
#[inline]
pub fn reserve_in_map<K: Hash + Eq, V>(map: &mut HashMap<K, V>, more: usize, what: &'static str) -> Result<()> {
    let asked = |map: &HashMap<K, V>| map.capacity().max(map.len().saturating_add(more).saturating_sub(1));
    map.try_reserve(more).map_err(|_| no_memory(hash_table_size(asked(map), size_of::<(K, V)>()), what))
}

/// Inserts an entry into a map. Returns the value that the key had before.
#[inline]
pub fn insert<K: Hash + Eq, V>(map: &mut HashMap<K, V>, key: K, value: V, what: &'static str) -> Result<Option<V>> {
    reserve_in_map(map, 1, what)?;
    Ok(map.insert(key, value))
}

/// Reserves memory for `more` further elements of a set.
pub fn reserve_in_set<T: Hash + Eq>(set: &mut HashSet<T>, more: usize, what: &'static str) -> Result<()> {
    let asked = |set: &HashSet<T>| set.capacity().max(set.len().saturating_add(more).saturating_sub(1));
    set.try_reserve(more).map_err(|_| no_memory(hash_table_size(asked(set), size_of::<T>()), what))
}

/// Puts an element into a set. Returns the equal element that was there before.
#[inline]
pub fn replace<T: Hash + Eq>(set: &mut HashSet<T>, one: T, what: &'static str) -> Result<Option<T>> {
    set.try_reserve(1).map_err(|_| no_memory(hash_table_size(set.capacity(), size_of::<T>()), what))?;
    Ok(set.replace(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error_with_what_was_asked_for() {
        let asked = |error: Error| match error {
            Error::Memory { asked, what } => (asked, what),
            other => panic!("{other}"),
        };
        let huge = isize::MAX as usize / 8;
        assert_eq!(asked(with_room::<u64>(huge + 1, "a list").unwrap_err()), ((huge as u64 + 1) * 8, "a list"));
        let mut all = vec![1_u64];
        assert_eq!(asked(reserve(&mut all, huge, "more").unwrap_err()), ((huge as u64 + 1) * 8, "more"));
        assert_eq!(all, [1]);
        let text = Error::Memory { asked: 7, what: "a list" }.to_string();
        assert!(text.contains("7 bytes for a list") && text.contains("ulimit"), "{text}");
    }

    #[test]
    fn what_can_be_had_is_as_the_library_makes_it() {
        let mut all = with_room(0, "x").unwrap();
        for number in 0..100 {
            push(&mut all, number, "x").unwrap();
        }
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert_eq!(collect(all.iter().map(|n| Ok(*n)), "x").unwrap(), all);
        assert_eq!(joined(&[b"ab", b"", b"c"], "x").unwrap(), b"abc");
        assert_eq!((zeros(3, "x").unwrap(), text("é", "x").unwrap()), (vec![0; 3], "é".to_owned()));
        let (mut map, mut set) = (HashMap::new(), HashSet::new());
        assert_eq!((insert(&mut map, 1, 2, "x").unwrap(), insert(&mut map, 1, 3, "x").unwrap()), (None, Some(2)));
        assert_eq!((replace(&mut set, 1, "x").unwrap(), replace(&mut set, 1, "x").unwrap()), (None, Some(1)));
    }
}
