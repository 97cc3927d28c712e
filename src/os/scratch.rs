//! Private buffers that bytes of a segment are copied to.

use crate::error::Result;
use crate::fallible;
use crate::format::Shared;
use std::cell::Cell;
use std::mem::{ManuallyDrop, MaybeUninit};

/// Private to the process: a copy of a struct in shared memory, which a system call (`pread`) fills.
pub struct SharedCopy<T>(Vec<MaybeUninit<T>>);

impl<T: Shared> SharedCopy<T> {
    /// Makes a copy of zeros.
    pub fn new() -> Result<Self> {
        // A vector of one element is used instead of a box, because its allocation can fail with an error.
        let mut place = fallible::with_room::<MaybeUninit<T>>(1, "a copy of the segment's own lists")?;
        place.push(MaybeUninit::zeroed());
        Ok(SharedCopy(place))
    }

    /// Returns the bytes of the copy, to be filled.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the element has that many bytes, all of them are initialised, and it is borrowed mutably as a whole.
        unsafe { std::slice::from_raw_parts_mut(self.0[0].as_mut_ptr().cast(), size_of::<T>()) }
    }

    /// Returns the copy as the struct.
    pub fn get(&self) -> &T {
        // SAFETY: `Shared` types have no invalid values, and all bytes are initialised.
        unsafe { self.0[0].assume_init_ref() }
    }
}

/// Private to the process: memory that a copy is to fill. It may never have been written yet, so it can be filled but
/// not read.
pub struct CopyTarget<'a>(&'a mut [MaybeUninit<u8>]);

impl<'a> CopyTarget<'a> {
    /// Makes a target of `len` bytes that may never have been written.
    ///
    /// # Safety
    /// `to` is valid for `len` bytes of writes for as long as the result lives, is not part of a segment, and nothing
    /// else reaches it meanwhile.
    pub unsafe fn new(to: *mut u8, len: usize) -> Self {
        // SAFETY: the caller promises it; bytes that may be uninitialised have no invalid values.
        CopyTarget(unsafe { std::slice::from_raw_parts_mut(to.cast(), len) })
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the first address.
    pub(super) fn ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    /// Returns the memory from byte `at` on, for a system call to fill.
    pub(super) fn from(&mut self, at: usize) -> &mut [MaybeUninit<u8>] {
        &mut self.0[at..]
    }
}

impl<'a> From<&'a mut [u8]> for CopyTarget<'a> {
    fn from(bytes: &'a mut [u8]) -> Self {
        // SAFETY: the slice is borrowed mutably. A target can only be filled, so its bytes stay initialised.
        unsafe { CopyTarget::new(bytes.as_mut_ptr(), bytes.len()) }
    }
}

/// Number of bytes that a scratch buffer holds without allocating.
pub(super) const SCRATCH_SMALL: usize = 512;

/// A longer buffer than this is freed when it is not used any more. The records of slabs are shorter.
const KEPT_MAX: usize = 32 << 10;

thread_local! {
    /// The buffer of the last long record that this thread copied, for the next one. To allocate one of that length,
    /// and to free it, takes longer than to copy some kilobytes.
    static KEPT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Private to the process: a buffer that a record is copied to. A short record stays on the stack.
pub struct Scratch {
    pub(super) small: [MaybeUninit<u8>; SCRATCH_SMALL],
    /// Number of initialised bytes of `small`, if the last copy is there. `None` if it is in `large`.
    pub(super) small_len: Option<usize>,
    /// It is dropped by [`Scratch::keep_large`], or is empty.
    pub(super) large: ManuallyDrop<Vec<u8>>,
}

impl Scratch {
    /// Makes an empty buffer, which costs nothing.
    #[inline(always)]
    #[allow(clippy::new_without_default, reason = "a local variable, never a field")]
    pub fn new() -> Self {
        Scratch {
            small: [const { MaybeUninit::uninit() }; SCRATCH_SMALL],
            small_len: None,
            large: ManuallyDrop::new(Vec::new()),
        }
    }

    /// Makes the buffer `len` bytes long and returns it, so that the caller can fill it.
    pub fn resize(&mut self, len: usize) -> Result<&mut [u8]> {
        self.small_len = None;
        self.large.clear();
        fallible::reserve(&mut self.large, len, "a record")?;
        self.large.resize(len, 0);
        Ok(&mut self.large)
    }

    /// Allocates memory for `len` bytes. After that, copies of at most `len` bytes allocate nothing.
    pub fn reserve(&mut self, len: usize) -> Result<()> {
        self.large.clear();
        fallible::reserve(&mut self.large, len, "a record")
    }

    /// Replaces the first eight bytes, if there are so many.
    pub fn replace_start(&mut self, bytes: [u8; 8]) {
        match self.small_len {
            Some(len) if len >= 8 => {
                for (to, byte) in self.small.iter_mut().zip(bytes) {
                    to.write(byte);
                }
            }
            Some(_) => {}
            None => {
                if let Some(start) = self.large.first_chunk_mut() {
                    *start = bytes;
                }
            }
        }
    }

    /// Returns the buffer for a long record.
    pub(super) fn large(&mut self) -> &mut Vec<u8> {
        self.small_len = None;
        if self.large.capacity() == 0 {
            // A thread that is ending has none any more.
            *self.large = KEPT.try_with(Cell::take).unwrap_or_default();
        }
        &mut self.large
    }

    /// Returns the bytes that were copied last.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        match self.small_len {
            // SAFETY: `Mem::read_scratch` wrote that many bytes.
            Some(len) => unsafe { std::slice::from_raw_parts(self.small.as_ptr().cast(), len) },
            None => &self.large,
        }
    }
}

impl Scratch {
    /// Keeps the buffer of a long record for the next one.
    #[cold]
    #[inline(never)]
    fn keep_large(&mut self) {
        let large = std::mem::take(&mut *self.large);
        if large.capacity() <= KEPT_MAX {
            let _ = KEPT.try_with(|last| last.set(large));
        }
    }
}

impl Drop for Scratch {
    #[inline(always)]
    fn drop(&mut self) {
        if self.large.capacity() != 0 {
            self.keep_large();
        }
    }
}
