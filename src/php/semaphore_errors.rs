//! The errors of a semaphore, with its key, the numbers and what to do.

use crate::error::Error;
use crate::os::sysv_owner::{self, Kind};
use crate::os::{self, sysv_sem};
use std::fmt;
use std::io;
use std::time::Duration;

/// A semaphore's key and the kernel's id of its set.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    pub key: i32,
    pub id: i32,
}

/// What was being done when an error came.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Finding or making the set, with these permissions.
    Get(u32),
    Open,
    Acquire,
    Release,
    Look,
    Remove,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Get(_) | Action::Open => "cannot open it",
            Action::Acquire => "cannot acquire it",
            Action::Release => "cannot release it",
            Action::Look => "cannot look at it",
            Action::Remove => "cannot remove it",
        })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "semaphore with key {} (0x{:08x})", self.key, self.key)
    }
}

impl Named {
    /// The error for a system call that failed.
    #[cold]
    pub fn error(&self, action: Action, error: io::Error) -> Error {
        match (error.raw_os_error(), action) {
            (Some(libc::EINVAL), Action::Get(_)) => Error::Incompatible(format!(
                "{self}: another program has a set with fewer than 3 semaphores under this key, so it is none of PHP's; \
                 choose another key, or remove the set (ipcs -s, ipcrm -S 0x{:08x})",
                self.key
            )),
            (Some(libc::EFBIG), _) => {
                Error::Incompatible(format!("{self}: its set has fewer than 3 semaphores, so it is none of PHP's"))
            }
            (Some(libc::EIDRM | libc::EINVAL), _) => Error::NotFound(format!(
                "{self}: {action}: it was removed meanwhile (sem_remove or ipcrm; id {}); make it anew, in all programs \
                 that use it",
                self.id
            )),
            (Some(libc::EACCES | libc::EPERM), _) => Error::Access(self.refused(action)),
            (Some(libc::ENOSPC), Action::Get(_)) => {
                let limits = match sysv_sem::limits() {
                    Some([_, semaphores, _, sets]) => format!("{sets} sets and {semaphores} semaphores"),
                    None => "sets or semaphores".to_owned(),
                };
                Error::io(
                    format!(
                        "{self}: {action}: the machine has as many System V semaphores as it may ({limits}, \
                         /proc/sys/kernel/sem); remove what nobody uses (ipcs -s, ipcrm -s ID), or raise kernel.sem"
                    ),
                    error,
                )
            }
            _ => Error::io(format!("{self}: {action}"), error),
        }
    }

    /// Why the system refuses access.
    fn refused(&self, action: Action) -> String {
        let euid = os::euid();
        let found = sysv_owner::owner(Kind::Semaphores, self.key);
        let set = found.map_or_else(|| "it belongs to somebody else".to_owned(), |owner| owner.to_string());
        let remedy = match action {
            // The kernel takes the three digits together.
            Action::Get(permissions) if permissions & 0o111 != 0 => format!(
                "permissions=0o{permissions:o} asks for the right to execute, too: ask for 0o{:o}",
                permissions & 0o666
            ),
            Action::Remove => "only its owner, its maker or root may do that".to_owned(),
            _ => format!(
                "its owner, or root, has to remove it (ipcrm -S 0x{:08x}), and to make it with permissions that let this \
                 user read and write, as 0o666",
                self.key
            ),
        };
        format!("{self}: {action}: the system refuses user {euid}: {set}; {remedy}")
    }

    /// The error for a thread that would wait for itself.
    #[cold]
    pub fn deadlock(&self, places: usize) -> Error {
        let it = if places == 1 { "it".to_owned() } else { format!("all {places} places of it") };
        Error::Deadlock(format!(
            "{self}: cannot acquire it: this thread holds {it} through another handle, and would wait for itself for \
             ever; use the same handle, which counts (of a segment with lock=: `with segment.lock:`), or release it \
             first"
        ))
    }

    /// The error for a set that another process opens and does not finish.
    #[cold]
    pub fn busy(&self, pid: i32, waited: Duration) -> Error {
        Error::Busy(format!(
            "{self}: process {pid} has been opening it for {} s, which takes microseconds: it is stopped, or this is \
             none of PHP's semaphores; let it go on or end it (kill -CONT {pid}), or choose another key",
            waited.as_secs()
        ))
    }
}
