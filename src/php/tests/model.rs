//! Random calls, of this package and of PHP, against a map of the standard library, with a full check after each.

use super::php::{self, Variables, segment, text, variables};
use crate::error::Error;
use crate::os::mem::Scratch;
use crate::os::sysv_shm::Mapping;
use crate::php::chain::Chunk;
use crate::php::header::Header;
use crate::php::layout::own_size;
use crate::php::variables::Snapshot;
use crate::php::{put, read, remove};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Put(i64, usize, u8, bool),
    Remove(i64),
    Clear,
    /// PHP puts or removes.
    Php(i64, Option<usize>, u8),
    /// Another program makes the `next` of some chunks larger where there is room.
    Slack(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let index = || prop_oneof![8 => 0_i64..12, 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    let len = || prop_oneof![6 => 0_usize..40, 3 => 0_usize..200, 1 => 0_usize..3_000];
    prop_oneof![
        12 => (index(), len(), any::<u8>(), any::<bool>()).prop_map(|(i, l, b, o)| Step::Put(i, l, b, o)),
        3 => index().prop_map(Step::Remove),
        1 => Just(Step::Clear),
        3 => (index(), prop::option::weighted(0.8, len()), any::<u8>()).prop_map(|(i, l, b)| Step::Php(i, l, b)),
        1 => (0_usize..12, 1_u64..8).prop_map(|(n, words)| Step::Slack(n, words)),
    ]
}

/// Bytes that cannot be had although they are free or in gaps: small gaps that stay, and a small rest at the end.
fn unusable(map: &Mapping, header: &Header) -> u64 {
    let (mut at, mut lost) = (header.start, 32);
    while at < header.end {
        let chunk = Chunk::read(map, at, header.end).unwrap();
        let gap = chunk.next - chunk.needs();
        lost += if gap < 24 { gap } else { 0 };
        at = chunk.following();
    }
    lost
}

fn check(map: &Mapping, model: &Variables, before_start: &[u64]) {
    assert_eq!(&variables(map), model);
    let mut copy = Scratch::new();
    for (index, value) in model {
        assert_eq!(text(map, *index).as_ref(), Some(value));
        assert!(read::read(map, *index, &mut copy).unwrap().is_some() && read::has(map, *index).unwrap());
        assert_eq!(copy.bytes(), value);
    }
    let all = Snapshot::take(map).unwrap();
    assert_eq!(&all.iter().map(|(index, text, _)| (index, text.to_vec())).collect::<Variables>(), model);
    assert!(all.iter().all(|(_, text, offset)| map.still_is(offset, text).unwrap()));
    assert_eq!(all.iter().count(), model.len());
    assert!(!read::has(map, 99).unwrap() && read::read(map, 99, &mut copy).unwrap().is_none());
    assert_eq!(&php::snapshot(map)[5..][..before_start.len()], before_start);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_segment_is_what_a_map_is(
        size in prop_oneof![40_u64..400, 400_u64..4_000, Just(10_001_u64)],
        before in prop_oneof![3 => Just(0_u64), 1 => 1_u64..20],
        behind in prop_oneof![3 => Just(0_u64), 1 => 1_u64..100],
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let start = (40 + before * 8).min(size / 8 * 8);
        let map = segment(size, start, behind.min(size - start));
        let before_start = php::snapshot(&map)[5..start as usize / 8].to_vec();
        let mut model = Variables::new();
        for step in steps {
            let header = Header::read(&map).unwrap();
            match step {
                Step::Put(index, len, byte, often) => {
                    let value = vec![byte; len];
                    let gaps = header.end - header.start - php::needed(&map);
                    let old = model.get(&index).map_or(0, |old| own_size(old.len() as u64));
                    match put::put(&map, index, &value, often) {
                        Ok(replaced) => prop_assert_eq!(model.insert(index, value).is_some(), replaced),
                        Err(Error::Full { needed, free, .. }) => {
                            prop_assert!(needed == own_size(len as u64) && free < needed);
                            prop_assert!(needed + unusable(&map, &header) > header.free + gaps + old);
                            prop_assert_eq!(header, Header::read(&map).unwrap());
                        }
                        Err(error) => prop_assert!(false, "{}", error),
                    }
                }
                Step::Remove(index) => {
                    prop_assert_eq!(remove::remove(&map, index).unwrap(), model.remove(&index).is_some());
                }
                Step::Clear => {
                    remove::clear(&map).unwrap();
                    model.clear();
                }
                Step::Php(index, Some(len), byte) => {
                    model.remove(&index);
                    if php::put(&map, index, &vec![byte; len]) {
                        model.insert(index, vec![byte; len]);
                    }
                }
                Step::Php(index, None, _) => {
                    prop_assert_eq!(php::remove(&map, index), model.remove(&index).is_some());
                }
                Step::Slack(nth, words) => {
                    let bytes = words * 8;
                    if nth == 0 || header.free < bytes || header.end == header.start {
                        continue;
                    }
                    // The last chunk gets it.
                    let last = php::last(&map);
                    php::set(&map, last + 16, (header.end - last + bytes) as i64);
                    php::set(&map, 16, (header.end + bytes) as i64);
                    php::set(&map, 24, (header.free - bytes) as i64);
                }
            }
            check(&map, &model, &before_start);
        }
    }
}

#[test]
fn a_segment_takes_as_much_as_php_puts_into_it() {
    let map = segment(10_000, 40, 0);
    put::put(&map, 1, &[b'x'; 9_928], false).unwrap();
    assert!(matches!(put::put(&map, 2, b"", false), Err(Error::Full { needed: 32, free: 0, .. })));
    for round in 0..20_u8 {
        put::put(&map, 1, &vec![round; 9_928 - 40 * usize::from(round % 2)], round > 10).unwrap();
    }
    remove::remove(&map, 1).unwrap();
    assert_eq!(Header::read(&map).unwrap().free, 9_960);
}
