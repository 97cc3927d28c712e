//! System V segments: finding, creating, mapping, asking about and removing them; checked access to the mapped bytes.
//!
//! Other processes, PHP among them, store into the bytes at any time. So numbers are loaded and stored as atomics, and
//! texts are copied as relaxed words or by `opaque_copy`. Whether a copy is consistent is not decided here.

use crate::error::{Error, Result};
use crate::fallible;
use crate::os::opaque_copy::opaque_copy;
use crate::os::scratch::{SCRATCH_SMALL, Scratch};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

/// A copy of this many bytes or more is made by one string instruction instead of words.
const WORDWISE: usize = 256;

/// What the kernel tells of a segment.
#[derive(Clone, Debug)]
pub struct Status {
    /// The size in bytes, as the creator asked for it.
    pub size: u64,
    /// The permission bits.
    pub permissions: u32,
    /// The segment was removed, and goes with the last process that has it mapped.
    pub removed: bool,
    /// The owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// How often it is mapped.
    pub attached: u64,
    /// The process that created it.
    pub creator_pid: i32,
    /// The process that mapped or unmapped it last; 0 if none did.
    pub last_pid: i32,
    /// When it was mapped last, in seconds since 1970; 0 if never.
    pub attached_at: i64,
    /// When it was unmapped last; 0 if never.
    pub detached_at: i64,
    /// When it was created, or its owner or permissions were changed.
    pub changed_at: i64,
}

/// Returns the id of the segment with this key.
pub fn find(key: i32) -> std::io::Result<i32> {
    // SAFETY: the system call takes numbers and touches no memory of this process.
    id_or_error(unsafe { libc::shmget(key, 0, 0) })
}

/// Creates the segment with this key. Fails with `EEXIST` if there is one.
pub fn create(key: i32, size: u64, permissions: u32) -> std::io::Result<i32> {
    let flags = permissions as i32 & 0o777 | libc::IPC_CREAT | libc::IPC_EXCL;
    // SAFETY: the system call takes numbers and touches no memory of this process.
    id_or_error(unsafe { libc::shmget(key, size as usize, flags) })
}

/// Returns what the kernel tells of a segment.
pub fn status(id: i32) -> std::io::Result<Status> {
    let mut found = MaybeUninit::<libc::shmid_ds>::zeroed();
    // SAFETY: the kernel fills the struct, which is of its type and may be all zeros.
    let found = unsafe {
        id_or_error(libc::shmctl(id, libc::IPC_STAT, found.as_mut_ptr()))?;
        found.assume_init()
    };
    let mode = u32::from(found.shm_perm.mode);
    Ok(Status {
        size: found.shm_segsz as u64,
        permissions: mode & 0o777,
        removed: mode & 0o1000 != 0,
        uid: found.shm_perm.uid,
        gid: found.shm_perm.gid,
        attached: found.shm_nattch as u64,
        creator_pid: found.shm_cpid,
        last_pid: found.shm_lpid,
        attached_at: found.shm_atime,
        detached_at: found.shm_dtime,
        changed_at: found.shm_ctime,
    })
}

/// Removes a segment: its key is free at once, and its memory when nobody has it mapped any more.
pub fn remove(id: i32) -> std::io::Result<()> {
    // SAFETY: this command takes no buffer.
    id_or_error(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
}

/// Returns the result of a system call, or the error that it left in `errno`.
fn id_or_error(result: i32) -> std::io::Result<i32> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}

/// Private to the process: a map of a segment, which is unmapped when it is dropped.
pub struct Mapping {
    base: *mut u8,
    size: u64,
    id: i32,
    /// The memory of a test, which is not mapped at all.
    #[cfg(test)]
    memory: Option<Box<[AtomicU64]>>,
}

// SAFETY: a map is an address range, and its bytes are reached through atomics and opaque copies alone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a segment for reading and writing, and asks the kernel for its size.
    pub fn new(id: i32) -> std::io::Result<Self> {
        // SAFETY: the kernel chooses the address.
        let base = unsafe { libc::shmat(id, std::ptr::null(), 0) };
        if base.addr() == usize::MAX {
            return Err(std::io::Error::last_os_error());
        }
        let mut mapping = Mapping {
            base: base.cast(),
            size: 0,
            id,
            #[cfg(test)]
            memory: None,
        };
        mapping.size = status(id)?.size;
        Ok(mapping)
    }

    /// Makes a segment of zeros for a test, which the kernel does not know.
    #[cfg(test)]
    pub fn in_memory(size: u64) -> Self {
        let memory: Box<[AtomicU64]> = (0..size.div_ceil(8)).map(|_| AtomicU64::new(0)).collect();
        Mapping { base: memory.as_ptr().cast_mut().cast(), size, id: -1, memory: Some(memory) }
    }

    /// Returns the words of a test's segment.
    #[cfg(test)]
    pub fn words(&self) -> &[AtomicU64] {
        self.memory.as_deref().unwrap_or_default()
    }

    /// Returns the size that the kernel tells.
    #[inline(always)]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the kernel's number of the segment.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Returns the address of `len` bytes at an offset that is a multiple of 8.
    #[inline(always)]
    fn pointer(&self, offset: u64, len: u64) -> Result<*mut u8> {
        if len > self.size || offset > self.size - len || offset & 7 != 0 {
            return Err(outside(offset, len, self.size));
        }
        // SAFETY: the bytes lie within the map, as was just checked.
        Ok(unsafe { self.base.add(offset as usize) })
    }

    /// Returns `N` numbers from an offset on.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if they do not lie within the segment, or if the offset is no multiple of 8.
    #[inline(always)]
    pub fn numbers<const N: usize>(&self, offset: u64) -> Result<&[AtomicI64; N]> {
        let first = self.pointer(offset, N as u64 * 8)?;
        // SAFETY: the bytes are mapped and aligned, and any value is one of a number.
        Ok(unsafe { &*first.cast() })
    }

    /// Returns so many numbers from an offset on.
    ///
    /// # Errors
    /// Those of [`Mapping::numbers`].
    #[inline(always)]
    pub fn many_numbers(&self, offset: u64, count: u64) -> Result<&[AtomicI64]> {
        let first = self.pointer(offset, count.saturating_mul(8))?;
        // SAFETY: the bytes are mapped and aligned, and any value is one of a number.
        Ok(unsafe { std::slice::from_raw_parts(first.cast(), count as usize) })
    }

    /// Loads a number.
    #[inline(always)]
    pub fn load(&self, offset: u64) -> Result<i64> {
        // SYNC: acquire, paired with the release in `store` of this package's writers.
        Ok(self.numbers::<1>(offset)?[0].load(Ordering::Acquire))
    }

    /// Stores a number, after every store that was made before.
    #[inline(always)]
    pub fn store(&self, offset: u64, number: i64) -> Result<()> {
        let place = self.numbers::<1>(offset)?;
        #[cfg(test)]
        crash::step();
        // SYNC: release: whoever sees this number sees what was written before it. CRASH: the compiler keeps the order.
        place[0].store(number, Ordering::Release);
        #[cfg(test)]
        crash::look(self);
        Ok(())
    }

    /// Copies `len` bytes from an offset into a scratch buffer.
    #[inline]
    pub fn read_scratch(&self, offset: u64, len: usize, to: &mut Scratch) -> Result<()> {
        let from = self.pointer(offset, len as u64)?;
        if len > SCRATCH_SMALL {
            let large = to.large();
            large.clear();
            // SAFETY: the source is mapped.
            return unsafe { fill(large, from, len, "the text of a variable") };
        }
        // The last word may reach past the end of the segment, whose size need not be a multiple of 8.
        let words = len / 8 + usize::from(len & 7 != 0 && offset + len.next_multiple_of(8) as u64 <= self.size);
        let copy = to.small.as_mut_ptr().cast::<u8>();
        if len < WORDWISE && words * 8 >= len {
            for i in 0..words {
                // SAFETY: the word is mapped and aligned, and the buffer, whose size is a multiple of 8, has room for
                // it. Relaxed loads may race with stores of other processes.
                unsafe {
                    let word = (*from.cast::<AtomicU64>().add(i)).load(Ordering::Relaxed);
                    copy.add(i * 8).cast::<u64>().write_unaligned(word);
                }
            }
        } else {
            // SAFETY: the source is mapped, and the buffer is private and has room for `len` bytes.
            unsafe { opaque_copy(copy, from, len) };
        }
        to.small_len = Some(len);
        Ok(())
    }

    /// Returns a private copy of `len` bytes from an offset on.
    pub fn copy_out(&self, offset: u64, len: u64, what: &'static str) -> Result<Vec<u8>> {
        let (from, mut copy) = (self.pointer(offset, len)?, Vec::new());
        // SAFETY: the source is mapped.
        unsafe { fill(&mut copy, from, len as usize, what)? };
        Ok(copy)
    }

    /// Returns `true` if the bytes at an offset are these.
    #[inline]
    pub fn still_is(&self, offset: u64, bytes: &[u8]) -> Result<bool> {
        let at = self.pointer(offset, bytes.len() as u64)?;
        let mut differ = 0;
        let words = bytes.chunks_exact(8);
        let (tail, done) = (words.remainder(), bytes.len() & !7);
        for (i, word) in words.enumerate() {
            let word = u64::from_ne_bytes(word.try_into().unwrap_or_default());
            // SAFETY: the word is mapped and aligned; relaxed loads may race with stores of other processes.
            differ |= unsafe { (*at.cast::<AtomicU64>().add(i)).load(Ordering::Relaxed) } ^ word;
        }
        for (i, byte) in tail.iter().enumerate() {
            // SAFETY: the byte is mapped.
            differ |= u64::from(unsafe { (*at.cast::<AtomicU8>().add(done + i)).load(Ordering::Relaxed) } ^ byte);
        }
        Ok(differ == 0)
    }

    /// Copies private bytes to an offset, and zeros behind them up to the next multiple of 8.
    #[inline]
    pub fn copy_in(&self, offset: u64, from: &[u8]) -> Result<()> {
        let to = self.pointer(offset, from.len().next_multiple_of(8) as u64)?;
        let words = to.cast::<AtomicU64>();
        let whole = if from.len() < WORDWISE { 0 } else { from.len() / 8 };
        if whole > 0 {
            #[cfg(test)]
            crash::torn(self, offset, from);
            // SAFETY: the destination is mapped, and a private slice does not overlap a segment.
            unsafe { opaque_copy(to, from.as_ptr(), whole * 8) };
            #[cfg(test)]
            crash::look(self);
        }
        for i in whole..from.len().div_ceil(8) {
            let word = word_at(from, i * 8);
            #[cfg(test)]
            crash::step();
            // SAFETY: the word is mapped, for the length was rounded up, and aligned. Readers may race.
            unsafe { (*words.add(i)).store(word, Ordering::Relaxed) };
            #[cfg(test)]
            crash::look(self);
        }
        Ok(())
    }

    /// Copies `len` bytes to another place, and zeros behind them up to the next multiple of 8. The places may overlap
    /// if the other one is lower.
    pub fn copy(&self, from: u64, to: u64, len: u64) -> Result<()> {
        let room = len.next_multiple_of(8);
        let (source, target) = (self.pointer(from, room)?, self.pointer(to, room)?);
        debug_assert!(to <= from || to >= from + room);
        let apart = to + room <= from || from + room <= to;
        let whole = if apart && len >= WORDWISE as u64 && !cfg!(test) { len / 8 } else { 0 };
        if whole > 0 {
            // SAFETY: both places are mapped, and do not overlap.
            unsafe { opaque_copy(target, source, whole as usize * 8) };
        }
        let (source, target) = (source.cast::<AtomicU64>(), target.cast::<AtomicU64>());
        for i in whole as usize..(room / 8) as usize {
            // SAFETY: the word is mapped and aligned.
            let word = unsafe { (*source.add(i)).load(Ordering::Relaxed) };
            let rest = len - i as u64 * 8;
            let word = if rest < 8 { word & ((1 << (rest * 8)) - 1) } else { word };
            #[cfg(test)]
            crash::step();
            // SAFETY: as above. The words are written in ascending order, so no word of a higher place is written
            // before it was read.
            unsafe { (*target.add(i)).store(word, Ordering::Relaxed) };
            #[cfg(test)]
            crash::look(self);
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[cfg(test)]
        if self.memory.is_some() {
            return;
        }
        // SAFETY: this map is unmapped once, here, and everything that borrowed from it is gone.
        let _ = unsafe { libc::shmdt(self.base.cast()) };
    }
}

/// Returns the 8 bytes from `at` on, zeros for those behind the end. A copy of so few bytes by a call of the C library
/// would take longer than all the rest of a put.
#[inline(always)]
fn word_at(bytes: &[u8], at: usize) -> u64 {
    let word = |at: usize| bytes[at..].first_chunk().map(|word| u64::from_le_bytes(*word));
    if let Some(word) = word(at) {
        return word;
    }
    if let Some(word) = bytes.len().checked_sub(8).and_then(word) {
        return word >> (64 - (bytes.len() - at) * 8);
    }
    bytes[at..].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Makes an empty vector a copy of `len` bytes, which others may change meanwhile. `what` says what the memory is for.
///
/// # Safety
/// The bytes are mapped.
#[inline]
unsafe fn fill(to: &mut Vec<u8>, from: *const u8, len: usize, what: &'static str) -> Result<()> {
    fallible::reserve(to, len, what)?;
    // SAFETY: room for `len` bytes was reserved, and all of them are written before the length is set.
    unsafe {
        opaque_copy(to.as_mut_ptr(), from, len);
        to.set_len(len);
    }
    Ok(())
}

/// Returns the error for bytes that do not lie within the segment.
#[cold]
fn outside(offset: u64, len: u64, size: u64) -> Error {
    Error::Corrupt(format!(
        "{len} bytes at offset {offset} do not lie within its {size} bytes, or not at a multiple of 8"
    ))
}

/// Stopping a thread at its n-th store, for tests of what a kill leaves.
#[cfg(test)]
pub mod crash {
    use super::Mapping;
    use std::cell::{Cell, RefCell};

    /// What a stopped thread unwinds with.
    pub struct Stopped;

    /// What is called after each store of a thread.
    pub type Look = Box<dyn Fn(&Mapping)>;

    thread_local! {
        /// The number of stores that are left, if the thread is to be stopped.
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
        static LOOK: RefCell<Option<Look>> = const { RefCell::new(None) };
    }

    /// Orders that this thread stops instead of its store number `n + 1`, or not at all.
    pub fn stop_after(n: Option<u64>) {
        LEFT.set(n);
    }

    /// Orders that this is called after each store of this thread.
    pub fn look_with(look: Option<Look>) {
        LOOK.with(|place| *place.borrow_mut() = look);
    }

    /// Counts a store.
    pub fn step() {
        if let Some(left) = LEFT.get() {
            if left == 0 {
                LEFT.set(None);
                std::panic::resume_unwind(Box::new(Stopped));
            }
            LEFT.set(Some(left - 1));
        }
    }

    /// Counts a copy of many words, which a kill may leave half done.
    pub fn torn(map: &Mapping, offset: u64, from: &[u8]) {
        if LEFT.get() == Some(0) {
            let half = from.len() / 16 * 8;
            let to = map.pointer(offset, half as u64).expect("checked by the caller");
            // SAFETY: the bytes are mapped, and a private slice does not overlap a segment.
            unsafe { super::opaque_copy(to, from.as_ptr(), half) };
        }
        step();
    }

    /// Looks at the segment after a store.
    pub fn look(map: &Mapping) {
        LOOK.with(|look| {
            if let Some(look) = &*look.borrow() {
                look(map);
            }
        });
    }
}
