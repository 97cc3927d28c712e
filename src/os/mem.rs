//! Checked access to the bytes of a mapped segment.
//!
//! Others store here at any time, so nothing but atomics is ever borrowed, and bytes are copied by instructions that the
//! compiler cannot reason about: a plain `memcpy` of racing bytes is undefined in the language, an opaque one is not.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{IntentArea, Shared, Slot, State, at};
use std::mem::{MaybeUninit, align_of, size_of};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// A mapped segment. Does not own the mapping: whoever made it keeps it mapped for longer than this lives.
pub struct Mem {
    /// Of the longest map.
    base: AtomicPtr<u8>,
    /// Its length. Grows.
    len: AtomicU64,
    writable: bool,
    /// Maps more of it.
    longer: Option<Box<dyn Longer>>,
}

/// Maps more of an object whose length has grown.
pub trait Longer: Send + Sync {
    /// Maps at least so many bytes, unless the last map has them, and calls `publish` with its address and length: one caller
    /// at a time, each time with a longer one. Every map stays as long as this does. False: the object has not so many.
    fn longer(&self, least: u64, publish: &mut dyn FnMut(*mut u8, u64)) -> Result<bool>;
}

/// From here on a copy goes through one string instruction instead of words.
const WORDWISE: usize = 256;

impl Mem {
    /// # Safety
    /// `base` is page-aligned and maps `len` bytes, at least the fixed part, for as long as the result lives; with
    /// `writable` they may be stored to.
    pub unsafe fn new(base: *mut u8, len: u64, writable: bool) -> Self {
        assert!(len >= at::PARTICIPANTS && base.addr().is_multiple_of(4096), "a mapping shorter than the fixed part");
        Mem { base: AtomicPtr::new(base), len: AtomicU64::new(len), writable, longer: None }
    }

    /// The same, of an object that may grow.
    pub fn growing(self, longer: Box<dyn Longer>) -> Self {
        Mem { longer: Some(longer), ..self }
    }

    /// The address of an offset with so many bytes behind it, if they lie within the object.
    #[inline(always)]
    fn within(&self, offset: u64, len: u64) -> Result<*mut u8> {
        // SYNC: with the release in `reach`: who sees a length sees the map that has it, or a longer one.
        let mapped = self.len.load(Ordering::Acquire);
        if offset > mapped || mapped - offset < len {
            self.reach(offset, len)?;
        }
        // SAFETY: in bounds.
        Ok(unsafe { self.base.load(Ordering::Relaxed).add(offset as usize) })
    }

    /// Maps as much as that takes. What was borrowed of a shorter map stays.
    #[cold]
    fn reach(&self, offset: u64, len: u64) -> Result<()> {
        let (Some(end), Some(longer)) = (offset.checked_add(len), &self.longer) else {
            return Err(allow_threads(offset));
        };
        let reached = longer.longer(end, &mut |base, mapped| {
            self.base.store(base, Ordering::Relaxed);
            self.len.store(mapped, Ordering::Release);
        })?;
        if reached { Ok(()) } else { Err(allow_threads(offset)) }
    }

    /// Maps the first so many bytes, if they are not.
    #[inline(always)]
    pub fn map_up_to(&self, end: u64) -> Result<()> {
        if self.len.load(Ordering::Acquire) < end { self.reach(0, end) } else { Ok(()) }
    }

    /// A `T` at this offset, if it lies within the segment and is aligned.
    #[inline(always)]
    pub fn at<T: Shared>(&self, offset: u64) -> Result<&T> {
        if !offset.is_multiple_of(align_of::<T>() as u64) {
            return Err(allow_threads(offset));
        }
        let at = self.within(offset, size_of::<T>() as u64)?.cast::<T>();
        // SAFETY: in bounds and aligned; `Shared` types have no invalid values and are only atomics.
        Ok(unsafe { &*at })
    }

    /// So many slots, one after the other, from this offset on.
    #[inline(always)]
    pub fn slots(&self, offset: u64, count: u64) -> Result<&[Slot]> {
        let bytes = count * size_of::<Slot>() as u64;
        if !offset.is_multiple_of(align_of::<Slot>() as u64) {
            return Err(allow_threads(offset));
        }
        let first = self.within(offset, bytes)?.cast::<Slot>();
        // SAFETY: in bounds and aligned; a slot has no invalid values and is only atomics.
        Ok(unsafe { std::slice::from_raw_parts(first, count as usize) })
    }

    /// The state line block.
    #[inline(always)]
    pub fn state(&self) -> &State {
        // SAFETY: the constructor's assertion covers the fixed part; aligned by the compile-time offsets.
        unsafe { &*self.base.load(Ordering::Relaxed).add(at::STATE as usize).cast::<State>() }
    }

    /// The intent.
    #[inline(always)]
    pub fn intent(&self) -> &IntentArea {
        // SAFETY: as above.
        unsafe { &*self.base.load(Ordering::Relaxed).add(at::INTENT as usize).cast::<IntentArea>() }
    }

    /// May it be stored to?
    pub fn writable(&self) -> bool {
        self.writable
    }

    /// How much of it is mapped now.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Copies `len` bytes out, to memory of the caller's. `offset` is a multiple of 8.
    ///
    /// # Safety
    /// `to` is valid for `len` bytes of writes and not part of the segment.
    #[inline]
    pub unsafe fn copy_out(&self, offset: u64, to: *mut u8, len: usize) -> Result<()> {
        let from = self.within(offset, len.next_multiple_of(8) as u64)?;
        if len >= WORDWISE || !offset.is_multiple_of(8) {
            // SAFETY: source in bounds, destination the caller's promise.
            unsafe { opaque_copy(to, from, len) };
            return Ok(());
        }
        let words = from.cast::<AtomicU64>();
        for i in 0..len / 8 {
            // SAFETY: in bounds, aligned; relaxed loads may race.
            unsafe { to.add(i * 8).cast::<u64>().write_unaligned((*words.add(i)).load(Ordering::Relaxed)) };
        }
        let (done, tail) = (len & !7, len & 7);
        if tail != 0 {
            // SAFETY: the whole last word is within bounds (rounded up above); only `tail` bytes are written.
            unsafe {
                let last = (*words.add(done / 8)).load(Ordering::Relaxed).to_ne_bytes();
                std::ptr::copy_nonoverlapping(last.as_ptr(), to.add(done), tail);
            }
        }
        Ok(())
    }

    /// Copies out into a scratch buffer.
    #[inline]
    pub fn read_scratch(&self, offset: u64, len: usize, to: &mut Scratch) -> Result<()> {
        if len > SCRATCH {
            to.small_len = None;
            return self.read_into(offset, len, &mut to.large);
        }
        // SAFETY: the array has room for `len` bytes; all of them are written before the length says so.
        unsafe { self.copy_out(offset, to.small.as_mut_ptr().cast(), len)? };
        to.small_len = Some(len);
        Ok(())
    }

    /// Copies out into a vector's spare room and makes it that long.
    #[inline]
    pub fn read_into(&self, offset: u64, len: usize, to: &mut Vec<u8>) -> Result<()> {
        to.clear();
        fallible::reserve(to, len, "a record")?;
        // SAFETY: room for `len` bytes was reserved; all of them are written before the length says so.
        unsafe {
            self.copy_out(offset, to.as_mut_ptr(), len)?;
            to.set_len(len);
        }
        Ok(())
    }

    /// Copies bytes in, one part after the other. `offset` is a multiple of 8, and up to the next such multiple after the
    /// last part nobody else's bytes lie.
    #[inline]
    pub fn copy_in(&self, offset: u64, parts: &[&[u8]]) -> Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        debug_assert!(self.writable);
        let mut to = self.within(offset, total.next_multiple_of(8) as u64)?;
        if total < WORDWISE && offset.is_multiple_of(8) {
            let mut bytes = [0_u64; WORDWISE / 8];
            let mut at = 0;
            for part in parts {
                // SAFETY: the parts together are shorter than the array; it does not overlap them.
                unsafe {
                    let gathered = bytes.as_mut_ptr().cast::<u8>().add(at);
                    std::ptr::copy_nonoverlapping(part.as_ptr(), gathered, part.len());
                }
                at += part.len();
            }
            let words = to.cast::<AtomicU64>();
            for (i, word) in bytes[..total.div_ceil(8)].iter().enumerate() {
                // SAFETY: in bounds (rounded up above), aligned; relaxed stores may race with readers that will refuse.
                unsafe { (*words.add(i)).store(*word, Ordering::Relaxed) };
            }
            return Ok(());
        }
        for part in parts {
            // SAFETY: the sum of the parts is in bounds, and the segment's memory never overlaps a private slice.
            unsafe {
                opaque_copy(to, part.as_ptr(), part.len());
                to = to.add(part.len());
            }
        }
        Ok(())
    }

    /// Copies out to a slice, from anywhere.
    pub fn copy_to(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        let from = self.within(offset, to.len() as u64)?;
        // SAFETY: in bounds; a private slice does not overlap the segment's memory.
        unsafe { opaque_copy(to.as_mut_ptr(), from, to.len()) };
        Ok(())
    }

    /// Copies into a span that the caller is filling: nobody else stores there, and nobody takes what he reads there.
    pub fn fill(&self, offset: u64, part: &[u8]) -> Result<()> {
        debug_assert!(self.writable);
        let to = self.within(offset, part.len() as u64)?;
        // SAFETY: in bounds; the segment's memory never overlaps a private slice.
        unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), to, part.len()) };
        Ok(())
    }

    /// Clears bytes; `offset` and `len` are multiples of 8.
    pub fn zero(&self, offset: u64, len: usize) -> Result<()> {
        debug_assert!(self.writable && offset.is_multiple_of(8) && len.is_multiple_of(8));
        let words = self.within(offset, len as u64)?.cast::<AtomicU64>();
        for i in 0..len / 8 {
            // SAFETY: in bounds and aligned; readers of what stood here before may race, and will refuse.
            unsafe { (*words.add(i)).store(0, Ordering::Relaxed) };
        }
        Ok(())
    }

    /// The address of an offset, for system calls that want one.
    pub fn address(&self, offset: u64, len: usize) -> Result<*mut u8> {
        self.within(offset, len as u64)
    }
}

/// A private copy of something shared, filled by a call of the system.
pub struct Copied<T>(Vec<MaybeUninit<T>>);

impl<T: Shared> Copied<T> {
    /// All zeros.
    pub fn new() -> Result<Self> {
        // In a vector, whose making can fail; it is as long as a `T` and aligned as one.
        let mut place = fallible::with_room::<MaybeUninit<T>>(1, "a copy of the segment's own lists")?;
        place.push(MaybeUninit::zeroed());
        Ok(Copied(place))
    }

    /// Its bytes, to be filled.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes, initialised, and borrowed as a whole.
        unsafe { std::slice::from_raw_parts_mut(self.0[0].as_mut_ptr().cast(), size_of::<T>()) }
    }

    /// What they are.
    pub fn get(&self) -> &T {
        // SAFETY: `Shared` types have no invalid values, and all bytes are initialised.
        unsafe { self.0[0].assume_init_ref() }
    }
}

/// Bytes that a scratch buffer holds without allocating.
const SCRATCH: usize = 512;

/// Where a record is copied to: on the stack while it is short.
pub struct Scratch {
    small: [MaybeUninit<u8>; SCRATCH],
    /// Bytes of `small` that are written, where the last copy went there.
    small_len: Option<usize>,
    large: Vec<u8>,
}

impl Scratch {
    /// Empty; costs nothing.
    #[inline(always)]
    #[allow(clippy::new_without_default, reason = "a local variable, never a field")]
    pub fn new() -> Self {
        Scratch { small: [const { MaybeUninit::uninit() }; SCRATCH], small_len: None, large: Vec::new() }
    }

    /// Room for so many bytes that come another way.
    pub fn filled(&mut self, len: usize) -> Result<&mut [u8]> {
        self.small_len = None;
        self.large.clear();
        fallible::reserve(&mut self.large, len, "a record")?;
        self.large.resize(len, 0);
        Ok(&mut self.large)
    }

    /// Nothing of so many bytes at most will ask for memory any more.
    pub fn prepare(&mut self, len: usize) -> Result<()> {
        self.large.clear();
        fallible::reserve(&mut self.large, len, "a record")
    }

    /// What was copied last.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        match self.small_len {
            // SAFETY: so many bytes were written by `read_scratch`.
            Some(len) => unsafe { std::slice::from_raw_parts(self.small.as_ptr().cast(), len) },
            None => &self.large,
        }
    }
}

#[cold]
fn allow_threads(offset: u64) -> Error {
    Error::corrupt(format_args!("offset {offset} lies outside of it"))
}

/// Copies by instructions that the optimiser does not see through.
///
/// # Safety
/// Both ranges are valid for `len` bytes and do not overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
unsafe fn opaque_copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Copies by instructions that the optimiser does not see through.
///
/// # Safety
/// Both ranges are valid for `len` bytes and do not overlap.
#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline(always)]
unsafe fn opaque_copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        std::arch::asm!(
            "2: cmp {n}, #16", "b.lo 3f",
            "ldp {t}, {u}, [{s}], #16", "stp {t}, {u}, [{d}], #16", "sub {n}, {n}, #16", "b 2b",
            "3: cbz {n}, 4f",
            "ldrb {t:w}, [{s}], #1", "strb {t:w}, [{d}], #1", "sub {n}, {n}, #1", "b 3b",
            "4:",
            n = inout(reg) len => _, d = inout(reg) to => _, s = inout(reg) from => _,
            t = out(reg) _, u = out(reg) _, options(nostack)
        );
    }
}

/// Miri runs no assembly, and its tests copy on one thread.
///
/// # Safety
/// Both ranges are valid for `len` bytes and do not overlap.
#[cfg(miri)]
unsafe fn opaque_copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("shmvar is written for Linux on x86-64 and aarch64");

#[cfg(test)]
mod tests {
    use super::*;

    fn with_memory(test: impl FnOnce(&Mem)) {
        let mut map = memmap2::MmapMut::map_anon(65_536).unwrap();
        // SAFETY: the map outlives the use.
        test(&unsafe { Mem::new(map.as_mut_ptr(), 65_536, true) });
    }

    #[test]
    fn offsets_outside_are_errors() {
        with_memory(|mem| {
            for offset in [65_529, 65_536, u64::MAX, 1 << 63, 3] {
                assert!(mem.at::<AtomicU64>(offset).is_err(), "{offset}");
            }
            assert!(mem.at::<AtomicU64>(65_528).is_ok());
            assert!(mem.copy_in(65_528, &[&[0; 4], &[0; 5]]).is_err());
            assert!(mem.read_into(65_536 - 8, 9, &mut Vec::new()).is_err());
        });
    }

    #[test]
    fn copies_of_every_length_and_alignment_are_whole() {
        with_memory(|mem| {
            let mut back = Vec::new();
            for len in (0..600).chain([4096, 16_320]) {
                let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + 1) as u8).collect();
                for offset in [16_384, 16_392] {
                    mem.copy_in(offset, &[&bytes[..len / 3], &bytes[len / 3..]]).unwrap();
                    mem.read_into(offset, len, &mut back).unwrap();
                    assert_eq!(back, bytes);
                }
            }
        });
    }
}
