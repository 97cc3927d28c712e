//! References to objects that are being put together.

use pyo3::ffi;

/// A stack of owned references. Dropping it gives them back; the interpreter must be attached for as long.
#[derive(Default)]
pub(super) struct ObjectStack(Vec<*mut ffi::PyObject>);

/// There is no memory for one more reference.
pub(super) struct NoRoom;

impl Drop for ObjectStack {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

impl ObjectStack {
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Pushes a reference, which the stack owns from now on, also if there is no room.
    ///
    /// # Safety
    /// `object` is a reference to an object that the caller owns.
    #[inline(always)]
    pub unsafe fn push(&mut self, object: *mut ffi::PyObject) -> Result<(), NoRoom> {
        if self.0.len() == self.0.capacity() && self.0.try_reserve(32).is_err() {
            // SAFETY: the reference is owned.
            unsafe { ffi::Py_DECREF(object) };
            return Err(NoRoom);
        }
        self.0.push(object);
        Ok(())
    }

    /// The object at a place. It lives as long as it stands there.
    #[inline(always)]
    pub fn get(&self, at: usize) -> *mut ffi::PyObject {
        self.0[at]
    }

    /// Moves the references from `start` on to `take`, which gets a number from 0 on and an owned reference.
    #[inline(always)]
    pub fn move_from(&mut self, start: usize, mut take: impl FnMut(usize, *mut ffi::PyObject)) {
        for (at, object) in self.0[start..].iter().enumerate() {
            take(at, *object);
        }
        // SAFETY: the vector is longer, and its references from `start` on were moved.
        unsafe { self.0.set_len(start) };
    }

    /// Puts a reference from `key` before each one from `start` on.
    pub fn interleave(
        &mut self,
        start: usize,
        mut key: impl FnMut(usize) -> Option<*mut ffi::PyObject>,
    ) -> Result<(), NoRoom> {
        let len = self.0.len() - start;
        let mut both = Vec::new();
        both.try_reserve_exact(2 * len + 2).map_err(|_| NoRoom)?;
        let mut both = ObjectStack(both);
        self.0.try_reserve(len + 2).map_err(|_| NoRoom)?;
        for at in 0..len {
            let Some(key) = key(at) else { return Err(NoRoom) };
            both.0.push(key);
        }
        // All keys are there, so nothing can fail from here on.
        let values: Vec<_> = std::mem::take(&mut both.0);
        self.0.resize(start + 2 * len, std::ptr::null_mut());
        for at in (0..len).rev() {
            self.0[start + 2 * at + 1] = self.0[start + at];
            self.0[start + 2 * at] = values[at];
        }
        Ok(())
    }

    /// Gives the references from `start` on back.
    #[inline(always)]
    pub fn truncate(&mut self, start: usize) {
        while self.0.len() > start {
            if let Some(object) = self.0.pop() {
                // SAFETY: the reference is owned.
                unsafe { ffi::Py_DECREF(object) };
            }
        }
    }

    /// Removes the last reference, which the caller owns from now on.
    pub fn pop(&mut self) -> Option<*mut ffi::PyObject> {
        self.0.pop()
    }
}
