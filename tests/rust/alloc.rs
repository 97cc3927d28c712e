//! Each allocation of each call fails in turn. The call must return `Error::Memory` or succeed; in both cases the segment is
//! sound, and after an error it is unchanged.
//!
//! Only large allocations fail: those whose size grows with a segment, a value, an argument, or a number of items. What is
//! smaller than [`SMALL`] is an index, the text of an error, an `Arc`.
// The extension module has an allocator of its own.
#![cfg(not(feature = "python"))]

use shmvar::{AsCoordination, Changes, Error, Index, IndexBuf, Key, Number, Options, Segment, Step};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

/// Allocations of at least this size may fail: the longest index with its expiry is shorter.
const SMALL: usize = 1_100;

thread_local! {
    /// How many large allocations of this thread succeed before one fails; negative: none fails.
    static LEFT: Cell<i64> = const { Cell::new(-1) };
}

struct Failing;

fn fails(size: usize) -> bool {
    size >= SMALL
        && LEFT
            .try_with(|left| {
                let now = left.get();
                left.set(now - 1);
                now == 0
            })
            .unwrap_or(false)
}

// SAFETY: the system's allocator, which may refuse.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if fails(layout.size()) { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if fails(layout.size()) { std::ptr::null_mut() } else { unsafe { System.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        if fails(size) { std::ptr::null_mut() } else { unsafe { System.realloc(old, layout, size) } }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// Runs a call in which the large allocation with this number fails. False: the call makes fewer.
fn failing<T>(number: i64, call: impl FnOnce() -> T) -> (T, bool) {
    LEFT.set(number);
    let outcome = call();
    let failed = LEFT.replace(-1) < 0;
    (outcome, failed)
}

const INTS: i64 = 1_500;
const TEXTS: i64 = 600;
const LARGE: i64 = 150;

fn text(number: i64) -> String {
    format!("a text that names variable {number:040}")
}

/// Many of each kind.
fn fill(segment: &Segment) {
    for number in 0..INTS {
        segment.put(number, &number).unwrap();
    }
    for number in 0..TEXTS {
        let value = vec![number as u8; if number % 10 == 0 { 2_000 } else { 90 }];
        segment.put_bytes(&*text(number), &value).unwrap();
        if number % 10 == 1 {
            segment.put_for(&*text(number), &number, Duration::from_secs(10_000)).unwrap();
        }
    }
    for number in 0..LARGE {
        segment.put_bytes(1_000_000 + number, &vec![number as u8; 20_000]).unwrap();
    }
}

type Contents = Vec<(shmvar::IndexBuf, u64, Option<Vec<u8>>)>;

fn contents(segment: &Segment) -> Contents {
    let mut all = segment.indexes().unwrap();
    all.sort();
    let value = |index: &shmvar::IndexBuf| segment.get_pickle(&index.as_index(), &shmvar::Blocking).unwrap();
    all.into_iter().map(|i| (i.clone(), segment.version(i.as_index()).unwrap(), value(&i))).collect()
}

/// Free memory between values.
fn scatter(segment: &Segment) {
    for number in (0..TEXTS).filter(|number| number % 7 > 0) {
        segment.remove(&*text(number)).unwrap();
    }
    for number in (0..LARGE).filter(|number| number % 3 > 0) {
        segment.remove(1_000_000 + number).unwrap();
    }
}

struct Case<'a> {
    name: &'a str,
    before: fn(&Segment),
    call: &'a dyn Fn(&Segment) -> shmvar::Result<()>,
    /// The call changes something.
    changes: bool,
}

/// A segment that is filled again after each call that changed it.
fn try_each(case: &Case<'_>, options: &Options) -> u32 {
    let key = Key::text(&format!("alloc-{}-{}", std::process::id(), case.name)).unwrap();
    let make = || {
        let segment = Segment::attach(key.clone(), &Options::default()).unwrap();
        fill(&segment);
        (case.before)(&segment);
        segment
    };
    let (mut owner, mut failures) = (make(), 0);
    let mut number = 0;
    loop {
        let before = contents(&owner);
        let segment = if options.readonly { &Segment::attach(key.clone(), options).unwrap() } else { &owner };
        eprintln!("{}: large allocation {number} fails", case.name);
        let (outcome, failed) = failing(number, || (case.call)(segment));
        match &outcome {
            Err(Error::Memory { asked, what }) => {
                assert!(failed && *asked >= SMALL as u64 && !what.is_empty(), "{}: {asked} {what}", case.name);
                failures += 1;
            }
            Err(error) => panic!("{}, allocation {number}: {error}", case.name),
            Ok(()) => {}
        }
        let report = owner.check().unwrap();
        assert_eq!((report.locks, report.busy, report.dead), (0, 0, 0), "{}, allocation {number}", case.name);
        if outcome.is_err() || !case.changes {
            assert!(contents(&owner) == before, "{}, allocation {number}: something changed", case.name);
        } else {
            owner.destroy().unwrap();
            owner.detach();
            owner = make();
        }
        if !failed {
            outcome.unwrap();
            break;
        }
        // Each of the first allocations; after those, loops repeat themselves.
        number += 1 + number / 16;
        assert!(number < 10_000, "{} allocates without end", case.name);
    }
    owner.destroy().unwrap();
    failures
}

/// Existing and new indexes, of both kinds.
fn many(segment: &Segment, count: i64, len: usize) -> shmvar::Result<()> {
    let (texts, pickle) = prepared(|| {
        let texts: Vec<String> = (0..count).map(|number| text(number + TEXTS - count / 2)).collect();
        (texts, [&b"\x80\x05"[..], &vec![b'N'; len], b"."].concat())
    });
    let ints = (INTS - count..INTS + count).map(Index::Int);
    let items = ints.chain(texts.iter().map(|text| Index::Text(text)));
    let items: Vec<(Index<'_>, &[u8])> = prepared(|| items.map(|index| (index, &*pickle)).collect());
    segment.put_many_pickles(&items)
}

/// The allocations of `prepare` belong to the test and do not fail.
fn prepared<T>(prepare: impl FnOnce() -> T) -> T {
    let left = LEFT.replace(-1);
    let made = prepare();
    LEFT.set(left);
    made
}

#[test]
fn every_large_allocation_of_every_call_may_fail() {
    let nothing = |_: &Segment| {};
    let cases = [
        Case { name: "put", before: nothing, changes: true, call: &|s| s.put_bytes(5, &[7; 100]) },
        Case {
            name: "put-large",
            before: nothing,
            changes: true,
            call: &|s| {
                static VALUE: [u8; 300_000] = [7; 300_000];
                s.put_bytes("a large one", &VALUE)
            },
        },
        Case {
            name: "in-place",
            before: nothing,
            changes: true,
            call: &|s| s.shared_bytes("in place", 300_000).map(drop),
        },
        Case { name: "touch", before: nothing, changes: true, call: &|s| s.touch(&*text(10)).map(drop) },
        Case {
            name: "get-large",
            before: nothing,
            changes: false,
            call: &|s| s.get_bytes(1_000_001).map(|bytes| assert_eq!(bytes.unwrap().len(), 20_000)),
        },
        Case {
            name: "get-record",
            before: nothing,
            changes: false,
            call: &|s| s.get_bytes(&*text(10)).map(|bytes| assert_eq!(bytes.unwrap().len(), 2_000)),
        },
        Case { name: "remove", before: nothing, changes: true, call: &|s| s.remove(&*text(10)).map(drop) },
        Case { name: "put-many", before: nothing, changes: true, call: &|s| many(s, 500, 100) },
        Case { name: "put-many-large", before: nothing, changes: true, call: &|s| many(s, 10, 20_000) },
        Case {
            name: "get-many",
            before: nothing,
            changes: false,
            call: &|s| {
                let texts: Vec<String> = prepared(|| (0..TEXTS).map(text).collect());
                let large = (0..LARGE).map(|number| Index::Int(1_000_000 + number));
                let all = (0..INTS).map(Index::Int).chain(texts.iter().map(|t| Index::Text(t))).chain(large);
                let all: Vec<Index<'_>> = prepared(|| all.collect());
                let values = s.get_many_pickles(&all)?;
                assert!(values.iter().all(Option::is_some));
                Ok(())
            },
        },
        Case {
            name: "indexes",
            before: nothing,
            changes: false,
            call: &|s| s.indexes().map(|all| assert_eq!(all.len() as i64, INTS + TEXTS + LARGE)),
        },
        Case { name: "check", before: scatter, changes: false, call: &|s| s.check().map(drop) },
        Case { name: "clear", before: nothing, changes: true, call: &|s| s.clear() },
        Case { name: "trim", before: scatter, changes: false, call: &|s| s.trim(&shmvar::Blocking) },
        Case { name: "resize", before: nothing, changes: true, call: &|s| s.resize(1 << 28, &shmvar::Blocking) },
        Case { name: "info", before: nothing, changes: false, call: &|s| s.info().map(drop) },
        Case { name: "len", before: nothing, changes: false, call: &|s| s.len().map(drop) },
        Case { name: "stat", before: nothing, changes: false, call: &|s| s.stat(1_000_001).map(drop) },
        Case { name: "stat-text", before: nothing, changes: false, call: &|s| s.stat(&*text(10)).map(drop) },
        Case { name: "add", before: nothing, changes: true, call: &|s| s.add("counter", Number::Int(1)).map(drop) },
        Case {
            name: "wait",
            before: nothing,
            changes: false,
            call: &|s| s.wait(&*text(10), None, Some(Duration::from_millis(1))).map(drop),
        },
        Case {
            name: "wait-any",
            before: nothing,
            changes: false,
            call: &|s| {
                let all: Vec<_> = prepared(|| (0..300).map(|n| (Index::Int(n), None)).collect());
                s.wait_any(&all, Some(Duration::from_millis(1))).map(drop)
            },
        },
        Case {
            name: "changes",
            before: nothing,
            changes: false,
            call: &|s| {
                let att = s.attachment()?;
                let known = prepared(|| (0..300).map(|number| (IndexBuf::Text(text(number)), 1 << 40)).collect());
                let mut changes = Changes::since(att.coordination(), known, None)?;
                let mut told = prepared(Vec::new);
                let mut take = || loop {
                    match att.coordination().step_changes(&mut changes, true, None, &shmvar::Blocking)? {
                        Step::Change(index, version) => prepared(|| told.push((index, version))),
                        _ => return Ok(()),
                    }
                };
                let outcome = take();
                if outcome.is_err() {
                    // A round that failed has told nothing, and the next one tells all of it.
                    prepared(take)?;
                }
                assert_eq!(told.len() as i64, INTS + TEXTS + LARGE);
                outcome
            },
        },
        Case {
            name: "changes-from-now",
            before: nothing,
            changes: false,
            call: &|s| {
                let att = s.attachment()?;
                Changes::from_now(att.coordination(), None, &shmvar::Blocking).map(drop)
            },
        },
        Case {
            name: "locks",
            before: nothing,
            changes: false,
            call: &|s| {
                let mut guards = prepared(|| Vec::with_capacity(300));
                let names: Vec<String> = prepared(|| (0..300).map(|number| "n".repeat(200) + &text(number)).collect());
                for name in &names {
                    guards.push(s.lock(&**name, None)?);
                }
                s.info().map(drop)
            },
        },
        Case {
            name: "detach",
            before: nothing,
            changes: false,
            call: &|s| {
                let other = prepared(|| Segment::attach(s.key().clone(), &Options::default()).unwrap());
                let _guards: Vec<_> = prepared(|| (0..100).map(|number| other.lock(number, None).unwrap()).collect());
                other.detach();
                Ok(())
            },
        },
    ];
    let mut met = Vec::new();
    for case in &cases {
        met.push((case.name, try_each(case, &Options::default())));
    }
    let readonly = Options { readonly: true, ..Options::default() };
    let of = |name: &str| cases.iter().find(|case| case.name == name).unwrap();
    for name in ["get-large", "get-record", "get-many", "indexes", "check", "info", "len", "stat"] {
        met.push((name, try_each(of(name), &readonly)));
    }
    eprintln!("{met:?}");
    // Calls that are known to allocate did meet a failure.
    for name in ["get-large", "put-many", "get-many", "indexes", "check", "trim", "locks"] {
        assert!(met.iter().any(|(other, failures)| *other == name && *failures > 0), "{name} allocates nothing");
    }
}
