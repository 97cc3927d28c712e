//! Everything that asks the kernel, and checked access to mapped bytes. What is special to Linux is here and nowhere
//! else.
//!
//! This floor knows system calls and their errors. It does not know what a segment holds, and it takes no decision of a
//! protocol. It offers named objects (`object`), maps of them ([`map::Mapping`]) with checked access ([`mem::Mem`]),
//! byte-range locks, futexes, and the epoch of a process (`fork`).
//!
//! | file | what is in it |
//! | --- | --- |
//! | `mod` | clocks, ids, limits and random bytes; a barrier for all threads of the machine; `ftok` |
//! | `object` | objects of the memory file system: creating, publishing, opening, listing, pages |
//! | `map` | maps of a segment, whole or private |
//! | `description` | descriptors of this package, and telling them from those of the program |
//! | `mem` | checked access to the bytes of a mapped segment |
//! | `scratch` | private buffers that shared bytes are copied to |
//! | `opaque_copy` | copying bytes that other processes may change meanwhile |
//! | `bytelock` | byte-range locks, which tell who is alive |
//! | `futex` | sleeping on a word, and waking |
//! | `fork` | noticing a fork; a mutex that survives one |
//! | `lease` | asking whether a file is open anywhere |
//! | `thread_exit` | threads that somebody else ends in the middle of a call |
//! | `sysv_msg` | System V message queues |
//! | `sysv_owner` | whose a System V object is, as the kernel's lists say |
//! | `sysv_raw` | maps of System V segments as bytes, perhaps for reading alone |
//! | `sysv_sem` | sets of System V semaphores |
//! | `sysv_shm` | System V segments: system calls, maps, checked access to their bytes |
#![allow(unsafe_code, reason = "system calls")]

pub mod bytelock;
pub mod description;
pub mod fork;
pub mod futex;
#[cfg(feature = "python")]
pub mod lease;
pub mod map;
#[allow(unsafe_code, reason = "checked access to shared bytes")]
pub mod mem;
pub mod object;
mod opaque_copy;
mod scratch;
pub mod sysv_msg;
pub mod sysv_owner;
pub mod sysv_raw;
pub mod sysv_sem;
pub mod sysv_shm;
#[cfg(feature = "python")]
pub mod thread_exit;

use crate::error::{Error, Result};
use rustix::time::{ClockId, clock_gettime};

/// Returns the time in nanoseconds since 1970.
pub fn unix_ns() -> u64 {
    clock_ns(ClockId::Realtime)
}

/// Returns the time in nanoseconds since the machine was started. Time in suspension counts.
pub fn boottime_ns() -> u64 {
    clock_ns(ClockId::Boottime)
}

/// Returns the time in milliseconds since the machine was started, as every process sees it. Time in suspension does
/// not count.
pub fn monotonic_ms() -> u64 {
    clock_ns(ClockId::Monotonic) / 1_000_000
}

/// Returns the processor time of this thread, in nanoseconds. It stands still while the process is stopped or starved.
#[cfg(feature = "python")]
pub fn thread_cpu_ns() -> u64 {
    clock_ns(ClockId::ThreadCPUTime)
}

/// Returns the time of a clock in nanoseconds.
fn clock_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Returns the pid of this process in its own pid namespace. It is for people, never for a decision.
pub fn pid() -> u32 {
    std::process::id()
}

/// Returns the effective uid: the user whose permissions count.
pub fn euid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the uid that stands for every user who has no uid in this user namespace. Such a user cannot be trusted.
pub fn overflow_uid() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
    text.ok().and_then(|t| t.trim().parse().ok()).unwrap_or(65_534)
}

/// Fills `bytes` with random bytes.
pub fn random(bytes: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        done += rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::system("random bytes", e))?;
    }
    Ok(())
}

/// The things that a process may have a limit of, each in bytes.
#[derive(Clone, Copy, Debug)]
pub enum Limited {
    /// The address space: `ulimit -v`.
    Addresses,
    /// The end of a file that the process writes to or makes longer: `ulimit -f`.
    File,
    /// Memory that the process locks: `ulimit -l`.
    Locked,
}

/// Returns a limit of this process in bytes, or `None` if the process has no such limit.
pub fn limit_of(what: Limited) -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    let resource = match what {
        Limited::Addresses => Resource::As,
        Limited::File => Resource::Fsize,
        Limited::Locked => Resource::Memlock,
    };
    getrlimit(resource).current
}

/// Bytes of address space that a process has on the supported machines: half of 48 bits.
pub const ADDRESSES: u64 = 1 << 47;

/// Returns the number of bytes of its address space that this process uses. 0 if the system does not tell.
pub fn addresses_used() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm");
    let pages = text.ok().and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    pages.unwrap_or(0).saturating_mul(rustix::param::page_size() as u64)
}

/// Returns the number of maps that a process may have: the kernel's default if the system does not tell.
pub fn maps_max() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(65_530)
}

/// Makes every thread of every process pass a full memory barrier (`membarrier`). When this returns `true`, each thread
/// has passed one, or is not running and will pass one before it runs. It takes some milliseconds.
///
/// Returns `false` if the system has no such call (a seccomp filter, or a kernel with `nohz_full`).
pub fn barrier_everywhere() -> bool {
    // MEMBARRIER_CMD_GLOBAL of linux/membarrier.h, since Linux 4.3. The other processes need not register for it.
    const GLOBAL: libc::c_long = 1;
    // SAFETY: the system call takes three numbers and touches no memory of this process.
    unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0 as libc::c_long, 0 as libc::c_long) == 0 }
}

/// Returns the key that the C library's `ftok` makes from a file and a project byte.
///
/// # Errors
/// [`Error::System`] if the file's status cannot be read.
pub fn ftok(path: &std::path::Path, project: u8) -> Result<i64> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).map_err(|e| Error::io(format!("ftok {}", path.display()), e))?;
    let key = u32::from(project) << 24 | (meta.dev() as u32 & 0xff) << 16 | (meta.ino() as u32 & 0xffff);
    Ok(i64::from(key as i32))
}
