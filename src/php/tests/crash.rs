//! Each call is stopped at each of its stores, and what is left is looked at as PHP and as this package do.

use super::php::{self, Random, Variables, restore, segment, snapshot, variables};
use crate::os::sysv_shm::Mapping;
use crate::os::sysv_shm::crash::{Stopped, look_with, stop_after};
use crate::php::header::Header;
use crate::php::{put, remove};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A call that is stopped.
#[derive(Clone, Copy, Debug)]
enum Call {
    Put(i64, usize, u8, bool),
    Remove(i64),
    Clear,
}

fn make(map: &Mapping, call: Call) {
    // A put that does not fit is a call, too: it stores nothing.
    match call {
        Call::Put(index, len, byte, often) => drop(put::put(map, index, &vec![byte; len], often)),
        Call::Remove(index) => drop(remove::remove(map, index)),
        Call::Clear => remove::clear(map).unwrap(),
    }
}

/// Makes a call and stops it instead of its store number `n + 1`. Returns `true` if the call was over before.
fn make_and_stop(map: &Mapping, call: Call, n: u64) -> bool {
    look_with(Some(Box::new(|map| drop(variables_at_once(map)))));
    stop_after(Some(n));
    let end = catch_unwind(AssertUnwindSafe(|| make(map, call)));
    stop_after(None);
    look_with(None);
    match end {
        Ok(()) => true,
        Err(stopped) if stopped.is::<Stopped>() => false,
        Err(other) => resume_unwind(other),
    }
}

/// What is true after each store: PHP can walk the chain, `free` fits, and no index is there twice.
fn variables_at_once(map: &Mapping) -> Variables {
    assert_eq!(php::find(map, 4_711), None);
    variables(map)
}

/// Makes a random segment, in which there may be gaps, and other programs' bytes.
fn scene(random: &mut Random) -> Mapping {
    let size = [300, 600, 1_200, 4_000, 20_000][random.below(5) as usize] + random.below(90);
    let start = 40 + if random.below(4) == 0 { 8 * random.below(9) } else { 0 };
    let map = segment(size, start, if random.below(4) == 0 { random.below(60) } else { 0 });
    // Nearly full, or not.
    let puts = 2 + random.below(30);
    for _ in 0..puts {
        let (index, byte) = (random.below(7) as i64, random.below(256) as u8);
        let len = [4, 6, 12, 40, random.below(90) as usize, random.below(400) as usize][random.below(6) as usize];
        match random.below(8) {
            0 => drop(php::remove(&map, index)),
            1 | 2 => drop(php::put(&map, index, &vec![byte; len])),
            3 => drop(remove::remove(&map, index)),
            _ => make(&map, Call::Put(index, len, byte, random.below(2) == 0)),
        }
    }
    // Sometimes the rest is filled up.
    if random.below(3) == 0 {
        let free = Header::read(&map).unwrap().free as usize;
        if free >= 32 {
            make(&map, Call::Put(20, (free - 32) & !7, 7, false));
        }
    }
    map
}

#[test]
fn a_kill_at_any_store_leaves_the_other_variables_whole() {
    let mut random = Random(17);
    let mut counts = BTreeMap::<&str, u64>::new();
    let mut count = |what| *counts.entry(what).or_default() += 1;
    for _ in 0..2_500 {
        let map = scene(&mut random);
        let index = random.below(8) as i64;
        let len = [4, 6, 40, random.below(90) as usize, random.below(500) as usize][random.below(5) as usize];
        let call = match random.below(12) {
            0 => Call::Clear,
            1 | 2 => Call::Remove(index),
            _ => Call::Put(index, len, random.below(256) as u8, random.below(2) == 0),
        };
        let (words, old) = (snapshot(&map), variables(&map));
        make(&map, call);
        let new = variables(&map);
        for n in 0.. {
            restore(&map, &words);
            if make_and_stop(&map, call, n) {
                break;
            }
            count("stops");
            let left = variables_at_once(&map);
            let mut lost = Vec::new();
            for (index, value) in &old {
                let now = left.get(index);
                if now == Some(value) || now == new.get(index) {
                    continue;
                }
                let is_own = matches!(call, Call::Put(own, ..) if own == *index);
                count(match now {
                    None if is_own => "own missing",
                    None if new.contains_key(index) => "other missing",
                    Some(text) if text.is_empty() && !is_own => "other with an empty text",
                    _ => panic!("{call:?} stopped after {n}: variable {index} is {now:?}, was {value:?}"),
                });
                lost.push((*index, now.is_none(), is_own));
            }
            assert!(left.keys().all(|index| old.contains_key(index) || new.contains_key(index)));
            after(&map, &old, &new, &left, &mut lost, &mut count);
        }
    }
    println!("{counts:?}");
    assert!(counts["stops"] > 30_000);
}

/// Goes on after a stop: PHP puts, and so does this package.
fn after(
    map: &Mapping,
    old: &Variables,
    new: &Variables,
    left: &Variables,
    lost: &mut Vec<(i64, bool, bool)>,
    count: &mut impl FnMut(&'static str),
) {
    let words = snapshot(map);
    for index in [left.keys().next().copied().unwrap_or(3), 30] {
        // PHP goes on writing.
        let stored = php::put(map, index, b"i:1;");
        let mut expected = left.clone();
        expected.remove(&index);
        if stored {
            expected.insert(index, b"i:1;".to_vec());
        }
        assert_eq!(variables(map), expected);
        // What PHP has stored counts for this package, too.
        drop(put::put(map, 31, b"i:2;", false));
        if stored {
            assert_eq!(variables(map).get(&index), expected.get(&index));
        }
        restore(map, &words);
    }
    // This package goes on writing.
    let fits = put::put(map, 31, b"i:2;", false).is_ok();
    let mut now = variables(map);
    assert_eq!(now.remove(&31).is_some(), fits);
    for (index, was_missing, is_own) in lost.drain(..) {
        let value = now.get(&index);
        let whole = value == old.get(&index) || value == new.get(&index);
        if was_missing && value.is_some() {
            assert!(whole);
            count("missing until the next change");
        } else if was_missing {
            count(if is_own { "own lost" } else { "other lost" });
        }
        now.remove(&index);
    }
    for (index, value) in &now {
        assert!(Some(value) == old.get(index) || Some(value) == new.get(index), "{index} is {value:?}");
    }
}
