//! System V message queues: the system calls.

use crate::error::Result;
use crate::fallible;
use std::io;

/// Before the bytes of a message stands its type, a number of 64 bits.
const TYPE: usize = 8;

/// What memory for messages is called in errors.
const MESSAGE: &str = "a message";

/// What the kernel tells of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// The owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// The nine bits of permissions.
    pub mode: u32,
    /// When a message was sent last, in seconds since 1970; 0 if never.
    pub sent_at: i64,
    /// When one was received last; 0 if never.
    pub received_at: i64,
    /// When the queue was made, or its owner, its mode or its limit were changed.
    pub changed_at: i64,
    /// The bytes of all messages that wait.
    pub bytes: u64,
    /// The messages that wait.
    pub messages: u64,
    /// How many bytes may wait, and how many messages.
    pub max_bytes: u64,
    /// The process that sent last; 0 if none did.
    pub last_sender: i32,
    /// The process that received last; 0 if none did.
    pub last_receiver: i32,
}

/// Returns the id of the queue with a key.
pub fn find(key: i32) -> io::Result<i32> {
    // SAFETY: the call takes two numbers.
    checked(unsafe { libc::msgget(key, 0) } as isize).map(|id| id as i32)
}

/// Makes the queue with a key. Fails with `EEXIST` if there is one.
pub fn create(key: i32, permissions: u32) -> io::Result<i32> {
    let flags = (permissions & 0o777) as i32 | libc::IPC_CREAT | libc::IPC_EXCL;
    // SAFETY: the call takes two numbers.
    checked(unsafe { libc::msgget(key, flags) } as isize).map(|id| id as i32)
}

/// A message as the kernel takes it: its type and its bytes.
pub struct Outgoing(Vec<u8>);

impl Outgoing {
    /// Copies a message together.
    pub fn new(kind: i64, bytes: &[u8]) -> Result<Self> {
        fallible::joined(&[&kind.to_ne_bytes(), bytes], MESSAGE).map(Outgoing)
    }

    /// Sends the message; waits for room only if `wait` is true. `EAGAIN`: there is no room.
    pub fn send(&self, id: i32, wait: bool) -> io::Result<()> {
        let flags = if wait { 0 } else { libc::IPC_NOWAIT };
        // SAFETY: the buffer has the type, and as many bytes behind it as the call is told.
        checked(unsafe { libc::msgsnd(id, self.0.as_ptr().cast(), self.0.len() - TYPE, flags) } as isize).map(drop)
    }
}

/// Memory for a message to be received.
pub struct Incoming(Vec<u8>);

impl Incoming {
    /// Reserves memory for a message of up to `size` bytes.
    pub fn new(size: usize) -> Result<Self> {
        fallible::with_room(size.saturating_add(TYPE), MESSAGE).map(Incoming)
    }

    /// How many bytes a message may have.
    pub fn size(&self) -> usize {
        self.0.capacity() - TYPE
    }

    /// Receives a message of the type that `wanted` stands for: 0 any, above 0 that type, or any other one with
    /// `except`, below 0 the lowest type up to `-wanted`. Waits only if `wait` is true. A message of more than `size`
    /// bytes stays in the queue (`E2BIG`) unless `cut` is true.
    pub fn receive(&mut self, id: i32, size: usize, wanted: i64, flags: Flags) -> io::Result<()> {
        let Flags { wait, except, cut } = flags;
        let set = |on: bool, flag: i32| if on { flag } else { 0 };
        let flags = set(!wait, libc::IPC_NOWAIT) | set(except, libc::MSG_EXCEPT) | set(cut, libc::MSG_NOERROR);
        let size = size.min(self.size());
        // SAFETY: the kernel writes the type and at most `size` bytes, for which there is room, and returns how many
        // bytes it has written behind the type.
        unsafe {
            let received = libc::msgrcv(id, self.0.as_mut_ptr().cast(), size, wanted, flags);
            self.0.set_len(checked(received)? as usize + TYPE);
        }
        Ok(())
    }

    /// The type of the message that was received.
    pub fn kind(&self) -> i64 {
        self.0.first_chunk().map_or(0, |kind| i64::from_ne_bytes(*kind))
    }

    /// The bytes of the message that was received.
    pub fn bytes(&self) -> &[u8] {
        self.0.get(TYPE..).unwrap_or_default()
    }
}

/// How a message is received.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    /// Wait until there is one.
    pub wait: bool,
    /// Any type but the given one.
    pub except: bool,
    /// Cut off what does not fit.
    pub cut: bool,
}

/// Returns what the kernel tells of a queue.
pub fn status(id: i32) -> io::Result<Status> {
    let found = raw_status(id)?;
    Ok(Status {
        uid: found.msg_perm.uid,
        gid: found.msg_perm.gid,
        mode: u32::from(found.msg_perm.mode) & 0o777,
        sent_at: found.msg_stime,
        received_at: found.msg_rtime,
        changed_at: found.msg_ctime,
        bytes: found.__msg_cbytes,
        messages: found.msg_qnum,
        max_bytes: found.msg_qbytes,
        last_sender: found.msg_lspid,
        last_receiver: found.msg_lrpid,
    })
}

fn raw_status(id: i32) -> io::Result<libc::msqid_ds> {
    // SAFETY: the struct consists of integers, and all zeros is a valid value of it.
    let mut found: libc::msqid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the struct during the call.
    checked(unsafe { libc::msgctl(id, libc::IPC_STAT, &mut found) } as isize)?;
    Ok(found)
}

/// What may be changed of a queue. `None`: it stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    /// The owner.
    pub uid: Option<u32>,
    /// The owner's group.
    pub gid: Option<u32>,
    /// The nine bits of permissions.
    pub mode: Option<u32>,
    /// How many bytes may wait.
    pub max_bytes: Option<u64>,
}

/// Changes a queue.
pub fn change(id: i32, changes: Changes) -> io::Result<()> {
    let mut queue = raw_status(id)?;
    queue.msg_perm.uid = changes.uid.unwrap_or(queue.msg_perm.uid);
    queue.msg_perm.gid = changes.gid.unwrap_or(queue.msg_perm.gid);
    if let Some(mode) = changes.mode {
        queue.msg_perm.mode = mode as _;
    }
    queue.msg_qbytes = changes.max_bytes.unwrap_or(queue.msg_qbytes);
    // SAFETY: the kernel reads the struct during the call.
    checked(unsafe { libc::msgctl(id, libc::IPC_SET, &mut queue) } as isize).map(drop)
}

/// Removes a queue and its messages at once. Whoever waits in it gets `EIDRM`.
pub fn remove(id: i32) -> io::Result<()> {
    // SAFETY: this command takes no buffer.
    checked(unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) } as isize).map(drop)
}

/// Returns the longest message that may be sent on this machine.
pub fn longest() -> u64 {
    limit("msgmax").unwrap_or(8192)
}

/// Returns how many bytes may wait in a queue unless its owner says otherwise.
pub fn usual_bytes() -> u64 {
    limit("msgmnb").unwrap_or(16_384)
}

/// Returns how many queues there may be. `None` if the system does not tell.
pub fn most_queues() -> Option<u64> {
    limit("msgmni")
}

fn limit(name: &str) -> Option<u64> {
    std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
}

fn checked(outcome: isize) -> io::Result<isize> {
    if outcome == -1 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}
