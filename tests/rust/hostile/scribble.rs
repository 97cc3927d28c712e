//! A second process overwrites random words all the time while this one uses the segment.

use crate::calls::{Calls, Tally};
use crate::fields::{self, Chance};
use crate::image::{Image, place};
use crate::{NOW, guard, seeds};
use shmvar::Key;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: u64 = 6;
const ROUND: Duration = Duration::from_millis(900);
/// A segment that takes so many bytes is replaced by a new one.
const MUCH: u64 = 256 << 20;

fn again(role: &str, key: &str, seed: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", role, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("SHMVAR_TEST_KEY", key).env("SEED", seed.to_string()).stdin(Stdio::null());
    command
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "a role of the test below"]
fn scribbler() {
    let Some(key) = crate::common::role_key() else { return };
    let name = std::env::var("NAME").unwrap();
    let file = std::fs::File::options().read(true).write(true).open(format!("/dev/shm/{name}")).unwrap();
    let image = Image::read(&name, &key);
    println!("\nat it");
    let all = fields::of(&image);
    let mut chance = Chance(std::env::var("SEED").unwrap().parse().unwrap());
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        for _ in 0..1_000 {
            let field = &all[chance.below(all.len())];
            // Seldom: while the lock seems held, calls only wait for it, and a damaged identity lets no call open the segment.
            let special = field.offset == place::LOCK || field.part == "identity";
            let sound = image.word(field.offset);
            // Some words are restored: otherwise no call would get far.
            let value = match chance.below(if special { 400 } else { 3 }) {
                0 => fields::value_at_random(&image, &all, sound, &mut chance),
                _ => sound,
            };
            file.write_all_at(&value.to_le_bytes(), field.offset).unwrap();
        }
    }
}

#[test]
#[ignore = "a role of the test below"]
fn user() {
    let Some(Key::Text(text)) = crate::common::role_key() else { return };
    guard();
    let image = Image::take(&Key::text(&text).unwrap(), 470);
    let (mut tally, mut loops) = (Tally::new(), 0);
    let first: u64 = std::env::var("SEED").unwrap().parse().unwrap();
    for seed in first..first + ROUNDS {
        let file = match seed % 4 {
            0 => image.lay(),
            1 => image.pending().lay(),
            2 => image.pending_set().lay(),
            _ => image.batch().lay(),
        };
        let mut calls = Calls::new(&mut tally);
        let (first_writer, first_reader) = (calls.attach(&image, false), calls.attach(&image, true));
        let mut child = again("scribble::scribbler", &text, seed);
        let mut scribbler = Ends(child.env("NAME", &image.name).stdout(Stdio::piped()).spawn().unwrap());
        let mut said = std::io::BufReader::new(scribbler.0.stdout.take().unwrap());
        while { std::io::BufRead::read_line(&mut said, &mut String::new()).unwrap() } > 1 {}
        let began = Instant::now();
        while began.elapsed() < ROUND && file.metadata().unwrap().blocks() * 512 < MUCH {
            *NOW.lock().unwrap() = Some((format!("seed {seed}, scribbled on"), Instant::now()));
            let mut calls = Calls::new(&mut tally);
            // The first handles stay; others come and go.
            let (writer, reader) = (calls.attach(&image, false), calls.attach(&image, true));
            let (writer, reader) =
                (writer.as_ref().or(first_writer.as_ref()), reader.as_ref().or(first_reader.as_ref()));
            if let Some(reader) = reader {
                calls.read(reader);
            }
            if let Some(writer) = writer {
                calls.write(writer);
                calls.read(writer);
                calls.tidy(writer);
            }
            assert!(calls.wrong.is_empty(), "seed {seed}: {:?}", calls.wrong);
            loops += 1;
        }
        *NOW.lock().unwrap() = None;
        drop(scribbler);
        std::fs::remove_file(format!("/dev/shm/{}", image.name)).unwrap();
    }
    println!("\nscribbled on: {loops} times every call: {tally:?}");
    assert!(loops >= ROUNDS && tally["data"] > 100 && tally["corrupt"] > 100, "{tally:?}");
}

#[test]
fn f28_f30_every_call_ends_well_while_another_process_scribbles_over_the_segment() {
    crate::watch();
    let key = format!("test-{}-scribble", std::process::id());
    let status = again("scribble::user", &key, seeds(1).start).status().unwrap();
    crate::clean_up(&key);
    assert!(status.success(), "{status}");
}
