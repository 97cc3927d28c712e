//! Named points at which a process can be made to die, for the tests of recovery. They exist only with the feature
//! `crash-points`.
//!
//! Each point stands after a store that matters for recovery, or before the store that undoes it. "Crash points" in
//! `docs/protocol.md` lists all of them, with what a death there leaves.

/// Marks a crash point. With the feature `crash-points` the process passes the point here, and dies if it was told to.
/// Without the feature the macro is nothing at all.
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

    /// What a test has asked of this process.
    struct Orders {
        /// The point at which to die (`None` for any point), and the number of passages that are left until then.
        die: Option<(Option<String>, u64)>,
        /// The point whose next passage takes this long.
        pause: Option<(String, Duration)>,
        /// The number of requests for pages that are still to be refused.
        refuse: u32,
        /// The points that are passed are recorded.
        recording: bool,
        /// The points that were passed, in order.
        passed: Vec<&'static str>,
    }

    static ORDERS: Mutex<Orders> =
        Mutex::new(Orders { die: None, pause: None, refuse: 0, recording: false, passed: Vec::new() });

    /// Returns the orders. The first call reads the environment variable.
    fn orders() -> MutexGuard<'static, Orders> {
        static ENVIRONMENT: Once = Once::new();
        let mut orders = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
        ENVIRONMENT.call_once(|| {
            let order = std::env::var("SHMVAR_CRASH_AT").ok();
            orders.die = order.as_deref().and_then(parse);
        });
        orders
    }

    /// Parses `name:n` or `*:n`.
    fn parse(order: &str) -> Option<(Option<String>, u64)> {
        let (name, n) = order.split_once(':')?;
        Some(((name != "*").then(|| name.to_string()), n.parse().ok()?))
    }

    /// Orders a death: with `name:n` at the n-th passage of that point from now on, with `*:n` at the n-th passage of
    /// any point. The environment variable `SHMVAR_CRASH_AT` gives such an order from the start.
    pub fn arm(order: &str) {
        orders().die = parse(order);
    }

    /// Begins a new record of the points that are passed.
    pub fn record() {
        let mut orders = orders();
        orders.passed.clear();
        orders.recording = true;
    }

    /// Ends the record, and returns the points that were passed, in order.
    pub fn passed() -> Vec<&'static str> {
        let mut orders = orders();
        orders.recording = false;
        std::mem::take(&mut orders.passed)
    }

    /// Orders that the next thread to pass this point sleeps there for `time`.
    pub fn pause(name: &str, time: Duration) {
        orders().pause = Some((name.to_string(), time));
    }

    /// Orders that the next `requests` requests of this process for pages fail, as if the memory file system were full.
    pub fn refuse_pages(requests: u32) {
        orders().refuse = requests;
    }

    /// Fails if the next request for pages is to be refused. Called before each such request.
    pub fn pages() -> rustix::io::Result<()> {
        let mut orders = orders();
        if orders.refuse == 0 {
            return Ok(());
        }
        orders.refuse -= 1;
        Err(Errno::NOSPC)
    }

    /// Passes a point: records it, dies or sleeps, as ordered.
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
        // The mutex is released first, because other threads pass points meanwhile.
        if let Some((_, time)) = orders.pause.take_if(|(point, _)| point == name) {
            drop(orders);
            std::thread::sleep(time);
        }
    }
}

#[cfg(feature = "crash-points")]
pub use armed::{arm, pages, pass, passed, pause, record, refuse_pages};
