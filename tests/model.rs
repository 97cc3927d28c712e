//! The table, the slabs and the spans against a `std` map, with a full self-check after each step.

mod common;

use common::Fresh;
use proptest::prelude::*;
use shmvar::{Error, Index, IndexBuf, Plain};
use std::collections::HashMap;

#[derive(Clone, Debug)]
enum Step {
    Put(IndexBuf, usize, u8),
    Remove(IndexBuf),
    Get(IndexBuf),
    Clear,
    Trim,
    Reattach,
}

fn index() -> impl Strategy<Value = IndexBuf> {
    prop_oneof![
        4 => (0_i64..40).prop_map(IndexBuf::Int),
        1 => any::<i64>().prop_map(IndexBuf::Int),
        2 => "[a-c]{0,3}".prop_map(IndexBuf::Text),
        1 => (900_usize..1024).prop_map(|n| IndexBuf::Text("k".repeat(n))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![4 => 0_usize..60, 3 => 0_usize..5_000, 2 => 10_000_usize..40_000, 1 => 0_usize..300_000];
    prop_oneof![
        10 => (index(), len, any::<u8>()).prop_map(|(i, n, b)| Step::Put(i, n, b)),
        4 => index().prop_map(Step::Remove),
        3 => index().prop_map(Step::Get),
        1 => Just(Step::Clear),
        1 => Just(Step::Trim),
        1 => Just(Step::Reattach),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]
    #[test]
    fn f36_f43_every_step_is_what_a_map_does_and_leaves_no_invariant_broken(steps in prop::collection::vec(step(), 1..80)) {
        let mut fresh = Fresh::new("model", 2 << 20);
        let mut model: HashMap<IndexBuf, Vec<u8>> = HashMap::new();
        for step in steps {
            match step {
                Step::Put(index, len, byte) => {
                    let value = vec![byte; len];
                    match fresh.segment.put_bytes(index.as_index(), &value) {
                        Ok(()) => drop(model.insert(index, value)),
                        Err(Error::Full { needed, free, size, .. }) => {
                            prop_assert!(needed > free && free <= size && size == 2 << 20);
                        }
                        Err(error) => return Err(TestCaseError::fail(error.to_string())),
                    }
                }
                Step::Remove(index) => {
                    let there = model.remove(&index).is_some();
                    prop_assert_eq!(fresh.segment.remove(index.as_index()).unwrap(), there);
                }
                Step::Get(index) => {
                    prop_assert_eq!(fresh.segment.get_bytes(index.as_index()).unwrap(), model.get(&index).cloned());
                    prop_assert_eq!(fresh.segment.has(index.as_index()).unwrap(), model.contains_key(&index));
                }
                Step::Clear => {
                    fresh.segment.clear().unwrap();
                    model.clear();
                }
                Step::Trim => fresh.segment.trim(&Plain).unwrap(),
                Step::Reattach => {
                    let other = common::existing(&fresh.key);
                    drop(std::mem::replace(&mut fresh.segment, other));
                }
            }
            let report = fresh.segment.check().unwrap();
            prop_assert_eq!(report.variables, model.len() as u64);
            prop_assert_eq!(report.busy + report.retired, 0);
        }
        let mut indexes = fresh.segment.indexes().unwrap();
        indexes.sort();
        let mut expected: Vec<_> = model.keys().cloned().collect();
        expected.sort();
        prop_assert_eq!(indexes, expected);
        for (index, value) in &model {
            let got = fresh.segment.get_bytes(index.as_index()).unwrap();
            prop_assert_eq!(got.as_ref(), Some(value));
        }
    }
}

#[test]
fn f43_a_million_overwrites_do_not_grow_the_use() {
    let fresh = Fresh::new("million", 1 << 20);
    for round in 0..1_000_000_u64 {
        fresh.segment.put(1, &round).unwrap();
        if round % 10 == 0 {
            fresh.segment.put_bytes(2, &round.to_le_bytes().repeat(8)).unwrap();
        }
    }
    let report = fresh.segment.check().unwrap();
    assert_eq!((report.variables, report.slabs), (2, 1));
    assert!(fresh.segment.info().unwrap().resident < 200 << 10);
}

#[test]
fn a_hundred_thousand_variables_come_and_go() {
    let fresh = Fresh::new("many", 64 << 20);
    for i in 0..100_000_i64 {
        fresh.segment.put(i * 7, &i).unwrap();
    }
    assert_eq!(fresh.segment.check().unwrap().variables, 100_000);
    let resident = fresh.segment.info().unwrap().resident;
    assert!(resident <= 64 * 100_000, "{resident} bytes for 100,000 small ints");
    for i in 0..100_000_i64 {
        assert_eq!(fresh.segment.get::<i64>(i * 7).unwrap(), Some(i));
    }
    for i in (0..100_000_i64).rev() {
        assert!(fresh.segment.remove(i * 7).unwrap());
    }
    let report = fresh.segment.check().unwrap();
    assert_eq!((report.variables, report.used), (0, 0));
}

#[test]
fn f38_largest_put_is_true_to_the_byte() {
    for size in [1, 31, 32, 33, 50, 100, 300, 330, 5_000, 70_000, 3 << 20] {
        let fresh = Fresh::new("largest", size);
        let most = fresh.segment.info().unwrap().largest_put as usize;
        let more = fresh.segment.put_bytes(Index::Int(1), &vec![1; most + 1]);
        assert!(matches!(more, Err(Error::Full { .. })), "size {size}, one more than {most}");
        match fresh.segment.put_bytes(Index::Int(1), &vec![1; most]) {
            Ok(()) => assert!(size >= 32),
            Err(error) => assert!(size < 32, "size {size}: {error}"),
        }
        fresh.segment.check().unwrap();
    }
}

#[test]
fn large_values_of_many_sizes_round_trip_and_are_given_back() {
    let fresh = Fresh::new("large", 1 << 30);
    for len in [16_300, 16_320, 16_384, 1 << 20, (16 << 20) + 1, 40 << 20] {
        let value: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        fresh.segment.put_bytes("big", &value).unwrap();
        assert!(fresh.segment.get_bytes("big").unwrap().as_ref() == Some(&value), "{len}");
        fresh.segment.check().unwrap();
    }
    assert!(fresh.segment.remove("big").unwrap());
    fresh.segment.trim(&Plain).unwrap();
    let report = fresh.segment.check().unwrap();
    assert_eq!((report.live, report.retired, report.used), (0, 0, 0));
    assert!(fresh.segment.info().unwrap().resident < 1 << 20);
}
