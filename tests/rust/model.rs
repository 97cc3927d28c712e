//! The table, the slabs and the spans against a `std` map, with a full self-check after each step.

mod common;

use common::Fresh;
use proptest::prelude::*;
use shmvar::{AsCoordination, Blocking, Condition, Error, Eviction, Index, IndexBuf, LockGuard, Number};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    Put(IndexBuf, usize, u8),
    /// Expires in an hour, or at once.
    PutFor(IndexBuf, usize, bool),
    /// Expires in so many hours, or stays for good.
    Expire(IndexBuf, Option<u64>),
    PutMany(Vec<(IndexBuf, usize, u8)>),
    CompareAndPut(IndexBuf, u8, bool),
    Add(IndexBuf, i64),
    Remove(IndexBuf),
    Get(IndexBuf),
    GetMany(Vec<IndexBuf>),
    Lock(IndexBuf),
    LetGo(IndexBuf),
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

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0_usize..60, 3 => 0_usize..5_000, 2 => 10_000_usize..40_000, 1 => 0_usize..300_000]
}

fn pickle(len: usize, byte: u8) -> Vec<u8> {
    if len < 30 {
        return vec![0x80, 5, b'K', byte, b'.'];
    }
    [&b"\x80\x05B"[..], &(len as u32).to_le_bytes(), &vec![byte; len], b"."].concat()
}

/// The pickle of a number, as `add` and other calls read it.
fn number(pickle: &[u8]) -> Option<Number> {
    match shmvar::codec::scalar::decode(pickle)? {
        shmvar::codec::scalar::Scalar::Int(number) => Some(Number::Int(number)),
        shmvar::codec::scalar::Scalar::Float(number) => Some(Number::Float(number)),
        _ => None,
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (index(), len(), any::<u8>()).prop_map(|(i, n, b)| Step::Put(i, n, b)),
        3 => (index(), 0_usize..30_000, any::<bool>()).prop_map(|(i, n, gone)| Step::PutFor(i, n, gone)),
        5 => (index(), prop::option::of(1_u64..10)).prop_map(|(i, hours)| Step::Expire(i, hours)),
        3 => prop::collection::vec((index(), len(), any::<u8>()), 0..12).prop_map(Step::PutMany),
        2 => (index(), any::<u8>(), any::<bool>()).prop_map(|(i, b, now)| Step::CompareAndPut(i, b, now)),
        3 => (index(), any::<i64>()).prop_map(|(i, n)| Step::Add(i, n)),
        4 => index().prop_map(Step::Remove),
        3 => index().prop_map(Step::Get),
        2 => prop::collection::vec(index(), 0..12).prop_map(Step::GetMany),
        2 => index().prop_map(Step::Lock),
        2 => index().prop_map(Step::LetGo),
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
        // Values as pickles; missing variables have no entry.
        let mut model: HashMap<IndexBuf, Vec<u8>> = HashMap::new();
        let mut locks: BTreeMap<IndexBuf, LockGuard> = BTreeMap::new();
        for step in steps {
            take(step, &mut fresh, &mut model, &mut locks)?;
            let report = fresh.segment.check().unwrap();
            // An expired variable may still be in the table, but every reader finds it missing.
            prop_assert!(report.variables >= model.len() as u64);
            prop_assert_eq!(fresh.segment.info().unwrap().count, model.len() as u64);
            prop_assert_eq!(report.busy + report.retired, 0);
            prop_assert_eq!(report.locks, locks.len() as u64);
        }
        let mut indexes = fresh.segment.indexes().unwrap();
        indexes.sort();
        let mut expected: Vec<_> = model.keys().cloned().collect();
        expected.sort();
        prop_assert_eq!(&indexes, &expected);
        let all: Vec<Index<'_>> = expected.iter().map(IndexBuf::as_index).collect();
        let got = fresh.segment.get_many_pickles(&all).unwrap();
        for (index, got) in expected.iter().zip(got) {
            prop_assert_eq!(got.as_ref(), model.get(index));
            prop_assert_eq!(fresh.segment.get_pickle(&index.as_index(), &Blocking).unwrap(), got);
        }
        let mut named: Vec<_> = fresh.segment.attachment().unwrap().coordination().locks(&Blocking).unwrap();
        named.sort();
        let held = locks.keys().map(|name| (name.clone(), std::process::id())).collect::<Vec<_>>();
        prop_assert_eq!(named, held);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn beside_evictions_what_is_there_is_what_was_stored_last_and_the_rest_is_counted(
        lru in any::<bool>(),
        puts in prop::collection::vec((index(), len(), any::<u8>(), 0_u8..10), 1..150),
    ) {
        let evict = if lru { Eviction::Lru } else { Eviction::Ttl };
        let fresh = Fresh::with("model-evict", 512 << 10, 0o600, Some(evict));
        let (segment, mut model) = (&fresh.segment, HashMap::<IndexBuf, String>::new());
        let (mut made, mut removed) = (0, 0);
        for (index, len, byte, what) in puts {
            // Under *ttl* all of them have an expiry, so that room can always be made.
            let value = char::from(b'a' + byte % 26).to_string().repeat(len);
            let version = segment.version(index.as_index()).unwrap();
            match what {
                0 => removed += u64::from(segment.remove(index.as_index()).unwrap()),
                1 => segment.trim(&Blocking).unwrap(),
                _ => {
                    made += u64::from(version == 0);
                    let ttl = Duration::from_secs(3_600 + u64::from(byte));
                    segment.put_for(index.as_index(), &value, ttl).unwrap();
                    prop_assert!(segment.version(index.as_index()).unwrap() > version);
                    prop_assert!(segment.has(index.as_index()).unwrap(), "what was just stored is never evicted");
                }
            }
            if what != 1 {
                model.insert(index, if what == 0 { String::new() } else { value });
            }
            let (report, info) = (segment.check().unwrap(), segment.info().unwrap());
            prop_assert_eq!(made, report.variables + removed + info.evicted);
            prop_assert!(info.used <= 512 << 10);
        }
        for index in segment.indexes().unwrap() {
            let found = segment.get::<String>(index.as_index()).unwrap();
            prop_assert_eq!(found.as_ref(), model.get(&index));
        }
    }
}

/// A call that may not fit: then it must have changed nothing.
fn fits(done: Result<(), Error>) -> Result<bool, TestCaseError> {
    Ok(may_be_full(done)?.is_some())
}

/// The result of such a call, if it did fit.
fn may_be_full<T>(done: Result<T, Error>) -> Result<Option<T>, TestCaseError> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(Error::Full { needed, free, size, .. }) => {
            prop_assert!(needed > free && free <= size && size == 2 << 20);
            Ok(None)
        }
        Err(error) => Err(TestCaseError::fail(error.to_string())),
    }
}

/// Does one step in the segment and in the map.
fn take(
    step: Step,
    fresh: &mut Fresh,
    model: &mut HashMap<IndexBuf, Vec<u8>>,
    locks: &mut BTreeMap<IndexBuf, LockGuard>,
) -> Result<(), TestCaseError> {
    let segment = &fresh.segment;
    match step {
        Step::Put(index, len, byte) => {
            let before = segment.version(index.as_index()).unwrap();
            if fits(segment.put_bytes(index.as_index(), &vec![byte; len]))? {
                let stored = segment.get_pickle(&index.as_index(), &Blocking).unwrap().unwrap();
                prop_assert_eq!(segment.get_bytes(index.as_index()).unwrap(), Some(vec![byte; len]));
                prop_assert!(segment.version(index.as_index()).unwrap() > before);
                model.insert(index, stored);
            }
        }
        Step::PutFor(index, len, gone) => {
            let (text, ttl) = ("t".repeat(len), Duration::from_secs(3_600));
            let ttl = if gone { Duration::from_nanos(1) } else { ttl };
            if fits(segment.put_for(index.as_index(), &text, ttl))? {
                if gone {
                    prop_assert_eq!(segment.version(index.as_index()).unwrap(), 0);
                    prop_assert!(!segment.has(index.as_index()).unwrap());
                    model.remove(&index);
                } else {
                    prop_assert!(segment.stat(index.as_index()).unwrap().unwrap().expires_in.is_some());
                    model.insert(index, serde_pickle::to_vec(&text, serde_pickle::SerOptions::new()).unwrap());
                }
            }
        }
        Step::Expire(index, hours) => {
            let before = segment.version(index.as_index()).unwrap();
            let ttl = hours.map(|hours| Duration::from_secs(3_600 * hours));
            let expired = segment.expire(index.as_index(), ttl);
            // Where it had none, there may be no room for one.
            if let Some(expired) = may_be_full(expired)? {
                prop_assert_eq!(expired, model.contains_key(&index));
                let left = segment.stat(index.as_index()).unwrap().map(|stat| stat.expires_in);
                let around = |left: u64| (left + 1_800_000_000_000) / 3_600_000_000_000;
                prop_assert_eq!(left.map(|left| left.map(around)), expired.then_some(hours));
            }
            prop_assert_eq!(segment.version(index.as_index()).unwrap(), before);
        }
        Step::PutMany(items) => {
            let pickles: Vec<_> = items.iter().map(|(_, len, byte)| pickle(*len, *byte)).collect();
            let asked: Vec<_> = items.iter().zip(&pickles).map(|((index, ..), p)| (index.as_index(), &**p)).collect();
            if fits(segment.put_many_pickles(&asked))? {
                model.extend(items.iter().map(|(index, ..)| index.clone()).zip(pickles));
            }
        }
        Step::CompareAndPut(index, byte, now) => {
            let version = segment.version(index.as_index()).unwrap();
            prop_assert_eq!(version != 0, model.contains_key(&index));
            let (wanted, value) = (if now { version } else { version + 1 }, pickle(3, byte));
            let put = segment.put_pickle(&index.as_index(), &[&value], Condition::Version(wanted), &Blocking);
            let done = put.as_ref().is_ok_and(Option::is_some);
            prop_assert!(done == now || put.is_err());
            if fits(put.map(drop))? && done {
                model.insert(index, value);
            }
        }
        Step::Add(index, amount) => {
            let old = model.get(&index).map_or(Some(Number::Int(0)), |pickle| number(pickle));
            let sum = match old {
                Some(Number::Int(old)) => old.checked_add(amount),
                _ => None,
            };
            match segment.add(index.as_index(), Number::Int(amount)) {
                Ok(got) => {
                    prop_assert_eq!(got, sum.map(Number::Int));
                    if sum.is_some() {
                        let stored = segment.get_pickle(&index.as_index(), &Blocking).unwrap().unwrap();
                        prop_assert_eq!(number(&stored), got);
                        model.insert(index, stored);
                    }
                }
                Err(error) => drop(fits(Err(error))?),
            }
        }
        Step::Remove(index) => {
            let there = model.remove(&index).is_some();
            prop_assert_eq!(segment.remove(index.as_index()).unwrap(), there);
        }
        Step::Get(index) => {
            let got = segment.get_pickle(&index.as_index(), &Blocking).unwrap();
            prop_assert_eq!(got.as_ref(), model.get(&index));
            prop_assert_eq!(segment.has(index.as_index()).unwrap(), model.contains_key(&index));
        }
        Step::GetMany(indexes) => {
            let asked: Vec<Index<'_>> = indexes.iter().map(IndexBuf::as_index).collect();
            let got = segment.get_many_pickles(&asked).unwrap();
            for (index, got) in indexes.iter().zip(got) {
                prop_assert_eq!(got.as_ref(), model.get(index));
            }
        }
        Step::Lock(name) => {
            // Another thread finds the lock held exactly when this one holds it.
            let free = std::thread::scope(|scope| {
                let other = scope.spawn(|| segment.lock(name.as_index(), Some(Duration::ZERO)).unwrap().is_some());
                other.join().unwrap()
            });
            prop_assert_eq!(free, !locks.contains_key(&name));
            if free {
                let guard = segment.lock(name.as_index(), Some(Duration::ZERO)).unwrap();
                prop_assert!(guard.is_some());
                locks.insert(name, guard.unwrap());
            }
        }
        Step::LetGo(name) => {
            let locked =
                || segment.attachment().unwrap().coordination().is_locked(&name.as_index(), &Blocking).unwrap();
            prop_assert_eq!(locked(), locks.contains_key(&name));
            drop(locks.remove(&name));
            prop_assert!(!locked());
        }
        Step::Clear => {
            segment.clear().unwrap();
            model.clear();
        }
        Step::Trim => segment.trim(&Blocking).unwrap(),
        Step::Reattach => {
            let other = common::existing(&fresh.key);
            // Locks are released with the handle that they were taken through.
            drop(std::mem::replace(&mut fresh.segment, other));
            locks.clear();
        }
    }
    Ok(())
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
    fresh.segment.trim(&Blocking).unwrap();
    let report = fresh.segment.check().unwrap();
    assert_eq!((report.live, report.retired, report.used), (0, 0, 0));
    assert!(fresh.segment.info().unwrap().resident < 1 << 20);
}
