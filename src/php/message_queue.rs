//! A System V message queue, as PHP's `msg_*` functions use it ("Message queues" in `docs/php.md`). What the bytes of a
//! message mean is up to the caller.

use crate::error::{Error, Lack, Result};
use crate::os::sysv_msg::{self, Changes, Flags, Incoming, Outgoing, Status};
use crate::php::message_queue_errors::{Action, Named};
use crate::php::waiting::{Waits, wait_or_poll};
use std::time::Duration;

/// A handle on a queue. There is nothing to be given back.
#[derive(Clone, Copy, Debug)]
pub struct MessageQueue {
    name: Named,
}

/// Which message is to be received, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// 0: any type. Above 0: this type, or with `except` any other one. Below 0: the lowest type up to `-kind`.
    pub kind: i64,
    /// Any type but `kind`.
    pub except: bool,
    /// A longer message is an error, and stays. `None`: it may be as long as it is.
    pub max_size: Option<usize>,
    /// A longer message is cut off, instead.
    pub truncate: bool,
}

impl MessageQueue {
    /// Opens a queue, and makes it if there is none.
    pub fn open(key: i32, permissions: u32) -> Result<Self> {
        let unknown = Named { key, id: -1 };
        loop {
            match sysv_msg::find(key) {
                Ok(id) => return Ok(MessageQueue { name: Named { key, id } }),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(unknown.error(Action::Open, error)),
            }
            match sysv_msg::create(key, permissions) {
                Ok(id) => return Ok(MessageQueue { name: Named { key, id } }),
                // Somebody else has made it just now.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                Err(error) => return Err(unknown.error(Action::Open, error)),
            }
        }
    }

    /// Whether there is a queue with this key.
    pub fn exists(key: i32) -> Result<bool> {
        match sysv_msg::find(key) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(Named { key, id: -1 }.error(Action::Open, error)),
        }
    }

    /// The key.
    pub fn key(&self) -> i32 {
        self.name.key
    }

    /// The kernel's number of the queue.
    pub fn id(&self) -> i32 {
        self.name.id
    }

    /// Sends a message whose type is above 0. Returns `false` if there was no room for it within the timeout.
    ///
    /// # Errors
    /// [`Error::Full`] if the message is longer than the kernel, or this queue, ever lets in.
    pub fn send(&self, kind: i64, bytes: &[u8], timeout: Option<Duration>, waits: &dyn Waits) -> Result<bool> {
        let (id, message) = (self.name.id, Outgoing::new(kind, bytes)?);
        match message.send(id, false) {
            Ok(()) => return Ok(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINVAL) if bytes.len() as u64 > sysv_msg::longest() => {
                    return Err(self.too_long(bytes.len() as u64));
                }
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN) => {
                    let status = self.status()?;
                    if bytes.len() as u64 > status.max_bytes {
                        return Err(self.full(bytes.len() as u64, status, "even an empty one has no room for it"));
                    }
                }
                _ => return Err(self.name.error(Action::Send, error)),
            },
        }
        let sent = wait_or_poll(timeout, waits, &mut |wait| message.send(id, wait))?;
        sent.map(|sent| sent.is_some()).map_err(|error| self.name.error(Action::Send, error))
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// [`Error::Full`] if there is none.
    pub fn send_now(&self, kind: i64, bytes: &[u8], waits: &dyn Waits) -> Result<()> {
        if self.send(kind, bytes, Some(Duration::ZERO), waits)? {
            return Ok(());
        }
        Err(self.full(bytes.len() as u64, self.status()?, "wait for a receiver"))
    }

    /// Receives a message. Returns `None` if none came within the timeout.
    ///
    /// # Errors
    /// [`Error::System`] with `E2BIG` if the message is longer than it may be; it stays in the queue.
    pub fn receive(&self, wanted: Wanted, timeout: Option<Duration>, waits: &dyn Waits) -> Result<Option<Incoming>> {
        let most = wanted.max_size.unwrap_or(usize::MAX);
        let mut size = most.min(sysv_msg::longest() as usize);
        loop {
            let mut message = Incoming::new(size)?;
            let last = size >= most;
            let received = wait_or_poll(timeout, waits, &mut |wait| {
                let flags = Flags { wait, except: wanted.except, cut: last && wanted.truncate };
                message.receive(self.name.id, size, wanted.kind, flags)
            })?;
            match received {
                Ok(received) => return Ok(received.map(|()| message)),
                // It was sent while longer ones were allowed.
                Err(error) if error.raw_os_error() == Some(libc::E2BIG) && !last => {
                    size = most.min(size.saturating_mul(4).max(4096));
                }
                Err(error) => return Err(self.name.error(Action::Receive(most), error)),
            }
        }
    }

    /// What the kernel tells of the queue.
    pub fn status(&self) -> Result<Status> {
        sysv_msg::status(self.name.id).map_err(|error| self.name.error(Action::Look, error))
    }

    /// Changes owner, permissions or limit of the queue.
    pub fn change(&self, changes: Changes) -> Result<()> {
        sysv_msg::change(self.name.id, changes).map_err(|error| self.name.error(Action::Change, error))
    }

    /// Removes the queue and its messages. Whoever waits in it, or uses it later, gets an error.
    pub fn remove(&self) -> Result<()> {
        sysv_msg::remove(self.name.id).map_err(|error| self.name.error(Action::Remove, error))
    }

    #[cold]
    fn full(&self, needed: u64, status: Status, remedy: &str) -> Error {
        Error::Full {
            needed,
            free: status.max_bytes.saturating_sub(status.bytes),
            size: status.max_bytes,
            remedy: format!(
                "{} messages wait in the {}: {remedy}, or let root or its owner raise its msg_qbytes (msg_set_queue; \
                 new queues have kernel.msgmnb, {})",
                status.messages,
                self.name,
                sysv_msg::usual_bytes()
            ),
            lack: Lack::Other,
        }
    }

    #[cold]
    fn too_long(&self, needed: u64) -> Error {
        let longest = sysv_msg::longest();
        Error::Full {
            needed,
            free: longest,
            size: longest,
            remedy: format!(
                "the kernel takes no longer message into a {}: send less at once, or raise kernel.msgmax \
                 (/proc/sys/kernel/msgmax, and the queue's msg_qbytes)",
                self.name
            ),
            lack: Lack::Other,
        }
    }
}
