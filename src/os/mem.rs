//! Checked access to the bytes of a mapped segment: every offset is compared with the length of the map.
//!
//! Other processes store here at any time. So nothing but atomics is ever borrowed, and bytes are copied as relaxed
//! words or by `opaque_copy`. Whether a copy is consistent is not decided here.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{IntentArea, Shared, Slot, State, at};
use crate::os::opaque_copy::{self, opaque_copy};
use crate::os::scratch::SCRATCH_SMALL;
pub use crate::os::scratch::{CopyTarget, Scratch, SharedCopy};
use std::mem::{align_of, size_of};
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, Ordering};

/// Private to the process: the bytes of a mapped segment. It does not own the map: its maker keeps the map for longer
/// than this lives.
pub struct Mem {
    /// First address of the longest map.
    base: AtomicPtr<u8>,
    /// Length of the longest map. It only grows.
    len: AtomicU64,
    writable: bool,
    /// Makes a longer map when an offset lies behind the longest one.
    extender: Option<Box<dyn MapExtender>>,
}

/// Maps more of an object whose length has grown.
pub trait MapExtender: Send + Sync {
    /// Makes a map of at least `least` bytes, unless the last map is that long already, and calls `publish` with its
    /// address and length. One thread at a time gets there, and each published map is longer than the one before. Every
    /// map stays as long as this extender does. Returns `false` if the object is shorter than `least` bytes.
    fn extend(&self, least: u64, publish: &mut dyn FnMut(*mut u8, u64)) -> Result<bool>;
}

/// A copy of this many bytes or more is made by one string instruction instead of words.
const WORDWISE: usize = 256;

impl Mem {
    /// Wraps a map.
    ///
    /// # Safety
    /// `base` is page-aligned and maps `len` bytes, which are at least the fixed part, for as long as the result lives.
    /// With `writable`, the bytes may be stored to.
    pub unsafe fn new(base: *mut u8, len: u64, writable: bool) -> Self {
        assert!(len >= at::PARTICIPANTS && base.addr().is_multiple_of(4096), "a mapping shorter than the fixed part");
        Mem { base: AtomicPtr::new(base), len: AtomicU64::new(len), writable, extender: None }
    }

    /// Returns the same memory, of which `extender` can map more.
    pub fn with_extender(self, extender: Box<dyn MapExtender>) -> Self {
        Mem { extender: Some(extender), ..self }
    }

    /// Returns the address of `len` bytes at an offset. Maps more of the object if the longest map ends before them.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the object is too short.
    #[inline(always)]
    fn pointer(&self, offset: u64, len: u64) -> Result<*mut u8> {
        // SYNC: acquire, paired with the release in `map_more`: a thread that sees a length sees the address of the map
        // with that length, or of a longer one.
        let mapped = self.len.load(Ordering::Acquire);
        if offset > mapped || mapped - offset < len {
            self.map_more(offset, len)?;
        }
        // SAFETY: the bytes lie within the map, as was just checked.
        Ok(unsafe { self.base.load(Ordering::Relaxed).add(offset as usize) })
    }

    /// Maps as much of the object as an access to `len` bytes at `offset` needs. References into shorter maps stay
    /// valid.
    #[cold]
    fn map_more(&self, offset: u64, len: u64) -> Result<()> {
        let (Some(end), Some(extender)) = (offset.checked_add(len), &self.extender) else {
            return Err(out_of_bounds(offset));
        };
        let mapped = extender.extend(end, &mut |base, mapped| {
            self.base.store(base, Ordering::Relaxed);
            self.len.store(mapped, Ordering::Release);
        })?;
        if mapped { Ok(()) } else { Err(out_of_bounds(offset)) }
    }

    /// Maps at least the first `end` bytes of the object.
    #[inline(always)]
    pub fn map_up_to(&self, end: u64) -> Result<()> {
        if self.len.load(Ordering::Acquire) < end { self.map_more(0, end) } else { Ok(()) }
    }

    /// Returns the `T` at an offset.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the object is too short, or if the offset is not aligned for a `T`.
    #[inline(always)]
    pub fn at<T: Shared>(&self, offset: u64) -> Result<&T> {
        if !offset.is_multiple_of(align_of::<T>() as u64) {
            return Err(out_of_bounds(offset));
        }
        let pointer = self.pointer(offset, size_of::<T>() as u64)?.cast::<T>();
        // SAFETY: the bytes are mapped and aligned. `Shared` types consist of atomics and have no invalid values.
        Ok(unsafe { &*pointer })
    }

    /// Returns `count` slots that stand one after the other from an offset on.
    #[inline(always)]
    pub fn slots(&self, offset: u64, count: u64) -> Result<&[Slot]> {
        let bytes = count * size_of::<Slot>() as u64;
        if !offset.is_multiple_of(align_of::<Slot>() as u64) {
            return Err(out_of_bounds(offset));
        }
        let first = self.pointer(offset, bytes)?.cast::<Slot>();
        // SAFETY: the bytes are mapped and aligned. A slot consists of atomics and has no invalid values.
        Ok(unsafe { std::slice::from_raw_parts(first, count as usize) })
    }

    /// Returns `count` words that stand one after the other from an offset on.
    #[inline(always)]
    pub fn words(&self, offset: u64, count: u64) -> Result<&[AtomicU64]> {
        if !offset.is_multiple_of(8) {
            return Err(out_of_bounds(offset));
        }
        let first = self.pointer(offset, count * 8)?.cast::<AtomicU64>();
        // SAFETY: the bytes are mapped and aligned, and any value is one of a word.
        Ok(unsafe { std::slice::from_raw_parts(first, count as usize) })
    }

    /// Returns `count` bytes from an offset on.
    pub fn bytes(&self, offset: u64, count: u64) -> Result<&[AtomicU8]> {
        let first = self.pointer(offset, count)?.cast::<AtomicU8>();
        // SAFETY: the bytes are mapped, and any value is one of a byte.
        Ok(unsafe { std::slice::from_raw_parts(first, count as usize) })
    }

    /// Returns the state.
    #[inline(always)]
    pub fn state(&self) -> &State {
        // SAFETY: the assertion in `new` covers the fixed part, and its offsets are aligned, as the compiler checks.
        unsafe { &*self.base.load(Ordering::Relaxed).add(at::STATE as usize).cast::<State>() }
    }

    /// Returns the intent.
    #[inline(always)]
    pub fn intent(&self) -> &IntentArea {
        // SAFETY: the assertion in `new` covers the fixed part, and its offsets are aligned, as the compiler checks.
        unsafe { &*self.base.load(Ordering::Relaxed).add(at::INTENT as usize).cast::<IntentArea>() }
    }

    /// Returns `true` if the bytes may be stored to.
    pub fn writable(&self) -> bool {
        self.writable
    }

    /// Returns the number of bytes that are mapped now.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Copies `len` bytes from an offset to private memory. Words are used where the copy is short and `offset` is a
    /// multiple of 8.
    ///
    /// # Safety
    /// `to` is valid for `len` bytes of writes and not part of the segment.
    #[inline]
    pub unsafe fn copy_out(&self, offset: u64, to: *mut u8, len: usize) -> Result<()> {
        let from = self.pointer(offset, len.next_multiple_of(8) as u64)?;
        if len >= WORDWISE || !offset.is_multiple_of(8) {
            // SAFETY: the source is mapped, and the caller promises that the destination is valid.
            unsafe { opaque_copy(to, from, len) };
            return Ok(());
        }
        let words = from.cast::<AtomicU64>();
        for i in 0..len / 8 {
            // SAFETY: the word is mapped and aligned; relaxed loads may race with stores of other processes.
            unsafe { to.add(i * 8).cast::<u64>().write_unaligned((*words.add(i)).load(Ordering::Relaxed)) };
        }
        let (done, tail) = (len & !7, len & 7);
        if tail != 0 {
            // SAFETY: the whole last word is mapped, for the length was rounded up; only `tail` bytes are written.
            unsafe {
                let last = (*words.add(done / 8)).load(Ordering::Relaxed).to_ne_bytes();
                std::ptr::copy_nonoverlapping(last.as_ptr(), to.add(done), tail);
            }
        }
        Ok(())
    }

    /// Copies `len` bytes from an offset into a scratch buffer.
    #[inline]
    pub fn read_scratch(&self, offset: u64, len: usize, to: &mut Scratch) -> Result<()> {
        if len > SCRATCH_SMALL {
            return self.read_into(offset, len, to.large());
        }
        // SAFETY: the array has room for `len` bytes, and all of them are written before `small_len` says so.
        unsafe { self.copy_out(offset, to.small.as_mut_ptr().cast(), len)? };
        to.small_len = Some(len);
        Ok(())
    }

    /// Copies `len` bytes from an offset into a vector, whose contents they replace.
    #[inline]
    pub fn read_into(&self, offset: u64, len: usize, to: &mut Vec<u8>) -> Result<()> {
        to.clear();
        fallible::reserve(to, len, "a record")?;
        // SAFETY: room for `len` bytes was reserved, and all of them are written before the length is set.
        unsafe {
            self.copy_out(offset, to.as_mut_ptr(), len)?;
            to.set_len(len);
        }
        Ok(())
    }

    /// Copies `len` bytes from an offset to the end of a vector.
    #[inline]
    pub fn append(&self, offset: u64, len: usize, to: &mut Vec<u8>) -> Result<()> {
        fallible::reserve(to, len, "a record")?;
        // SAFETY: room for `len` more bytes was reserved, and all of them are written before the length is set.
        unsafe {
            self.copy_out(offset, to.as_mut_ptr().add(to.len()), len)?;
            to.set_len(to.len() + len);
        }
        Ok(())
    }

    /// Asks the processor to fetch the line at an offset, which is loaded soon. An offset that is not mapped is passed
    /// over.
    #[inline(always)]
    pub fn prefetch(&self, offset: u64) {
        if offset < self.len.load(Ordering::Acquire) {
            // The address is computed without a promise that it lies within the map, since nothing is loaded from it.
            opaque_copy::prefetch(self.base.load(Ordering::Relaxed).wrapping_add(offset as usize));
        }
    }

    /// Copies private parts to an offset, one after the other. Readers may look at the same bytes meanwhile. The bytes
    /// up to the next multiple of 8 after the last part must belong to the caller, too, for they may be overwritten
    /// with zeros.
    #[inline]
    pub fn copy_in(&self, offset: u64, parts: &[&[u8]]) -> Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        debug_assert!(self.writable);
        let mut to = self.pointer(offset, total.next_multiple_of(8) as u64)?;
        if total < WORDWISE && offset.is_multiple_of(8) {
            let mut gathered = [0_u64; WORDWISE / 8];
            let mut len = 0;
            for part in parts {
                // SAFETY: the parts together are shorter than the array, and the array does not overlap them.
                unsafe {
                    let end = gathered.as_mut_ptr().cast::<u8>().add(len);
                    std::ptr::copy_nonoverlapping(part.as_ptr(), end, part.len());
                }
                len += part.len();
            }
            let words = to.cast::<AtomicU64>();
            for (i, word) in gathered[..total.div_ceil(8)].iter().enumerate() {
                // SAFETY: the words are mapped, for the length was rounded up, and aligned. Relaxed stores may race
                // with readers, which will find that the slot has changed and refuse their copy.
                unsafe { (*words.add(i)).store(*word, Ordering::Relaxed) };
            }
            return Ok(());
        }
        for part in parts {
            // SAFETY: all parts together fit into the map, and the segment's memory never overlaps a private slice.
            unsafe {
                opaque_copy(to, part.as_ptr(), part.len());
                to = to.add(part.len());
            }
        }
        Ok(())
    }

    /// Copies bytes from any offset to a private slice.
    pub fn copy_to(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        self.fill(offset, &mut to.into())
    }

    /// Fills private memory with bytes from any offset.
    pub fn fill(&self, offset: u64, to: &mut CopyTarget<'_>) -> Result<()> {
        let from = self.pointer(offset, to.len() as u64)?;
        // SAFETY: the bytes are mapped, and the target, which is private, does not overlap the segment's memory.
        unsafe { opaque_copy(to.ptr(), from, to.len()) };
        Ok(())
    }

    /// Copies a private slice to an offset in a span that this process has reserved and not published. No other process
    /// stores there, and a reader that looks there refuses what it reads, so a plain copy is used, which is the fastest
    /// one.
    pub fn write_unpublished(&self, offset: u64, part: &[u8]) -> Result<()> {
        debug_assert!(self.writable);
        let to = self.pointer(offset, part.len() as u64)?;
        // SAFETY: the bytes are mapped, and the segment's memory never overlaps a private slice.
        unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), to, part.len()) };
        Ok(())
    }

    /// Stores zeros. `offset` and `len` are multiples of 8.
    pub fn zero(&self, offset: u64, len: usize) -> Result<()> {
        debug_assert!(self.writable && offset.is_multiple_of(8) && len.is_multiple_of(8));
        let words = self.pointer(offset, len as u64)?.cast::<AtomicU64>();
        for i in 0..len / 8 {
            // SAFETY: the word is mapped and aligned. Readers of what stood here before may race, and will refuse their
            // copy.
            unsafe { (*words.add(i)).store(0, Ordering::Relaxed) };
        }
        Ok(())
    }

    /// Returns the address of `len` bytes at an offset, for system calls and objects that need one.
    pub fn address(&self, offset: u64, len: usize) -> Result<*mut u8> {
        self.pointer(offset, len as u64)
    }
}

/// Returns the error for an offset that lies outside of the segment, or is not aligned.
#[cold]
fn out_of_bounds(offset: u64) -> Error {
    Error::corrupt(format_args!("offset {offset} lies outside of it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_memory(test: impl FnOnce(&Mem)) {
        let mut map = memmap2::MmapMut::map_anon(65_536).unwrap();
        // SAFETY: the map is page-aligned, has that length, and outlives the use.
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
