//! The process that dies: it does an operation up to the crash point that it was told.

use crate::common::{existing, role_key};
use crate::operations::{Begins, OPERATIONS};
use shmvar::{Index, Key, LockGuard, Options, PinnedValue, Segment, SharedBytes, crash_point as crash};
use std::io::{BufRead, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

/// Marks the lines that are for the parent among those of the test harness.
pub const MARK: &str = "@ ";

/// What an operation works on.
pub struct Stage {
    pub key: Key,
    pub segment: Option<Segment>,
    pub held: Vec<PinnedValue>,
    pub in_place: Vec<SharedBytes>,
    pub locks: Vec<LockGuard>,
    pub thread: Option<std::thread::JoinHandle<()>>,
}

impl Stage {
    pub fn segment(&self) -> &Segment {
        self.segment.as_ref().expect("attached")
    }

    /// A value of that many bytes that tells its own number.
    pub fn put<'a>(&self, index: impl Into<Index<'a>>, round: u64, len: usize) {
        self.segment().put_bytes(index, &value(round, len)).unwrap();
    }

    /// Stores a text, whose bytes the segment knows to be the process's own.
    pub fn put_text<'a>(&self, index: impl Into<Index<'a>>, round: u64, len: usize) {
        self.segment().put(index, &round.to_string().repeat(len)).unwrap();
    }

    /// Opens so many bytes in place, or makes them, and holds them.
    pub fn in_place<'a>(&mut self, index: impl Into<Index<'a>>, len: u64) {
        let bytes = self.segment().shared_bytes(index, len).unwrap();
        assert!(bytes.words().iter().all(|word| word.load(Ordering::Relaxed) == 0));
        self.in_place.push(bytes);
    }

    pub fn touch<'a>(&self, index: impl Into<Index<'a>>) {
        assert_ne!(self.segment().touch(index).unwrap(), 0);
    }

    pub fn remove<'a>(&self, index: impl Into<Index<'a>>) {
        assert!(self.segment().remove(index).unwrap());
    }

    /// Another process does that operation and is killed in it.
    pub fn another_dies(&self, operation: &str, order: &str) {
        assert_eq!(start(operation, &self.key, Some(order)).finish().0, End::Killed, "{operation}, {order}");
    }
}

pub fn value(round: u64, len: usize) -> Vec<u8> {
    let mut bytes = round.to_le_bytes().repeat(len.div_ceil(8));
    bytes.truncate(len);
    bytes
}

/// How a child ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Killed,
    Well,
}

/// Exit status of a process whose forked child was killed.
pub const OUTLIVED: i32 = 9;

pub struct Started(Child);

/// Starts this program again as a child that does the operation, to be killed at `order` or to rehearse.
pub fn start(operation: &str, key: &Key, order: Option<&str>) -> Started {
    let Key::Text(text) = key else { panic!("tests use text keys") };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child::child", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("SHMVAR_TEST_KEY", text).env("OPERATION", operation).env_remove("ORDER");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::piped());
    if let Some(order) = order {
        command.env("ORDER", order).stdin(Stdio::null());
    }
    Started(command.spawn().unwrap())
}

impl Started {
    /// Waits until it stands before its act, runs that, and lets it go on.
    pub fn when_ready<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let mut byte = [0; 1];
        let mut line = Vec::new();
        let out = self.0.stdout.as_mut().unwrap();
        while !String::from_utf8_lossy(&line).contains("@ ready") {
            assert_eq!(std::io::Read::read(out, &mut byte).unwrap(), 1, "the rehearsal ended: {}", self.complaint());
            line.push(byte[0]);
        }
        let done = act();
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        done
    }

    fn complaint(&mut self) -> String {
        std::io::read_to_string(self.0.stderr.take().unwrap()).unwrap()
    }

    /// Waits for its end: how it ended, which points it passed, and what it printed.
    pub fn finish(mut self) -> (End, Vec<String>, String) {
        use std::os::unix::process::ExitStatusExt;
        let out = std::io::read_to_string(self.0.stdout.take().unwrap()).unwrap();
        let said = self.complaint();
        let status = self.0.wait().unwrap();
        let end = match (status.signal(), status.code()) {
            (Some(9), _) | (_, Some(OUTLIVED)) => End::Killed,
            (_, Some(0)) => End::Well,
            _ => panic!("a child ended with {status}\n{said}"),
        };
        let passed = out.lines().filter_map(|line| line.split_once("@ passed ").map(|(_, name)| name.to_string()));
        (end, passed.collect(), said)
    }
}

/// Tells the parent which points were passed.
pub fn report() {
    let lines: Vec<String> = crash::passed().iter().map(|name| format!("{MARK}passed {name}\n")).collect();
    let mut out = std::io::stdout().lock();
    out.write_all(lines.concat().as_bytes()).unwrap();
    out.flush().unwrap();
}

#[test]
#[ignore = "a role of the tests"]
fn child() {
    let Some(key) = role_key() else { return };
    let name = std::env::var("OPERATION").unwrap();
    let operation = OPERATIONS.iter().find(|operation| operation.name == name).expect("an operation");
    let segment = (operation.begins == Begins::Attached).then(|| existing(&key));
    let mut stage = Stage { key, segment, held: Vec::new(), in_place: Vec::new(), locks: Vec::new(), thread: None };
    (operation.setup)(&mut stage);
    match std::env::var("ORDER") {
        Ok(order) => crash::arm(&order),
        Err(_) => {
            println!("\n{MARK}ready");
            std::io::stdin().lock().read_line(&mut String::new()).unwrap();
            crash::record();
        }
    }
    (operation.act)(&mut stage);
    crash::arm("");
    report();
}

/// Attaches as the operations on a missing or destroyed segment do.
pub fn attach(key: &Key, perm: u32) -> Segment {
    Segment::attach(key.clone(), &Options { perm, ..Options::default() }).unwrap()
}
