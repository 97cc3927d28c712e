//! Named points at which a process can be made to die, for the tests of recovery. Compiled in by a feature only.

/// `crash_point!("name")`: with the feature `crash-points`, and `SHMVAR_CRASH_AT=name:n` in the environment, the n-th
/// passage kills this process with SIGKILL. Without the feature, nothing at all.
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "crash-points")]
        $crate::crash::pass($name);
    };
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static LEFT: AtomicU64 = AtomicU64::new(0);

    fn armed() -> Option<&'static str> {
        static ARMED: OnceLock<Option<String>> = OnceLock::new();
        ARMED
            .get_or_init(|| {
                let text = std::env::var("SHMVAR_CRASH_AT").ok()?;
                let (name, n) = text.split_once(':')?;
                LEFT.store(n.parse().ok()?, Ordering::Relaxed);
                Some(name.to_string())
            })
            .as_deref()
    }

    /// One passage of a point.
    pub fn pass(name: &'static str) {
        if armed() == Some(name) && LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}

#[cfg(feature = "crash-points")]
pub use armed::pass;
