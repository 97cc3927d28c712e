//! A writer against readers that take no lock: this package's, and PHP's.

use super::php::segment;
use crate::os::mem::Scratch;
use crate::os::sysv_shm::Mapping;
use crate::php::{put, read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The variable that is replaced all the time.
const HOT: i64 = 5;

/// A text whose bytes tell whether it is whole.
fn value(round: u64, sizes: u64) -> Vec<u8> {
    vec![round as u8; 24 + (round % sizes) as usize * 8]
}

/// What a reader has seen.
#[derive(Debug, Default)]
struct Seen {
    good: u64,
    torn: u64,
    missing: u64,
    refused: u64,
}

impl Seen {
    fn count(&mut self, text: Option<&[u8]>) {
        match text {
            None => self.missing += 1,
            Some(text) if text.len() >= 24 && text.iter().all(|byte| *byte == text[0]) => self.good += 1,
            Some(_) => self.torn += 1,
        }
    }
}

/// Reads as PHP does: `start` and `end` once, then the chain, then the text, which it parses where it is.
fn php_reads(map: &Mapping) -> Option<Vec<u8>> {
    let load = |at: u64| Some(map.words().get(at as usize / 8)?.load(Ordering::Relaxed));
    let (start, end) = (load(8)?, load(16)?);
    let mut at = start;
    while at < end {
        if load(at)? as i64 == HOT {
            let length = load(at + 8)?.min(1_000);
            return (0..length).map(|i| Some((load(at + 24 + (i & !7))? >> (i % 8 * 8)) as u8)).collect();
        }
        let next = load(at + 16)?;
        at += next;
        if next as i64 <= 0 || at < start {
            return None;
        }
    }
    None
}

/// How often this thread has been made to stand still.
fn standstills() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let counts = text.lines().filter(|line| line.contains("ctxt_switches"));
    counts.map(|line| line.rsplit('\t').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Lets one thread put for a while, and another one read with `look`. Returns also how often one of them stood still.
fn run(sizes: u64, look: impl Fn(&Mapping, &mut Seen) + Sync) -> (u64, Seen, u64) {
    let map = segment(1 << 20, 40, 0);
    for index in 0..10 {
        put::put(&map, index, &value(1, 1), false).unwrap();
    }
    for round in 0..20 {
        put::put(&map, HOT, &value(round, sizes), true).unwrap();
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut seen, before) = (Seen::default(), standstills());
            while !over.load(Ordering::Relaxed) {
                look(&map, &mut seen);
            }
            (seen, standstills() - before)
        });
        let before = standstills();
        let (end, mut puts) = (Instant::now() + Duration::from_millis(400), 0);
        while puts % 256 != 0 || Instant::now() < end {
            put::put(&map, HOT, &value(puts, sizes), true).unwrap();
            puts += 1;
        }
        over.store(true, Ordering::Relaxed);
        let mine = standstills() - before;
        let (seen, theirs) = reader.join().unwrap();
        (puts, seen, mine + theirs)
    })
}

#[test]
fn a_reader_without_a_lock_gets_whole_texts() {
    for sizes in [1, 6] {
        let (puts, seen, stood) = run(sizes, |map, seen| {
            let mut copy = Scratch::new();
            match read::read(map, HOT, &mut copy) {
                Ok(found) => seen.count(found.map(|_| copy.bytes())),
                Err(_) => seen.refused += 1,
            }
        });
        println!("{sizes} sizes, {puts} puts, this package: {seen:?}, {stood} standstills");
        // It is wrong only if the writer stands still in the middle of a text, where the reader was just before.
        assert!(seen.good > 0 && seen.torn <= stood && seen.missing == 0, "{seen:?}, {stood} standstills");
        let (puts, seen, _) = run(sizes, |map, seen| seen.count(php_reads(map).as_deref()));
        println!("{sizes} sizes, {puts} puts, PHP: {seen:?}");
        assert!(seen.good > 100 * (seen.torn + seen.missing), "{seen:?}");
    }
}
