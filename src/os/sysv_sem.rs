//! Sets of System V semaphores: the system calls.
//!
//! A set has an id, which is found by a key of 32 bits. What its semaphores stand for is up to the caller.

use std::io;
use std::time::Duration;

/// One of the operations that are carried out together or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which semaphore of the set.
    pub semaphore: u16,
    /// What is added to its value. 0: wait until the value is 0.
    pub change: i16,
    /// Whether the kernel takes the change back when this process ends.
    pub undo: bool,
}

/// Returns the id of the set with a key, and makes the set if there is none and `create` is true. An existing set must
/// have `semaphores` semaphores or more.
pub fn get(key: i32, semaphores: u16, permissions: u32, create: bool) -> io::Result<i32> {
    let flags = (permissions & 0o777) as i32 | if create { libc::IPC_CREAT } else { 0 };
    // SAFETY: the call takes three numbers.
    checked(unsafe { libc::semget(key, i32::from(semaphores), flags) })
}

/// Carries out up to three operations. Waits for that no longer than `at_most`; 0 means not at all. `EAGAIN` says that
/// the time is over, `EINTR` that a signal came; the kernel never begins again by itself.
pub fn operate(id: i32, operations: &[Operation], at_most: Duration) -> io::Result<()> {
    let none = libc::sembuf { sem_num: 0, sem_op: 0, sem_flg: 0 };
    let mut buffers = [none; 3];
    assert!(operations.len() <= buffers.len(), "no caller has more operations");
    let no_wait = if at_most.is_zero() { libc::IPC_NOWAIT } else { 0 };
    for (buffer, operation) in buffers.iter_mut().zip(operations) {
        let flags = no_wait | if operation.undo { libc::SEM_UNDO } else { 0 };
        *buffer =
            libc::sembuf { sem_num: operation.semaphore, sem_op: operation.change, sem_flg: flags as libc::c_short };
    }
    let limit = libc::timespec {
        tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: at_most.subsec_nanos().into(),
    };
    let limit = if at_most.is_zero() { std::ptr::null() } else { std::ptr::from_ref(&limit) };
    // SAFETY: the kernel reads as many operations as it is told, and the limit, during the call only.
    let done = unsafe { libc::syscall(libc::SYS_semtimedop, id, buffers.as_mut_ptr(), operations.len(), limit) };
    checked(done as i32).map(drop)
}

/// Returns the value of a semaphore.
pub fn value(id: i32, semaphore: u16) -> io::Result<i32> {
    // SAFETY: this command takes no further argument.
    checked(unsafe { libc::semctl(id, i32::from(semaphore), libc::GETVAL) })
}

/// Sets the value of a semaphore. The kernel forgets what every process would have to take back of it.
pub fn set_value(id: i32, semaphore: u16, value: u16) -> io::Result<()> {
    // SAFETY: this command takes a number in the union that is its argument.
    checked(unsafe { libc::semctl(id, i32::from(semaphore), libc::SETVAL, libc::c_long::from(value)) }).map(drop)
}

/// Returns the pid of the process that changed a semaphore last, in the caller's pid namespace. 0: it is not known.
pub fn last_pid(id: i32, semaphore: u16) -> io::Result<i32> {
    // SAFETY: this command takes no further argument.
    checked(unsafe { libc::semctl(id, i32::from(semaphore), libc::GETPID) })
}

/// Removes a set at once. Whoever waits in it gets `EIDRM`.
pub fn remove(id: i32) -> io::Result<()> {
    // SAFETY: this command takes no further argument.
    checked(unsafe { libc::semctl(id, 0, libc::IPC_RMID) }).map(drop)
}

/// Returns the limits of this machine: semaphores in a set, semaphores in all, operations in a call, and sets. `None`
/// if the system does not tell.
pub fn limits() -> Option<[u64; 4]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/sem").ok()?;
    let mut numbers = text.split_ascii_whitespace().map(|number| number.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??, numbers.next()??])
}

fn checked(outcome: i32) -> io::Result<i32> {
    if outcome == -1 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}
