//! The stack of the pickle machine that reads containers: references to objects, some owned and some borrowed.
//!
//! A borrowed reference costs nothing. It is for an object that something else keeps alive for as long as it may be on
//! the stack: a value of the memo, most often a key that a thousand dicts have.

use pyo3::ffi;
use pyo3::prelude::*;

/// A reference to an object, or none: the place of a dict that is not made yet.
#[derive(Clone, Copy)]
pub(super) struct Reference {
    /// The address, plus [`BORROWED`] if the reference is not owned. Objects begin at even addresses.
    tagged: *mut ffi::PyObject,
}

/// The bit of an address that is set in a borrowed reference.
const BORROWED: usize = 1;

impl Reference {
    /// The object, or null.
    #[inline(always)]
    pub fn object(self) -> *mut ffi::PyObject {
        self.tagged.map_addr(|address| address & !BORROWED)
    }

    #[inline(always)]
    fn is_borrowed(self) -> bool {
        self.tagged.addr() & BORROWED != 0
    }
}

/// The stack. Dropping it gives its owned references back.
#[derive(Default)]
pub(super) struct ObjectStack(Vec<Reference>);

impl Drop for ObjectStack {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

/// There is no memory for one more reference.
pub(super) struct NoRoom;

impl ObjectStack {
    pub const fn new() -> Self {
        ObjectStack(Vec::new())
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self) -> Result<(), NoRoom> {
        self.0.try_reserve(32).map_err(|_| NoRoom)
    }

    #[inline(always)]
    fn push(&mut self, reference: Reference) -> Result<(), NoRoom> {
        if self.0.len() == self.0.capacity() {
            if let Err(none) = self.make_room() {
                if !reference.is_borrowed() {
                    // SAFETY: the reference is owned, or null.
                    unsafe { ffi::Py_XDECREF(reference.tagged) };
                }
                return Err(none);
            }
        }
        self.0.push(reference);
        Ok(())
    }

    /// Pushes a reference, which the stack owns from now on (also if there is no room), or the place of a dict (null).
    ///
    /// # Safety
    /// `object` is a reference that the caller owns, or null.
    #[inline(always)]
    pub unsafe fn push_owned(&mut self, object: *mut ffi::PyObject) -> Result<(), NoRoom> {
        self.push(Reference { tagged: object })
    }

    /// Pushes a borrowed reference.
    ///
    /// # Safety
    /// The object lives for as long as the reference is on the stack.
    #[inline(always)]
    pub unsafe fn push_borrowed(&mut self, object: *mut ffi::PyObject) -> Result<(), NoRoom> {
        self.push(Reference { tagged: object.map_addr(|address| address | BORROWED) })
    }

    /// The references from `start` on. Their objects are alive, but for places of dicts, which are null.
    #[inline(always)]
    pub fn items_from(&self, start: usize) -> &[Reference] {
        &self.0[start..]
    }

    /// The object at a place.
    #[inline(always)]
    pub fn get(&self, at: usize) -> Option<*mut ffi::PyObject> {
        self.0.get(at).map(|reference| reference.object())
    }

    /// Puts a reference, which the stack owns from now on, into the place of a dict.
    ///
    /// # Safety
    /// As for `push_owned`, and the place is null.
    #[inline(always)]
    pub unsafe fn fill_place(&mut self, at: usize, object: *mut ffi::PyObject) {
        self.0[at] = Reference { tagged: object };
    }

    /// Moves the references from `start` on to `take`, which gets a number from 0 on and an owned reference.
    #[inline(always)]
    pub fn move_from(&mut self, start: usize, mut take: impl FnMut(usize, *mut ffi::PyObject)) {
        for (at, reference) in self.0[start..].iter().enumerate() {
            if reference.is_borrowed() {
                // SAFETY: it is a living object.
                unsafe { ffi::Py_INCREF(reference.object()) };
            }
            take(at, reference.object());
        }
        // SAFETY: the vector is longer. Its references from `start` on were moved.
        unsafe { self.0.set_len(start) };
    }

    /// Gives the references from `start` on back.
    #[inline(always)]
    pub fn truncate(&mut self, start: usize) {
        for reference in &self.0[start..] {
            if !reference.is_borrowed() {
                // SAFETY: the reference is owned, or null.
                unsafe { ffi::Py_XDECREF(reference.tagged) };
            }
        }
        self.0.truncate(start);
    }

    /// Removes the last reference and returns it.
    pub fn pop<'py>(&mut self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let reference = self.0.pop()?;
        // SAFETY: it is an owned or a borrowed reference, or null.
        unsafe {
            match reference.is_borrowed() {
                true => Bound::from_borrowed_ptr_or_opt(py, reference.object()),
                false => Bound::from_owned_ptr_or_opt(py, reference.object()),
            }
        }
    }
}
