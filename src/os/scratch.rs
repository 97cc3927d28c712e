//! Private buffers that bytes of a segment are copied to.

use crate::error::Result;
use crate::fallible;
use crate::format::Shared;
use std::mem::MaybeUninit;

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

/// Number of bytes that a scratch buffer holds without allocating.
pub(super) const SCRATCH_SMALL: usize = 512;

/// Private to the process: a buffer that a record is copied to. A short record stays on the stack.
pub struct Scratch {
    pub(super) small: [MaybeUninit<u8>; SCRATCH_SMALL],
    /// Number of initialised bytes of `small`, if the last copy is there. `None` if it is in `large`.
    pub(super) small_len: Option<usize>,
    pub(super) large: Vec<u8>,
}

impl Scratch {
    /// Makes an empty buffer, which costs nothing.
    #[inline(always)]
    #[allow(clippy::new_without_default, reason = "a local variable, never a field")]
    pub fn new() -> Self {
        Scratch { small: [const { MaybeUninit::uninit() }; SCRATCH_SMALL], small_len: None, large: Vec::new() }
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
