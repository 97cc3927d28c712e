//! Named points at which a process can be made to die, for the tests of recovery. Compiled in by a feature only.
//!
//! Every point stands behind a store that matters for recovery (or before what undoes it): docs/protocol.md, "Crash
//! points", has them all.

/// `crash_point!("name")`: with the feature `crash-points` one passage of that point, where this process may have been told
/// to die. Without the feature, nothing at all.
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "crash-points")]
        $crate::crash_point::pass($name);
    };
}

#[cfg(feature = "crash-points")]
mod armed {
    use rustix::io::Errno;
    use rustix::process::{Signal, getpid, kill_process};
    use std::os::fd::AsFd;
    use std::sync::{Mutex, MutexGuard, Once, PoisonError};
    use std::time::Duration;

    /// What was asked of this process.
    struct Orders {
        /// The point (`None`: any) and how many more passages until death.
        die: Option<(Option<String>, u64)>,
        /// The next passage of this point takes so long.
        pause: Option<(String, Duration)>,
        /// So many more requests for pages are refused.
        refuse: u32,
        recording: bool,
        passed: Vec<&'static str>,
    }

    static ORDERS: Mutex<Orders> =
        Mutex::new(Orders { die: None, pause: None, refuse: 0, recording: false, passed: Vec::new() });

    fn orders() -> MutexGuard<'static, Orders> {
        static ENVIRONMENT: Once = Once::new();
        let mut orders = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
        ENVIRONMENT.call_once(|| {
            let order = std::env::var("SHMVAR_CRASH_AT").ok();
            orders.die = order.as_deref().and_then(parse);
        });
        orders
    }

    fn parse(order: &str) -> Option<(Option<String>, u64)> {
        let (name, n) = order.split_once(':')?;
        Some(((name != "*").then(|| name.to_string()), n.parse().ok()?))
    }

    /// From now on: `name:n`, death at the n-th passage of that point; `*:n`, at the n-th of any. The environment variable
    /// `SHMVAR_CRASH_AT` says so from the start.
    pub fn arm(order: &str) {
        orders().die = parse(order);
    }

    /// Begins to record the points that are passed, anew.
    pub fn record() {
        let mut orders = orders();
        orders.passed.clear();
        orders.recording = true;
    }

    /// Ends the record: the points passed since, in order.
    pub fn passed() -> Vec<&'static str> {
        let mut orders = orders();
        orders.recording = false;
        std::mem::take(&mut orders.passed)
    }

    /// Whoever passes this point next stands still there for so long, once.
    pub fn pause(name: &str, time: Duration) {
        orders().pause = Some((name.to_string(), time));
    }

    /// The next requests of this process for pages find the memory file system full.
    pub fn refuse_pages(requests: u32) {
        orders().refuse = requests;
    }

    /// Asked before pages are requested.
    pub fn pages() -> rustix::io::Result<()> {
        let mut orders = orders();
        if orders.refuse == 0 {
            return Ok(());
        }
        orders.refuse -= 1;
        Err(Errno::NOSPC)
    }

    /// One passage of a point.
    pub fn pass(name: &'static str) {
        let mut orders = orders();
        if orders.recording {
            orders.passed.push(name);
        }
        if let Some((point, left)) = &mut orders.die {
            if point.as_deref().is_none_or(|point| point == name) {
                *left -= 1;
                if *left == 0 {
                    let _ = rustix::io::write(std::io::stderr().as_fd(), format!("killed at {name}\n").as_bytes());
                    let _ = kill_process(getpid(), Signal::KILL);
                }
            }
        }
        // Not with the mutex held: others pass meanwhile.
        if let Some((_, time)) = orders.pause.take_if(|(point, _)| point == name) {
            drop(orders);
            std::thread::sleep(time);
        }
    }
}

#[cfg(feature = "crash-points")]
pub use armed::{arm, pages, pass, passed, pause, record, refuse_pages};
