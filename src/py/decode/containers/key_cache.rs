//! Short texts that were keys of dicts: values with the same keys get the same objects.
//!
//! Creating a str, and hashing it for the dict, takes longer than all else about a short key. So the last keys that
//! were met are kept, one for each place of a small table.

use crate::py::decode::text::new_text;
use pyo3::ffi;
use pyo3::prelude::*;

/// Number of places.
const PLACES: usize = 256;
/// The longest text that is kept, in bytes.
const LONGEST: usize = 23;

/// A text and its str.
struct Place {
    len: u8,
    text: [u8; LONGEST],
    object: Option<Py<PyAny>>,
}

/// The table.
pub(super) struct KeyCache([Place; PLACES]);

impl KeyCache {
    pub const fn new() -> Self {
        KeyCache([const { Place { len: 0, text: [0; LONGEST], object: None } }; PLACES])
    }

    /// The str of a text, as [`new_text`] makes it.
    #[inline(always)]
    pub fn text(&mut self, py: Python<'_>, text: &[u8]) -> *mut ffi::PyObject {
        if text.len() > LONGEST {
            return new_text(py, text);
        }
        let place = &mut self.0[place(text)];
        match &place.object {
            Some(object) if place.text[..usize::from(place.len)] == *text => object.clone_ref(py).into_ptr(),
            _ => place.keep(py, text),
        }
    }
}

impl Place {
    #[cold]
    fn keep(&mut self, py: Python<'_>, text: &[u8]) -> *mut ffi::PyObject {
        let object = new_text(py, text);
        // SAFETY: it is an object that the caller owns, or null with an exception set.
        let kept = unsafe { Bound::from_borrowed_ptr_or_opt(py, object) };
        if kept.is_some() {
            self.text[..text.len()].copy_from_slice(text);
            self.len = text.len() as u8;
            self.object = kept.map(Bound::unbind);
        }
        object
    }
}

/// The place of a text: from its length, its first four and its last four bytes.
#[inline(always)]
fn place(text: &[u8]) -> usize {
    let word = |bytes: &[u8]| bytes.iter().fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
    let (first, last) = (text.first_chunk::<4>(), text.last_chunk::<4>());
    let (first, last) = match (first, last) {
        (Some(first), Some(last)) => (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into()),
        _ => (word(text), 0),
    };
    let mixed = (first | last << 32) ^ text.len() as u64;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % PLACES
}
