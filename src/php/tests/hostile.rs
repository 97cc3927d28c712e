//! Damaged segments: every call ends with a value or an error, and what is refused has stored nothing.

use super::php::{self, Random, restore, segment, snapshot};
use crate::os::mem::Scratch;
use crate::php::layout::PREPARED;
use crate::php::variables::Snapshot;
use crate::php::{own_size, put, read, remove};
use std::sync::atomic::Ordering;

#[test]
fn no_bytes_make_a_call_panic() {
    let mut random = Random(4);
    let (mut values, mut errors) = (0, 0);
    for round in 0..24_000 {
        let map = segment(40 + random.below(500), 40, 0);
        for index in 0..random.below(8) as i64 {
            let _ = put::put(&map, index, &vec![7; random.below(60) as usize], round % 2 == 0);
        }
        let words = map.words().len() as u64;
        for _ in 0..1 + random.below(3) {
            let offset = if random.below(2) == 0 { random.below(words.min(12)) } else { random.below(words) } * 8;
            let near = map.words()[offset as usize / 8].load(Ordering::Relaxed) as i64;
            let number = match random.below(6) {
                0 => random.below(u64::MAX) as i64,
                1 => near.wrapping_add(8 * (random.below(9) as i64 - 4)),
                2 => near ^ 1 << random.below(64),
                3 => [i64::MIN, i64::MIN + 1, i64::MIN + 2, i64::MAX, -1, 0, i64::MAX & !7][random.below(7) as usize],
                4 => random.below(600) as i64,
                _ => 8 * random.below(80) as i64,
            };
            php::set(&map, offset, number);
        }
        if random.below(8) == 0 && map.size() >= 136 {
            // A put was killed, and `free` is what PHP leaves between two stores.
            let length = php::get(&map, 48).clamp(0, 60) as u64;
            php::set(&map, 40, PREPARED);
            php::set(&map, 40 + own_size(length) - 8, random.below(60) as i64);
            php::set(&map, 24, php::get(&map, 24).wrapping_add(random.below(2) as i64 * 64));
        }
        let damaged = snapshot(&map);
        let mut copy = Scratch::new();
        let mut end = |is_ok: bool| if is_ok { values += 1 } else { errors += 1 };
        end(read::read(&map, random.below(8) as i64, &mut copy).is_ok());
        end(read::has(&map, 77).is_ok());
        end(Snapshot::take(&map).is_some_and(|all| all.iter().map(|(_, text, _)| text.len()).sum::<usize>() < 600));
        for len in [4, random.below(500) as usize] {
            for index in [random.below(8) as i64, 50] {
                let is_ok = put::put(&map, index, &vec![1; len], round % 3 == 0).is_ok();
                end(is_ok);
                assert!(
                    is_ok || snapshot(&map) == damaged,
                    "round {round}: a put was refused and has stored something"
                );
                restore(&map, &damaged);
            }
        }
        let removed = remove::remove(&map, random.below(8) as i64);
        end(removed.is_ok());
        let refused = !matches!(removed, Ok(true));
        assert!(!refused || snapshot(&map) == damaged, "round {round}: nothing was removed and something was stored");
        restore(&map, &damaged);
        end(remove::clear(&map).is_ok());
    }
    println!("{values} values, {errors} errors");
    assert!(values > 24_000 && errors > 24_000);
}
