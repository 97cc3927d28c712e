//! What the Rust tests share: keys of their own, a watchdog, second processes.
#![allow(dead_code, reason = "each test program uses its part")]

use shmvar::{Eviction, Key, Options, Segment};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A segment of this test alone, destroyed at its end. A watchdog ends a test that hangs.
pub struct Fresh {
    pub segment: Segment,
    pub key: Key,
}

impl Fresh {
    pub fn new(name: &str, size: u64) -> Self {
        Self::with_perm(name, size, 0o600)
    }

    #[allow(dead_code, reason = "not every test program uses it")]
    pub fn with_perm(name: &str, size: u64, perm: u32) -> Self {
        Self::with(name, size, perm, None)
    }

    pub fn with(name: &str, size: u64, perm: u32, evict: Option<Eviction>) -> Self {
        watchdog(Duration::from_secs(900));
        let key = Key::text(&format!("test-{}-{name}", std::process::id())).unwrap();
        shmvar::destroy(&key).unwrap();
        let options = Options { size: Some(size), perm, evict, create: Some(true), ..Options::default() };
        let segment = Segment::attach(key.clone(), &options).unwrap();
        Fresh { segment, key }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        shmvar::destroy(&self.key).unwrap();
    }
}

/// Ends this process if it still runs after so long.
pub fn watchdog(limit: Duration) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        std::thread::spawn(move || {
            std::thread::sleep(limit);
            eprintln!("a test ran for more than {limit:?}");
            std::process::abort();
        });
    });
}

/// This test program again, running one ignored test that plays a role.
pub fn role(name: &str, key: &Key, env: &[(&str, &str)]) -> Child {
    let Key::Text(text) = key else { panic!("tests use text keys") };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("SHMVAR_TEST_KEY", text).stdin(Stdio::null()).stdout(Stdio::null());
    for (name, value) in env {
        command.env(name, value);
    }
    command.spawn().unwrap()
}

/// The key that a role was started with; `None` when it is run as a test of its own.
pub fn role_key() -> Option<Key> {
    let text = std::env::var("SHMVAR_TEST_KEY").ok()?;
    watchdog(Duration::from_secs(300));
    Some(Key::text(&text).unwrap())
}

/// Attaches to a segment that must exist.
pub fn existing(key: &Key) -> Segment {
    Segment::attach(key.clone(), &Options { create: Some(false), ..Options::default() }).unwrap()
}
