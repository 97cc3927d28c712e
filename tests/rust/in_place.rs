//! Bytes that are changed in place, through the Rust interface.

mod common;

use common::{Fresh, existing};
use shmvar::{Error, Options, Segment};
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn all_handles_have_one_memory_and_threads_count_in_it_exactly() {
    let fresh = Fresh::new("counters", 1 << 30);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let handle = existing(&fresh.key);
                let counters = handle.shared_bytes("counters", 4_096 + 3).unwrap();
                handle.detach();
                assert_eq!((counters.words().len(), counters.bytes().len(), counters.len()), (512, 4_099, 4_099));
                assert_eq!(counters.as_ptr().addr() % 64, 0);
                for turn in 0..10_000 {
                    counters.words()[turn % 512].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let counters = fresh.segment.shared_bytes("counters", 4_099).unwrap();
    let sum: u64 = counters.words().iter().map(|word| word.load(Ordering::Relaxed)).sum();
    assert_eq!(sum, 40_000);
    assert_eq!(fresh.segment.check().unwrap().variables, 1);
}

#[test]
fn threads_that_make_one_at_once_get_the_same() {
    let fresh = Fresh::new("race", 1 << 30);
    for round in 0..50 {
        let hits = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let bytes = fresh.segment.shared_bytes(round, 300_000).unwrap();
                    hits.fetch_max(bytes.words()[0].fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(hits.into_inner(), 6, "round {round}");
    }
    assert_eq!(fresh.segment.info().unwrap().count, 50);
}

#[test]
fn the_memory_stays_as_long_as_it_is_held_and_no_longer() {
    let fresh = Fresh::new("held", 1 << 30);
    let segment = &fresh.segment;
    let held = segment.shared_bytes(1, 1 << 20).unwrap();
    held.words()[9].store(9, Ordering::Relaxed);
    segment.put(1, &"something else").unwrap();
    (2..40).for_each(|index| segment.put_bytes(index, &[0xff; 1 << 20]).unwrap());
    held.words()[10].store(10, Ordering::Relaxed);
    let found: Vec<_> = held.words()[8..12].iter().map(|word| word.load(Ordering::Relaxed)).collect();
    assert_eq!(found, [0, 9, 10, 0]);
    assert!(segment.info().unwrap().held >= 1 << 20);
    drop(held);
    assert_eq!(segment.info().unwrap().held, 0);
}

#[test]
fn what_is_not_in_place_or_of_another_length_is_refused_and_stays() {
    let fresh = Fresh::new("refused", 1 << 20);
    let segment = &fresh.segment;
    segment.put("plain", &5).unwrap();
    drop(segment.shared_bytes("bytes", 100).unwrap());
    let text = |refused: Result<shmvar::SharedBytes, Error>| match refused.map(drop) {
        Err(Error::Invalid(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(text(segment.shared_bytes("plain", 100)).contains("remove it first"));
    assert!(text(segment.shared_bytes("bytes", 101)).contains("100 bytes in place, not 101"));
    assert!(text(segment.shared_bytes("none", 0)).contains("at least 1"));
    let full = segment.shared_bytes("large", 1 << 20).map(drop);
    assert!(matches!(full, Err(Error::Full { needed, .. }) if needed > 1 << 20), "{full:?}");
    let options = Options { create: Some(false), readonly: true, ..Options::default() };
    let reader = Segment::attach(fresh.key.clone(), &options).unwrap();
    assert!(matches!(reader.shared_bytes("bytes", 100).map(drop), Err(Error::ReadOnly)));
    assert_eq!((segment.get::<i32>("plain").unwrap(), segment.info().unwrap().count), (Some(5), 2));
}

#[test]
fn a_touch_is_a_new_version_and_nothing_else() {
    let fresh = Fresh::new("touch", 1 << 20);
    let segment = &fresh.segment;
    segment.put(1, &5).unwrap();
    segment.put("text", &"x".repeat(100)).unwrap();
    segment.put_bytes(2, &[7; 50_000]).unwrap();
    let used = segment.info().unwrap().used;
    for _ in 0..100 {
        for index in [shmvar::Index::Int(1), shmvar::Index::Text("text"), shmvar::Index::Int(2)] {
            let before = segment.version(index).unwrap();
            let version = segment.touch(index).unwrap();
            assert!(version > before && segment.version(index).unwrap() == version);
        }
    }
    assert_eq!(segment.touch("missing").unwrap(), 0);
    assert_eq!((segment.get(1).unwrap(), segment.get_bytes(2).unwrap()), (Some(5), Some(vec![7; 50_000])));
    assert_eq!(segment.get::<String>("text").unwrap(), Some("x".repeat(100)));
    assert_eq!(segment.info().unwrap().used, used);
    segment.check().unwrap();
}
