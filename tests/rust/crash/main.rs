//! A process is killed after each store that matters for recovery, and a survivor goes on.
//!
//! `cargo test --no-default-features --features crash-points --test crash -- --nocapture` prints how many passages of
//! points each operation has.
//!
//! An operation is one entry of the table in `operations.rs`: what is prepared, and what is done. Everything else follows from
//! it. The operation is rehearsed once, to learn which crash points it passes and what the segment holds afterwards. Then, for
//! each point and passage, a new child does the same and is killed there, and `survivor.rs` checks what is left.
#![cfg(feature = "crash-points")]

#[path = "../common/mod.rs"]
mod common;

mod child;
mod drive;
mod operations;
mod stages;
mod survivor;
mod table;
mod told;

use drive::{Rehearsal, passages, rehearse, work};
use operations::{OPERATIONS, Operation};
use shmvar::{Eviction, Key};
use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// During development: `ONLY="put, span"` in the environment runs only the operations with that name.
fn only() -> Option<String> {
    std::env::var("ONLY").ok()
}

type Rehearsed = Vec<(&'static Operation, Rehearsal)>;

fn rehearsals() -> &'static Rehearsed {
    static REHEARSALS: OnceLock<Rehearsed> = OnceLock::new();
    let wanted = |operation: &&Operation| only().is_none_or(|only| operation.name.contains(&only));
    REHEARSALS.get_or_init(|| work(OPERATIONS.iter().filter(wanted).collect(), |op| (op, rehearse(op))))
}

#[test]
fn f1_f2_f3_f4_f24_killed_at_every_point_of_every_operation_others_go_on_and_nothing_is_lost() {
    let (mut seen, mut deaths) = (BTreeSet::new(), Vec::new());
    for (operation, rehearsal) in rehearsals() {
        let chosen = passages(operation, &rehearsal.passed);
        let (all, points) = (rehearsal.passed.len(), BTreeSet::from_iter(&rehearsal.passed).len());
        println!("{:<48} {points:>3} points, {all:>5} passages, killed at {}", operation.name, chosen.len());
        assert!(!chosen.is_empty(), "{} passes no point", operation.name);
        seen.extend(rehearsal.passed.iter().cloned());
        deaths.extend(chosen.into_iter().map(|passage| (operation, rehearsal, passage)));
    }
    let never: Vec<String> = table::points().into_keys().filter(|point| !seen.contains(point)).collect();
    assert!(only().is_some() || never.is_empty(), "no operation passes {never:?}");
    println!("{} deaths", deaths.len());
    work(deaths, |(operation, rehearsal, passage)| drive::kill(operation, rehearsal, &passage));
}

/// The process that repairs is killed, too: some operations are killed at each of their points (at its last passage), and after
/// each of these deaths the next process is killed at each point that it passes (at its first passage).
#[test]
fn f1_killed_while_mending_the_next_one_mends() {
    let some = rehearsals().iter().filter(|(operation, _)| !operation.pairs.is_empty());
    let deaths = some.flat_map(|(operation, rehearsal)| {
        let firsts = drive::last(operation, &rehearsal.passed).into_iter();
        firsts.map(move |first| (*operation, rehearsal, first))
    });
    let pairs = work(deaths.collect(), |(operation, rehearsal, first)| {
        let seconds = drive::once(&drive::mending(operation, &first));
        seconds.into_iter().map(|second| (operation, rehearsal, first.clone(), second)).collect::<Vec<_>>()
    });
    let pairs: Vec<_> = pairs.into_iter().flatten().collect();
    println!("{} pairs of deaths", pairs.len());
    assert!(only().is_some() || pairs.len() > 500);
    work(pairs, |(operation, rehearsal, first, (point, passage))| {
        let second = format!("{point}:{passage}");
        let died = drive::kill_twice(operation, rehearsal, &first, &second);
        assert!(died || operation.varies, "{first:?}, {second}: was not passed");
    });
}

/// After each death in the other operations one more process is killed, at a passage that varies from case to case.
#[test]
fn f1_killed_once_more_after_any_death_the_next_one_mends() {
    // Where no more fits, the process that mends evicts, too, and what is left is neither the old nor the new.
    let mends_alone = |operation: &Operation| operation.evict != Some(Eviction::Ttl);
    let others = rehearsals().iter().filter(|(operation, _)| !operation.pairs.contains(&"") && mends_alone(operation));
    let deaths = others.flat_map(|(operation, rehearsal)| {
        let firsts = passages(operation, &rehearsal.passed).into_iter();
        firsts.map(move |first| (*operation, rehearsal, first))
    });
    let died = AtomicUsize::new(0);
    let deaths: Vec<_> = deaths.enumerate().collect();
    let all = deaths.len();
    work(deaths, |(number, (operation, rehearsal, first))| {
        let second = format!("*:{}", 1 + number * 7 % 40);
        died.fetch_add(usize::from(drive::kill_twice(operation, rehearsal, &first, &second)), Ordering::Relaxed);
    });
    let died = died.into_inner();
    println!("{died} second deaths after {all} first ones");
    assert!(died > all * 9 / 10, "{died} of {all}");
}

/// A process that reaps is killed after it cleared the marks of pins: the next one still knows that a sweep is due.
#[test]
fn f1_what_only_the_dead_held_is_freed_although_the_first_process_that_reaped_them_died() {
    let fresh = common::Fresh::new("crash-sweep", 64 << 20);
    let end = |operation, order| child::start(operation, &fresh.key, order).finish().0;
    assert_eq!(end("drop the last view of a span that was replaced", Some("unpinned:1")), child::End::Killed);
    assert_eq!(fresh.segment.check().unwrap().retired, 1);
    assert_eq!(end("attach, later", Some("pin-units-cleared:1")), child::End::Killed);
    fresh.segment.check().unwrap();
    let mut last = child::start("attach, later", &fresh.key, None);
    last.when_ready(|| ());
    last.finish();
    assert_eq!(fresh.segment.check().unwrap().retired, 0);
}

/// Second objects that no segment names. Other tests make and remove some at the same time.
fn orphans() -> BTreeSet<String> {
    let names = |prefix: &str| -> Vec<String> {
        let entries = std::fs::read_dir("/dev/shm").unwrap();
        let names = entries.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        names.filter(|name| name.starts_with(prefix)).collect()
    };
    let objects = names("shmvar-lock.");
    let id = |name: String| {
        std::fs::File::open(format!("/dev/shm/{name}")).and_then(|file| {
            let mut id = [0; 16];
            file.read_exact_at(&mut id, 24).map(|()| format!("shmvar-lock.{:032x}", u128::from_be_bytes(id)))
        })
    };
    let named: BTreeSet<String> = names("shmvar.").into_iter().filter_map(|name| id(name).ok()).collect();
    objects.into_iter().filter(|name| !named.contains(name)).collect()
}

#[test]
fn f24_a_second_object_that_no_segment_names_goes_with_the_next_attach_that_makes_one_or_destroy() {
    let name = |role: &str| Key::text(&format!("test-{}-orphan-{role}", std::process::id())).unwrap();
    let (dying, other) = (name("dying"), name("other"));
    let stays_orphan = |before: &BTreeSet<String>| {
        let now = orphans();
        before.iter().filter(|name| now.contains(*name)).cloned().collect::<Vec<_>>()
    };
    for (operation, order) in [
        ("attach, first, with a second object", "lock-object-published:1"),
        ("destroy, with a second object", "unlinked:1"),
    ] {
        let die = || {
            if operation.starts_with("destroy") {
                child::attach(&dying, 0o644);
            }
            let before = orphans();
            assert_eq!(child::start(operation, &dying, Some(order)).finish().0, child::End::Killed);
            let left: BTreeSet<String> = orphans().difference(&before).cloned().collect();
            Some(left).filter(|left| !left.is_empty())
        };
        // Repeated in case another test has already removed it.
        let left = (0..20).find_map(|_| die()).unwrap_or_default();
        assert!(!left.is_empty(), "{operation}, {order}: nothing is left to be removed");
        // Made beside others, and removed. Again, should another test have had a file there that nobody can read yet.
        let began = Instant::now();
        loop {
            let segment = child::attach(&other, 0o644);
            let last = child::attach(&other, 0o644);
            let stay = stays_orphan(&left);
            segment.put(1, &1).unwrap();
            last.destroy().unwrap();
            if stay.is_empty() {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{operation}, {order}: {stay:?}");
        }
        shmvar::destroy(&dying).unwrap();
    }
}
