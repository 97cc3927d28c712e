//! The errors of a message queue, with its key, the numbers and what to do.

use crate::error::Error;
use crate::os::{self, sysv_msg};
use std::fmt;
use std::io;

/// A queue's key and the kernel's id of it.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    pub key: i32,
    pub id: i32,
}

/// What was being done when an error came.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    Open,
    Send,
    /// Receiving a message of at most this size.
    Receive(usize),
    Look,
    Change,
    Remove,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Open => "cannot open it",
            Action::Send => "cannot send to it",
            Action::Receive(_) => "cannot receive from it",
            Action::Look => "cannot look at it",
            Action::Change => "cannot change it",
            Action::Remove => "cannot remove it",
        })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message queue with key {} (0x{:08x})", self.key, self.key)
    }
}

impl Named {
    /// The error for a system call that failed.
    #[cold]
    pub fn error(&self, action: Action, error: io::Error) -> Error {
        match (error.raw_os_error(), action) {
            (Some(libc::E2BIG), Action::Receive(most)) => Error::io(
                format!(
                    "{self}: {action}: the message is longer than the {most} bytes that were allowed, and stays in the \
                     queue; allow more, or let it be truncated"
                ),
                error,
            ),
            (Some(libc::EIDRM), _) | (Some(libc::EINVAL), Action::Send | Action::Receive(_) | Action::Look) => {
                self.removed(action)
            }
            (Some(libc::EINVAL), Action::Remove | Action::Change) if sysv_msg::status(self.id).is_err() => {
                self.removed(action)
            }
            (Some(libc::EACCES | libc::EPERM), _) => {
                let queue = match sysv_msg::status(self.id) {
                    Ok(status) => format!("it belongs to uid {} and has mode 0{:03o}", status.uid, status.mode),
                    Err(_) => "its mode does not let this user look at it".to_owned(),
                };
                let remedy = match action {
                    Action::Change | Action::Remove => {
                        "only its owner, its maker or root may do that, and only who has CAP_SYS_RESOURCE may raise its \
                         msg_qbytes above kernel.msgmnb"
                    }
                    _ => "its owner has to make it with permissions that let this user do that",
                };
                Error::Access(format!("{self}: {action}: the system refuses user {}: {queue}; {remedy}", os::euid()))
            }
            (Some(libc::ENOSPC), Action::Open) => {
                let most = sysv_msg::most_queues().map_or("all".to_owned(), |most| most.to_string());
                Error::io(
                    format!(
                        "{self}: {action}: the machine has {most} message queues, which is as many as it may \
                         (/proc/sys/kernel/msgmni); remove what nobody uses (ipcs -q, ipcrm -q ID), or raise \
                         kernel.msgmni"
                    ),
                    error,
                )
            }
            _ => Error::io(format!("{self}: {action}"), error),
        }
    }

    fn removed(&self, action: Action) -> Error {
        Error::NotFound(format!(
            "{self}: {action}: it was removed meanwhile (msg_remove_queue or ipcrm; id {}), and its messages with it; \
             open it anew, in all programs that use it",
            self.id
        ))
    }
}
