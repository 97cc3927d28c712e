//! Which containers are left to the pickler without a walk: those like the ones that had an object in them before.
//!
//! A walk that meets an object of another class was in vain, and the pickler begins anew. In a program, values of one
//! shape have mostly the same classes in them. So after two walks in vain, the next two values of the same shape go to
//! the pickler at once, then six, 14 and so on up to 62. The longer the walks were in vain, the less they cost. A value
//! that is walked through to its end ends that. (The numbers are even, so that of values that alternate, one with an
//! object and one without, each kind has its turn.)

use pyo3::ffi;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Number of shapes that are remembered: one for each place.
const PLACES: usize = 64;
/// The largest number of walks in vain that is counted. After that many, one value of 63 is walked through.
const COUNTED: u64 = 6;

/// A place: 48 bits of the shape's hash, 8 bits with the number of walks in vain, and 8 bits with the number of values
/// that are still left to the pickler.
static SHAPES: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];
/// Whether any shape was ever remembered. Most programs store no such values, and pay no more than this.
static ANY: AtomicBool = AtomicBool::new(false);

/// What the containers of one shape have in common.
#[derive(Clone, Copy)]
pub(super) struct Shape(u64);

impl Shape {
    /// The shape of a container: its class, the number of its items up to a power of two, and the hash of its first key
    /// if that is a str, or the classes of its first and last item.
    ///
    /// # Safety
    /// `object` is an exact dict, list, tuple, set or frozenset of class `class`. The interpreter is attached.
    pub unsafe fn of(object: *mut ffi::PyObject, class: *mut ffi::PyTypeObject) -> Self {
        // SAFETY: the caller says which classes they are. Items are borrowed, and no code runs.
        let (len, first, last) = unsafe {
            if class == &raw mut ffi::PyDict_Type {
                let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
                ffi::PyDict_Next(object, &mut at, &mut key, &mut value);
                // The hash of a str is computed once and kept in it.
                let first = match ffi::PyDict_Size(object) {
                    0 => 0,
                    _ if ffi::Py_TYPE(key) == &raw mut ffi::PyUnicode_Type => ffi::PyObject_Hash(key) as usize,
                    _ => class_of(key),
                };
                (ffi::PyDict_Size(object), first, 0)
            } else if class == &raw mut ffi::PyList_Type {
                match ffi::PyList_Size(object) {
                    0 => (0, 0, 0),
                    len => {
                        (len, class_of(ffi::PyList_GetItem(object, 0)), class_of(ffi::PyList_GetItem(object, len - 1)))
                    }
                }
            } else if class == &raw mut ffi::PyTuple_Type {
                match ffi::PyTuple_Size(object) {
                    0 => (0, 0, 0),
                    len => (
                        len,
                        class_of(ffi::PyTuple_GetItem(object, 0)),
                        class_of(ffi::PyTuple_GetItem(object, len - 1)),
                    ),
                }
            } else {
                (ffi::PySet_Size(object), 0, 0)
            }
        };
        let parts = [class.addr(), first, last, len.checked_ilog2().unwrap_or(0) as usize];
        // The multiplier is the golden ratio of 2^64.
        Shape(
            parts
                .iter()
                .fold(0, |hash: u64, part| (hash ^ *part as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)),
        )
    }

    fn place(self) -> &'static AtomicU64 {
        &SHAPES[self.0 as usize % PLACES]
    }

    /// The bits of the hash that a place stores. They are never all 0.
    fn tag(self) -> u64 {
        (self.0 | 1 << 63) & !0xffff
    }

    /// Whether this value is left to the pickler without a walk.
    pub fn is_left(self) -> bool {
        let place = self.place().load(Ordering::Relaxed);
        let left = place & !0xffff == self.tag() && place & 0xff != 0;
        if left {
            self.place().store(place - 1, Ordering::Relaxed);
        }
        left
    }

    /// A walk through a value of this shape was in vain.
    pub fn was_refused(self) {
        let place = self.place().load(Ordering::Relaxed);
        let before = if place & !0xffff == self.tag() { place >> 8 & 0xff } else { 0 };
        let count = (before + 1).min(COUNTED);
        self.place().store(self.tag() | count << 8 | ((1 << count) - 2), Ordering::Relaxed);
        ANY.store(true, Ordering::Relaxed);
    }

    /// A value of this shape was walked through to its end.
    pub fn was_written(self) {
        if self.place().load(Ordering::Relaxed) & !0xffff == self.tag() {
            self.place().store(0, Ordering::Relaxed);
        }
    }
}

/// Whether any shape may be left to the pickler.
#[inline(always)]
pub(super) fn any() -> bool {
    ANY.load(Ordering::Relaxed)
}

/// The address of an item's class.
///
/// # Safety
/// `item` is a valid object.
unsafe fn class_of(item: *mut ffi::PyObject) -> usize {
    // SAFETY: the caller says so.
    unsafe { ffi::Py_TYPE(item) }.addr()
}
