//! A segment in which any byte may be anything: every call gives data or a typed error, in bounded time and memory, without a
//! signal, a panic or an access out of bounds (F28, F29, F30, F31).
//!
//! All calls are made in child processes: the parent sees a signal, a failed assertion, memory beyond the limit and a call that
//! does not end as a child that did not end well.

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod claims;
mod fields;
mod image;
mod scribble;
mod shapes;

use calls::{Calls, Tally};
use fields::Chance;
use image::Image;
use shmvar::Key;
use shmvar::format::at;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The longest that one damaged segment may take: some calls wait 20 ms for a lock that a process seems to hold.
const CASE: Duration = Duration::from_secs(20);
/// Private memory of a child.
const MEMORY: u64 = 1 << 30;
/// The memory that a damaged segment itself may take.
const GROWTH: u64 = 48 << 20;

/// The case that runs, for the watchdog.
static NOW: Mutex<Option<(String, Instant)>> = Mutex::new(None);

/// For all the tests of this program together; each case has a watchdog of its own.
fn watch() {
    common::watchdog(Duration::from_secs(1_800));
}

fn guard() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // A memory checker keeps far more for itself than the limit.
    if std::env::var_os("ASAN_OPTIONS").is_none() {
        setrlimit(Resource::Data, Rlimit { current: Some(MEMORY), ..getrlimit(Resource::Data) }).unwrap();
    }
    setrlimit(Resource::Core, Rlimit { current: Some(0), ..getrlimit(Resource::Core) }).unwrap();
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            if let Some((case, since)) = &*NOW.lock().unwrap() {
                if since.elapsed() > CASE {
                    eprintln!("{case}: still at it after {:?}", since.elapsed());
                    std::process::abort();
                }
            }
        }
    });
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        eprintln!("in the case: {:?}", NOW.lock().map(|now| now.clone()));
    }));
}

/// Makes every call on one damaged segment. `late`: the damage comes after handles were attached.
fn case(what: &str, image: &Image, edits: &[(u64, u64)], late: bool, tally: &mut Tally) {
    *NOW.lock().unwrap() = Some((format!("{what}, late: {late}"), Instant::now()));
    let mut calls = Calls::new(tally);
    let mut damaged = image.clone();
    for (offset, value) in edits {
        damaged.set(*offset, *value);
    }
    let file = if late { image.lay() } else { damaged.lay() };
    let (writer, reader) = (calls.attach(image, false), calls.attach(image, true));
    if late {
        for (offset, value) in edits {
            std::os::unix::fs::FileExt::write_all_at(&file, &value.to_le_bytes(), *offset).unwrap();
        }
    }
    if let Some(reader) = &reader {
        calls.read(reader);
    }
    if let Some(writer) = &writer {
        calls.read(writer);
        calls.write(writer);
        calls.tidy(writer);
    }
    drop((writer, reader));
    if let Some(again) = calls.attach(image, false) {
        calls.destroy(&again);
    }
    shmvar::segments().unwrap();
    let grown = (file.metadata().unwrap().blocks() * 512).saturating_sub(image.bytes());
    assert!(grown < GROWTH, "{what}: the segment came to take {grown} bytes more");
    assert!(calls.wrong.is_empty(), "{what}, late: {late}: {:?}", calls.wrong);
    *NOW.lock().unwrap() = None;
}

/// Starts this program again in a role, for one half of the work; its output is parsed at its end.
fn half(role: &str, number: u32, env: &[(&str, String)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", role, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("SHMVAR_TEST_KEY", format!("test-{}-{role}-{number}", std::process::id()));
    command.env("HALF", number.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
    command.envs(env.iter().map(|(name, value)| (name, value))).spawn().unwrap()
}

/// What a child left that did not end well.
fn clean_up(key: &str) {
    for entry in std::fs::read_dir("/dev/shm").unwrap().flatten() {
        if entry.file_name().to_string_lossy().contains(key) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Runs both halves; returns how many damaged segments they met.
fn both(role: &str, env: &[(&str, String)]) -> u64 {
    let halves = [0, 1].map(|number| half(role, number, env));
    let mut total = 0;
    for (number, mut child) in halves.into_iter().enumerate() {
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let status = child.wait().unwrap();
        clean_up(&format!("test-{}-{role}-{number}", std::process::id()));
        assert!(status.success(), "{role}: {status}\n{text}");
        let line =
            text.lines().find_map(|line| line.strip_prefix("damaged segments: ")).unwrap_or_else(|| panic!("{text}"));
        println!("{line}");
        total += line.split(' ').next().unwrap().parse::<u64>().unwrap();
    }
    total
}

/// What a half does: its share of the cases, and the count at its end.
fn play(cases: impl FnOnce(&Image, &mut dyn FnMut(&str, &Image, &[(u64, u64)], bool))) {
    let Ok(text) = std::env::var("SHMVAR_TEST_KEY") else { return };
    let half: u64 = std::env::var("HALF").unwrap().parse().unwrap();
    // A memory checker is slow: then one role is run by itself, with a smaller part of the cases.
    let parts: u64 = std::env::var("PARTS").map_or(2, |text| text.parse().unwrap());
    // While looking for a fault: only the cases with this name.
    let only = std::env::var("ONLY").ok();
    guard();
    let image = Image::take(&Key::text(&text).unwrap(), 470);
    let (mut tally, mut number, mut done, mut failed) = (Tally::new(), 0, 0, Vec::new());
    cases(&image, &mut |what, image, edits, late| {
        number += 1;
        if number % parts == half && only.as_ref().is_none_or(|only| what.contains(only)) {
            // A panic is a failure; the other cases still run.
            let one = std::panic::AssertUnwindSafe(|| case(what, image, edits, late, &mut tally));
            if std::panic::catch_unwind(one).is_err() {
                failed.push(format!("{what}, late: {late}"));
            }
            let _ = std::fs::remove_file(format!("/dev/shm/{}", image.name));
            done += 1;
        }
    });
    println!("\ndamaged segments: {done} {tally:?}");
    assert!(failed.is_empty(), "{} failed: {:#?}", failed.len(), &failed[..failed.len().min(20)]);
    assert!(only.is_some() || tally["data"] > done && tally["corrupt"] > done / 20, "{tally:?}");
}

#[test]
#[ignore = "a role of the tests below"]
fn every_field() {
    play(|quiet, run| {
        let (pending, set) = (quiet.pending(), quiet.pending_set());
        let (batch, doomed) = (quiet.batch(), quiet.doomed());
        let mut all = fields::of(quiet);
        all.retain(|field| field.part != "doomed");
        all.extend(fields::of(&doomed).into_iter().filter(|field| field.part == "doomed"));
        for field in &all {
            let image = match field.part {
                "intent" => &pending,
                "set" => &set,
                "batch" => &batch,
                "doomed" => &doomed,
                _ => quiet,
            };
            let other = image.word(all[(field.offset / 8 % 97) as usize].offset);
            for (i, value) in fields::values(image, field, other).into_iter().enumerate() {
                let what = format!("{} {} at {}: {value:#x}", field.part, field.name, field.offset);
                // Two by two: each half of the work has both.
                run(&what, image, &[(field.offset, value)], i / 2 % 2 == 0);
            }
        }
        // Only the segment knows which wake word belongs to which index, so all of them.
        for (i, value) in [0, 1, u64::MAX, 1 << 32, 3 << 32 | 0xffff_ffff, 1 << 63, 1 << 31].into_iter().enumerate() {
            for part in [0, 8] {
                let edits: Vec<_> = (0..256).map(|number| (at::WAKE + number * 16 + part, value)).collect();
                run(&format!("all wake words: {value:#x}"), quiet, &edits, i % 2 == 0);
            }
        }
        // An identity with a right check, as an attacker would make it.
        for field in all.iter().filter(|field| field.part == "identity" && field.offset < 240) {
            for value in fields::values(quiet, field, 5) {
                let mut signed = quiet.clone();
                signed.set(field.offset, value);
                signed.sign();
                run(&format!("signed {}: {value:#x}", field.name), &signed, &[], false);
            }
        }
    });
}

#[test]
#[ignore = "a role of the tests below"]
fn every_shape() {
    play(|quiet, run| {
        for (name, image) in [("quiet", quiet.clone()), ("doomed", quiet.doomed())] {
            for (i, (what, edits)) in shapes::all(&image).into_iter().enumerate() {
                run(&format!("{name}, {what}"), &image, &edits, i / 2 % 2 == 0);
            }
        }
    });
}

#[test]
#[ignore = "a role of the tests below"]
fn random_edits() {
    play(|quiet, run| {
        let (pending, set) = (quiet.pending(), quiet.pending_set());
        let (batch, doomed) = (quiet.batch(), quiet.doomed());
        let all = fields::of(&doomed);
        for seed in seeds(3_000) {
            let mut chance = Chance(seed);
            let image = [quiet, quiet, &pending, &set, &batch, &doomed][chance.below(6)];
            let edits = fields::at_random(image, &all, &mut chance);
            run(&format!("seed {seed}"), image, &edits, seed / 2 % 2 == 0);
        }
    });
}

/// Seeds are the same in each run, so that a failure repeats; `SHMVAR_SEED` gives others.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let first = std::env::var("SHMVAR_SEED").map_or(1, |text| text.parse().unwrap());
    first..first + count
}

#[test]
fn f28_f29_f30_f31_ten_thousand_damaged_segments_are_data_or_typed_errors() {
    watch();
    // All at the same time: many of the calls wait for a lock that nobody holds.
    let roles = ["every_field", "every_shape", "random_edits"];
    let total: u64 = std::thread::scope(|scope| {
        let runs = roles.map(|role| scope.spawn(|| both(role, &[])));
        runs.map(|run| run.join().expect("the role has said what failed")).iter().sum()
    });
    println!("{total} damaged segments, no signal");
    assert!(total > 10_000, "{total}");
}
