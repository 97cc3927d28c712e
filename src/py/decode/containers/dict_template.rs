//! The last dict that was made, for dicts with the same keys: a list of records has a thousand.
//!
//! Copying a dict copies its hash table as a whole; putting the same keys into an empty dict builds the table anew.

use super::object_stack::Reference;
use pyo3::ffi;

/// The largest number of keys of a dict that is used as a template.
const KEYS: usize = 12;

/// A dict, and the addresses of its keys in their order.
pub(super) struct DictTemplate {
    /// Borrowed; null if there is none.
    dict: *mut ffi::PyObject,
    keys: [*mut ffi::PyObject; KEYS],
    len: usize,
}

impl DictTemplate {
    pub const fn new() -> Self {
        DictTemplate { dict: std::ptr::null_mut(), keys: [std::ptr::null_mut(); KEYS], len: 0 }
    }

    /// Whether the template has exactly these keys, in this order. `items` are keys and values in turn.
    #[inline(always)]
    pub fn has_keys(&self, items: &[Reference]) -> bool {
        self.len != 0
            && self.len * 2 == items.len()
            && self.keys.iter().zip(items.chunks_exact(2)).all(|(key, pair)| *key == pair[0].object())
    }

    /// A copy of the template. `None` if something was put into it since: it is no template any more. Null with an
    /// exception set if there is no memory.
    ///
    /// # Safety
    /// The interpreter is attached, there is a template, and it lives still.
    #[inline(always)]
    pub unsafe fn copy(&self) -> Option<*mut ffi::PyObject> {
        // SAFETY: the caller says that the dict lives.
        unsafe { (ffi::PyDict_Size(self.dict) as usize == self.len).then(|| ffi::PyDict_Copy(self.dict)) }
    }

    /// Takes a dict of these items as the template. Dicts with few or with many keys are none.
    #[inline(always)]
    pub fn set(&mut self, dict: *mut ffi::PyObject, items: &[Reference]) {
        let len = items.len() / 2;
        if (2..=KEYS).contains(&len) {
            self.len = len;
            self.keys.iter_mut().zip(items.chunks_exact(2)).for_each(|(place, pair)| *place = pair[0].object());
            self.dict = dict;
        }
    }
}
