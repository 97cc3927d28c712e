//! Everything that asks the kernel: objects, byte-range locks, mappings, futexes, fork. Linux's own is here and nowhere
//! else.
#![allow(unsafe_code, reason = "system calls")]

pub mod bytelock;
pub mod fork;
pub mod futex;
#[cfg(feature = "python")]
pub mod lease;
pub mod map;
#[allow(unsafe_code, reason = "checked access to shared bytes")]
pub mod mem;
pub mod object;

use crate::error::{Error, Result};
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since 1970.
pub fn unix_ns() -> u64 {
    clock_ns(ClockId::Realtime)
}

/// Nanoseconds since the machine was started, suspension included.
pub fn boottime_ns() -> u64 {
    clock_ns(ClockId::Boottime)
}

/// Milliseconds since the machine was started, as every process sees them.
pub fn monotonic_ms() -> u64 {
    clock_ns(ClockId::Monotonic) / 1_000_000
}

/// Processor time of this thread, in nanoseconds: a stopped or starved process loses none.
#[cfg(feature = "python")]
pub fn thread_cpu_ns() -> u64 {
    clock_ns(ClockId::ThreadCPUTime)
}

fn clock_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// This process's number in its pid namespace: for people.
pub fn pid() -> u32 {
    std::process::id()
}

/// The user whose permissions count.
pub fn euid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The uid that every user without a number in this user namespace shows as: nobody to trust.
pub fn overflow_uid() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
    text.ok().and_then(|t| t.trim().parse().ok()).unwrap_or(65_534)
}

/// Fills with random bytes.
pub fn random(bytes: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        done += rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::system("random bytes", e))?;
    }
    Ok(())
}

/// What a process may have a limit of, in bytes.
#[derive(Clone, Copy, Debug)]
pub enum Limited {
    /// Of its address space: `ulimit -v`.
    Addresses,
    /// Of a file that it makes longer: `ulimit -f`.
    File,
    /// Of memory that it locks: `ulimit -l`.
    Locked,
}

/// A limit of this process. `None`: it has none.
pub fn limit_of(what: Limited) -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    let resource = match what {
        Limited::Addresses => Resource::As,
        Limited::File => Resource::Fsize,
        Limited::Locked => Resource::Memlock,
    };
    getrlimit(resource).current
}

/// Addresses that a process has on the machines that we promise: half of 48 bits.
pub const ADDRESSES: u64 = 1 << 47;

/// Bytes of its address space that this process has taken. 0 where the system does not tell.
pub fn addresses_taken() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm");
    let pages = text.ok().and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    pages.unwrap_or(0).saturating_mul(rustix::param::page_size() as u64)
}

/// Maps that a process may have; the kernel's default where the system does not tell.
pub fn maps_max() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(65_530)
}

/// Every thread of every process has passed a full barrier, or stands still behind one, when this returns. False: the system
/// has no such call (a filter, or a kernel with `nohz_full`). It takes some milliseconds.
pub fn barrier_everywhere() -> bool {
    // MEMBARRIER_CMD_GLOBAL, of linux/membarrier.h, since Linux 4.3: needs no registration of those who are to pass it.
    const GLOBAL: libc::c_long = 1;
    // SAFETY: a system call that takes three numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0 as libc::c_long, 0 as libc::c_long) == 0 }
}

/// The C library's `ftok`: a key from a file and a project byte.
///
/// # Errors
/// The system's, where the file cannot be looked at.
pub fn ftok(path: &std::path::Path, project: u8) -> Result<i64> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).map_err(|e| Error::io(format!("ftok {}", path.display()), e))?;
    let key = u32::from(project) << 24 | (meta.dev() as u32 & 0xff) << 16 | (meta.ino() as u32 & 0xffff);
    Ok(i64::from(key as i32))
}
