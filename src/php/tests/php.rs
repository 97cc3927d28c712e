//! A model of what PHP 8.2 itself does with a segment, load by load and store by store; segments of tests.

use crate::os::sysv_shm::Mapping;
use crate::php::chain::each;
use crate::php::format_new::format_new;
use crate::php::header::Header;
use crate::php::layout::{END, FREE_BYTES, HEADER, START, own_size};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// The variables of a segment.
pub type Variables = BTreeMap<i64, Vec<u8>>;

/// Random numbers (splitmix).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ z >> 31) % limit
    }
}

/// Makes a formatted segment, in which the bytes before `start` and the last `behind` bytes are another program's.
pub fn segment(size: u64, start: u64, behind: u64) -> Mapping {
    let map = Mapping::in_memory(size);
    format_new(&map).unwrap();
    set(&map, START, start as i64);
    set(&map, END, start as i64);
    set(&map, FREE_BYTES, (size - behind - start) as i64);
    for offset in (HEADER..start).step_by(8) {
        set(&map, offset, 0x0505_0505);
    }
    map
}

/// Stores a number, as another process does: no test counts it.
pub fn set(map: &Mapping, offset: u64, number: i64) {
    map.words()[offset as usize / 8].store(number as u64, Ordering::Relaxed);
}

/// Loads a number. A test fails here if PHP would read outside of the segment.
pub fn get(map: &Mapping, offset: i64) -> i64 {
    assert!(offset >= 0 && offset % 8 == 0 && offset as u64 + 8 <= map.size(), "PHP reads at {offset}");
    map.words()[offset as usize / 8].load(Ordering::Relaxed) as i64
}

/// Returns where the last chunk begins. There is one.
pub fn last(map: &Mapping) -> u64 {
    let (mut at, end) = (get(map, 8), get(map, 16));
    while at + get(map, at + 16) < end {
        at += get(map, at + 16);
    }
    at as u64
}

/// Returns the bytes of all chunks that are no gap.
pub fn needed(map: &Mapping) -> u64 {
    variables(map).values().map(|text| own_size(text.len() as u64)).sum()
}

/// PHP's search.
pub fn find(map: &Mapping, key: i64) -> Option<i64> {
    let (start, end) = (get(map, 8), get(map, 16));
    let mut at = start;
    while at < end {
        if get(map, at) == key {
            return Some(at);
        }
        let next = get(map, at + 16);
        at += next;
        if next <= 0 || at < start {
            return None;
        }
    }
    assert_eq!(at, end, "the chain ends elsewhere");
    None
}

/// The text that `shm_get_var` parses.
pub fn text(map: &Mapping, key: i64) -> Option<Vec<u8>> {
    let at = find(map, key)?;
    let length = get(map, at + 8);
    assert!(length >= 0 && at + 24 + length <= get(map, 16), "PHP reads a text at {at}");
    Some((0..length).map(|i| (get(map, at + 24 + (i & !7)) >> (i % 8 * 8)) as u8).collect())
}

/// `shm_remove_var`.
pub fn remove(map: &Mapping, key: i64) -> bool {
    let Some(at) = find(map, key) else { return false };
    let next = get(map, at + 16);
    let end = get(map, 16);
    set(map, 24, get(map, 24) + next);
    set(map, 16, end - next);
    for offset in (at..end - next).step_by(8) {
        set(map, offset as u64, get(map, offset + next));
    }
    true
}

/// `shm_put_var`.
pub fn put(map: &Mapping, key: i64, text: &[u8]) -> bool {
    remove(map, key);
    let (end, own) = (get(map, 16), own_size(text.len() as u64) as i64);
    if get(map, 24) < own {
        return false;
    }
    for (offset, number) in [(0, key), (8, text.len() as i64), (16, own)] {
        set(map, (end + offset) as u64, number);
    }
    for (i, part) in text.chunks(8).enumerate() {
        let mut word = [0xA5; 8];
        word[..part.len()].copy_from_slice(part);
        set(map, end as u64 + 24 + i as u64 * 8, i64::from_le_bytes(word));
    }
    set(map, 16, end + own);
    set(map, 24, get(map, 24) - own);
    true
}

/// Returns the variables as PHP finds them, after checks that hold at each instant.
pub fn variables(map: &Mapping) -> Variables {
    let header = Header::read(map).unwrap();
    assert!(header.free <= header.total - header.end, "{header:?}");
    let mut all = Variables::new();
    each(map, &header, |chunk| {
        assert!(all.insert(chunk.key, text(map, chunk.key).unwrap()).is_none(), "{} is there twice", chunk.key);
        Ok(())
    })
    .unwrap();
    all
}

/// Returns the numbers and the bytes of a segment, to be restored.
pub fn snapshot(map: &Mapping) -> Vec<u64> {
    map.words().iter().map(|word| word.load(Ordering::Relaxed)).collect()
}

/// Makes a segment what it was.
pub fn restore(map: &Mapping, words: &[u64]) {
    for (to, word) in map.words().iter().zip(words) {
        to.store(*word, Ordering::Relaxed);
    }
}
