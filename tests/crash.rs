//! A process killed at each named point of the protocols, and a survivor who goes on.
//!
//! `cargo test --no-default-features --features crash-points --test crash`
#![cfg(feature = "crash-points")]

mod common;

use common::{Fresh, existing, role, role_key};
use shmvar::{Index, Key, Options, Plain, Segment};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

/// Every point, and how often the script below passes it at least.
const POINTS: &[&str] = &[
    "signing-in",
    "claimed",
    "intent-described",
    "intent-valid",
    "span-stored",
    "span-applied",
    "block-stored",
    "counted",
    "slot-busy",
    "slot-written",
    "applied",
    "intent-cleared",
    "before-release",
    "record-written",
    "span-taken",
    "span-filled",
    "retired-unpinned",
    "growing",
    "trimming",
    "pinned",
    "signed-out",
];

/// Values that tell by themselves whether they are whole: the round, repeated.
fn value(round: u64, len: usize) -> Vec<u8> {
    round.to_le_bytes().repeat(len / 8)
}

fn whole(bytes: &[u8]) -> u64 {
    let round = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == value(round, bytes.len()), "torn");
    round
}

const LENGTHS: [usize; 4] = [8, 400, 9_000, 100_000];

/// What the child does until it dies. Every operation of the crate is in it.
fn script(key: &Key) {
    for round in 0..3 {
        let segment = existing(key);
        for (i, len) in LENGTHS.iter().enumerate() {
            segment.put_bytes(i as i64, &value(round, *len)).unwrap();
            segment.put_bytes(Index::Text(&format!("text {i}")), &value(round, *len)).unwrap();
        }
        segment.get_bytes(3).unwrap();
        for i in 0..600 {
            segment.put(100_000 + round as i64 * 1_000 + i, &i).unwrap();
        }
        for i in 0..600 {
            assert!(segment.remove(100_000 + round as i64 * 1_000 + i).unwrap());
        }
        segment.put_bytes(50, &value(round, 300_000)).unwrap();
        assert!(segment.remove(50).unwrap());
        segment.trim(&Plain).unwrap();
        segment.put_bytes("come and go", &value(round, 20_000)).unwrap();
        segment.remove("come and go").unwrap();
        segment.detach();
    }
}

#[test]
#[ignore = "a role of the tests below"]
fn child() {
    if let Some(key) = role_key() {
        script(&key);
    }
}

/// Who may not write cannot repair, and reads all the same.
fn read_only(fresh: &Fresh, what: &str) {
    let options = Options { readonly: true, ..Options::default() };
    let reader = Segment::attach(fresh.key.clone(), &options).unwrap();
    for (i, len) in LENGTHS.iter().enumerate() {
        for index in [Index::Int(i as i64), Index::Text(&format!("text {i}"))] {
            let bytes = reader.get_bytes(index).unwrap_or_else(|error| panic!("{what}, read-only: {error}"));
            if let Some(bytes) = bytes {
                assert_eq!(bytes.len(), *len, "{what}: {index}");
                whole(&bytes);
            }
        }
    }
    assert_eq!(reader.get::<u64>(7_000).unwrap(), Some(7), "{what}, read-only");
    reader.indexes().unwrap();
}

/// What a survivor finds after a death, and leaves.
fn survive(fresh: &Fresh, what: &str) {
    read_only(fresh, what);
    let began = Instant::now();
    let report = fresh.segment.check().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(began.elapsed() < Duration::from_secs(5), "{what}: the survivor waited {:?}", began.elapsed());
    for (i, len) in LENGTHS.iter().enumerate() {
        for index in [Index::Int(i as i64), Index::Text(&format!("text {i}"))] {
            if let Some(bytes) = fresh.segment.get_bytes(index).unwrap() {
                assert_eq!(bytes.len(), *len, "{what}: {index}");
                whole(&bytes);
            }
        }
    }
    assert_eq!(fresh.segment.get::<u64>(7_000).unwrap(), Some(7), "{what}: a variable of nobody else's");
    assert_eq!(report.variables, fresh.segment.indexes().unwrap().len() as u64);
}

fn leave_nothing(fresh: &Fresh, what: &str) {
    fresh.segment.clear().unwrap();
    fresh.segment.trim(&Plain).unwrap();
    let report = fresh.segment.check().unwrap();
    let left = (report.variables, report.used, report.live, report.busy, report.retired);
    assert_eq!(left, (0, 0, 0, 0, 0), "{what}: something is left");
    assert_eq!(fresh.segment.info().unwrap().attached, 1, "{what}: the dead are counted");
}

#[test]
fn f1_f2_f3_killed_at_every_point_others_go_on_and_nothing_is_lost() {
    for point in POINTS {
        let mut died = 0;
        for passage in [1, 2, 3, 5, 8, 13, 21, 55, 700, 1_300] {
            let fresh = Fresh::new("crash", 8 << 20);
            fresh.segment.put(7_000, &7_u64).unwrap();
            let what = format!("{point}:{passage}");
            let status = role("child", &fresh.key, &[("SHMVAR_CRASH_AT", &what)]).wait().unwrap();
            match status.signal() {
                Some(9) => died += 1,
                _ => assert!(status.success(), "{what}: {status}"),
            }
            survive(&fresh, &what);
            leave_nothing(&fresh, &what);
            if status.signal().is_none() {
                break;
            }
        }
        assert!(died > 0, "no child passes the point {point}");
    }
}

/// The one who repairs is killed in the repair, at each point, and a third goes on.
#[test]
fn f1_killed_while_repairing_the_next_one_repairs() {
    for first in ["intent-valid", "span-stored", "slot-busy", "slot-written", "counted", "block-stored", "span-filled"]
    {
        for second in
            ["taken-over", "span-stored", "slot-busy", "counted", "applied", "intent-cleared", "burying", "claimed"]
        {
            let fresh = Fresh::new("twice", 8 << 20);
            fresh.segment.put(7_000, &7_u64).unwrap();
            let what = format!("{first}, then {second}");
            let status = role("child", &fresh.key, &[("SHMVAR_CRASH_AT", &format!("{first}:9"))]).wait().unwrap();
            assert_eq!(status.signal(), Some(9), "{what}");
            let status = role("child", &fresh.key, &[("SHMVAR_CRASH_AT", &format!("{second}:1"))]).wait().unwrap();
            assert!(status.signal() == Some(9) || status.success(), "{what}: {status}");
            survive(&fresh, &what);
            leave_nothing(&fresh, &what);
        }
    }
}

#[test]
fn f4_f24_killed_in_a_first_attach_the_next_attach_succeeds() {
    let points = ["formatted", "lock-object-published", "published", "signing-in", "claimed"];
    for (mode, point) in points.iter().flat_map(|point| [("600", point), ("644", point)]) {
        let key = Key::text(&format!("test-{}-first", std::process::id())).unwrap();
        shmvar::destroy(&key).unwrap();
        let env = [("SHMVAR_CRASH_AT", &*format!("{point}:1")), ("MODE", mode)];
        let status = role("creator", &key, &env).wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{point}");
        let segment = Segment::attach(key.clone(), &Options::default()).unwrap();
        assert_eq!(segment.created(), matches!(*point, "formatted" | "lock-object-published"), "{point}");
        segment.put(1, &1).unwrap();
        segment.check().unwrap();
        assert_eq!(segment.info().unwrap().attached, 1);
        segment.destroy().unwrap();
    }
    // Killed between publishing the second object and the segment, it leaves that one; nothing names it.
    let left = std::fs::read_dir("/dev/shm").unwrap().filter_map(|e| e.unwrap().file_name().into_string().ok());
    let orphans: Vec<String> = left.filter(|name| name.starts_with("shmvar-lock.")).collect();
    assert_eq!(orphans.len(), 1, "{orphans:?}");
    std::fs::remove_file(format!("/dev/shm/{}", orphans[0])).unwrap();
}

#[test]
#[ignore = "a role of the tests above"]
fn creator() {
    if let Some(key) = role_key() {
        let perm = u32::from_str_radix(&std::env::var("MODE").unwrap(), 8).unwrap();
        Segment::attach(key, &Options { perm, ..Options::default() }).unwrap();
    }
}
