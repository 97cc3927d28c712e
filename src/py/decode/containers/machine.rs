//! The pickle machine that reads containers: what its opcodes do.

use super::dict_template::DictTemplate;
use super::stop::Stop;
use super::workspace::{Above, Vectors, Workspace};
use crate::py::decode::text::new_text;
use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;

/// The pickle machine, for these opcodes.
///
/// The memo and the template borrow their objects from the stack and from what stands there. No object leaves it during
/// the run: nothing is popped; no item of a container is replaced by another, which the lengths of dicts and sets tell;
/// and no other code runs, because the interpreter's lock is held and the garbage collector is off.
pub(super) struct Machine<'a, 'py> {
    pub py: Python<'py>,
    pub vectors: Vectors,
    /// Where the items above the last mark begin.
    fence: usize,
    /// What these items are.
    above: Above,
    template: DictTemplate,
    workspace: Option<&'a mut Workspace>,
}

impl<'a, 'py> Machine<'a, 'py> {
    pub fn new(py: Python<'py>, vectors: Vectors, workspace: Option<&'a mut Workspace>) -> Self {
        Machine { py, vectors, fence: 0, above: Above::Items, template: DictTemplate::new(), workspace }
    }

    /// What the next machine can use again.
    pub fn into_vectors(self) -> Vectors {
        self.vectors
    }

    /// Takes the exception that a call of the C interface has raised.
    #[cold]
    pub fn failed(&self) -> Stop {
        match PyErr::fetch(self.py).is_instance_of::<PyMemoryError>(self.py) {
            true => Stop::NoMemory,
            // A key that has no hash, or text that is no UTF-8.
            false => Stop::NotOurs,
        }
    }

    #[inline(always)]
    pub fn check(&self, status: std::ffi::c_int) -> Result<(), Stop> {
        if status == 0 { Ok(()) } else { Err(self.failed()) }
    }

    /// Pushes an object.
    ///
    /// # Safety
    /// It is a new reference, or null with an exception set.
    #[inline(always)]
    unsafe fn push_new(&mut self, object: *mut ffi::PyObject) -> Result<(), Stop> {
        if object.is_null() {
            return Err(self.failed());
        }
        // SAFETY: the caller says that the reference is owned.
        unsafe { self.vectors.stack.push_owned(object)? };
        Ok(())
    }

    /// Pushes `None`, `True` or `False`.
    pub fn constant(&mut self, value: Option<bool>) -> Result<(), Stop> {
        // SAFETY: each of them lives as long as the interpreter.
        unsafe {
            let object = match value {
                None => ffi::Py_None(),
                Some(true) => ffi::Py_True(),
                Some(false) => ffi::Py_False(),
            };
            self.vectors.stack.push_borrowed(object)?;
        }
        Ok(())
    }

    /// Pushes the place of a dict.
    #[inline(always)]
    pub fn push_place(&mut self) -> Result<(), Stop> {
        // SAFETY: null is such a place.
        unsafe { self.vectors.stack.push_owned(std::ptr::null_mut())? };
        Ok(())
    }

    #[inline(always)]
    pub fn float(&mut self, value: f64) -> Result<(), Stop> {
        // SAFETY: the interpreter is attached.
        unsafe { self.push_new(ffi::PyFloat_FromDouble(value)) }
    }

    #[inline(always)]
    pub fn empty_dict(&mut self) -> Result<(), Stop> {
        // SAFETY: the interpreter is attached.
        unsafe { self.push_new(ffi::PyDict_New()) }
    }

    pub fn empty_set(&mut self) -> Result<(), Stop> {
        // SAFETY: the interpreter is attached; null asks for an empty set.
        unsafe { self.push_new(ffi::PySet_New(std::ptr::null_mut())) }
    }

    #[inline(always)]
    pub fn mark(&mut self, above: Above) -> Result<(), Stop> {
        if self.vectors.marks.len() == self.vectors.marks.capacity() {
            self.vectors.marks.try_reserve(8).map_err(|_| Stop::NoMemory)?;
        }
        self.vectors.marks.push((self.fence, self.above));
        (self.fence, self.above) = (self.vectors.stack.len(), above);
        Ok(())
    }

    /// Pushes a str. A key comes from the cache.
    #[inline(always)]
    pub fn text(&mut self, text: &[u8]) -> Result<(), Stop> {
        let is_key = self.above != Above::Items && (self.vectors.stack.len() - self.fence).is_multiple_of(2);
        let object = match &mut self.workspace {
            Some(workspace) if is_key => workspace.keys.text(self.py, text),
            _ => new_text(self.py, text),
        };
        // SAFETY: it is new, or null.
        unsafe { self.push_new(object) }
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        // SAFETY: the bytes have this length.
        unsafe { self.push_new(ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as ffi::Py_ssize_t)) }
    }

    #[inline(always)]
    pub fn int(&mut self, value: i64) -> Result<(), Stop> {
        // SAFETY: the interpreter is attached.
        unsafe { self.push_new(ffi::PyLong_FromLong(value)) }
    }

    /// Pushes a bytearray.
    pub fn bytearray(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let len = bytes.len() as ffi::Py_ssize_t;
        // SAFETY: the bytes have this length.
        unsafe { self.push_new(ffi::PyByteArray_FromStringAndSize(bytes.as_ptr().cast(), len)) }
    }

    /// Pushes an int of at most 64 bits. For more, the unpickler is quicker: the stable interface takes digits only as
    /// text.
    pub fn long(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        match bytes {
            [word @ .., 0] if word.len() == 8 => {
                let number = word.try_into().map(u64::from_le_bytes).unwrap_or_default();
                // SAFETY: the interpreter is attached.
                unsafe { self.push_new(ffi::PyLong_FromUnsignedLongLong(number)) }
            }
            _ if bytes.len() <= 8 => {
                let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
                let mut word = if negative { [0xff; 8] } else { [0; 8] };
                word[..bytes.len()].copy_from_slice(bytes);
                self.int(i64::from_le_bytes(word))
            }
            _ => Err(Stop::NotOurs),
        }
    }

    /// Stores the top item in the memo.
    #[inline(always)]
    pub fn memoize(&mut self) -> Result<(), Stop> {
        let top = self.vectors.stack.get(self.last(1)?).ok_or(Stop::NotOurs)?;
        if self.vectors.memo.len() == self.vectors.memo.capacity() {
            self.vectors.memo.try_reserve(16).map_err(|_| Stop::NoMemory)?;
        }
        self.vectors.memo.push(top);
        Ok(())
    }

    /// Stores the top item in the memo. Picklers number the entries one after the other.
    pub fn put(&mut self, number: u32) -> Result<(), Stop> {
        match self.vectors.memo.len() == number as usize {
            true => self.memoize(),
            false => Err(Stop::NotOurs),
        }
    }

    #[inline(always)]
    pub fn get(&mut self, number: u32) -> Result<(), Stop> {
        let object = *self.vectors.memo.get(number as usize).ok_or(Stop::NotOurs)?;
        // SAFETY: the object lives until the end of the run, see `Machine`.
        unsafe { self.vectors.stack.push_borrowed(object)? };
        Ok(())
    }

    /// Where the last `len` items begin, all above the last mark.
    #[inline(always)]
    pub fn last(&self, len: usize) -> Result<usize, Stop> {
        match self.vectors.stack.len().checked_sub(len) {
            Some(start) if start >= self.fence => Ok(start),
            _ => Err(Stop::NotOurs),
        }
    }

    /// Removes the last mark. Returns where the items above it begin, and what they are.
    #[inline(always)]
    pub fn pop_any_mark(&mut self) -> Result<(usize, Above), Stop> {
        let below = self.vectors.marks.pop().ok_or(Stop::NotOurs)?;
        let last = (self.fence, self.above);
        (self.fence, self.above) = below;
        Ok(last)
    }

    /// Removes the last mark. Returns where the items above it begin. Only `SETITEMS` may remove a mark above the place
    /// of a dict.
    #[inline(always)]
    pub fn pop_mark(&mut self) -> Result<usize, Stop> {
        match self.pop_any_mark()? {
            (_, Above::OfNewDict) => Err(Stop::NotOurs),
            (start, _) => Ok(start),
        }
    }

    /// The item under `start`, above the last mark: the container that the items from `start` on are put into. It must
    /// be of this class.
    #[inline(always)]
    pub fn under(&self, start: usize, class: *mut ffi::PyTypeObject) -> Result<*mut ffi::PyObject, Stop> {
        if start <= self.fence {
            return Err(Stop::NotOurs);
        }
        let container = self.vectors.stack.get(start - 1).ok_or(Stop::NotOurs)?;
        // SAFETY: the object is on the stack. A place of a dict has a mark above it.
        if unsafe { ffi::Py_TYPE(container) } == class { Ok(container) } else { Err(Stop::NotOurs) }
    }

    /// Makes a list of the items from `start` on.
    #[inline(always)]
    pub fn list(&mut self, start: usize) -> Result<(), Stop> {
        // SAFETY: the interpreter is attached.
        let list = unsafe { ffi::PyList_New((self.vectors.stack.len() - start) as ffi::Py_ssize_t) };
        // SAFETY: it is new, and has so many places.
        unsafe { self.fill(list, start, ffi::PyList_SetItem) }
    }

    /// Makes a tuple of the items from `start` on.
    #[inline(always)]
    pub fn tuple(&mut self, start: usize) -> Result<(), Stop> {
        // SAFETY: the interpreter is attached.
        let tuple = unsafe { ffi::PyTuple_New((self.vectors.stack.len() - start) as ffi::Py_ssize_t) };
        // SAFETY: it is new, and has so many places.
        unsafe { self.fill(tuple, start, ffi::PyTuple_SetItem) }
    }

    /// Moves the items from `start` on into a new list or tuple, which takes their place.
    ///
    /// # Safety
    /// `container` is a new list or tuple with a place for each of them, or null with an exception set.
    #[inline(always)]
    unsafe fn fill(&mut self, container: *mut ffi::PyObject, start: usize, set_item: SetItem) -> Result<(), Stop> {
        if container.is_null() {
            return Err(self.failed());
        }
        self.vectors.stack.move_from(start, |at, item| {
            // SAFETY: the place is empty, nobody else sees the container, and the reference is moved into it. The call
            // fails only for what is no list or tuple, or has no such place.
            let status = unsafe { set_item(container, at as ffi::Py_ssize_t, item) };
            debug_assert_eq!(status, 0);
        });
        // SAFETY: the caller says that it is new.
        unsafe { self.push_new(container) }
    }

    /// Makes a frozenset of the items above the mark.
    pub fn frozenset(&mut self) -> Result<(), Stop> {
        let start = self.pop_mark()?;
        let len = self.vectors.stack.len() - start;
        self.list(start)?;
        let members = self.vectors.stack.pop(self.py).ok_or(Stop::NotOurs)?;
        // SAFETY: the interpreter is attached; the members are borrowed.
        unsafe { self.push_new(ffi::PyFrozenSet_New(members.as_ptr())) }?;
        let set = self.under(start + 1, &raw mut ffi::PyFrozenSet_Type)?;
        // SAFETY: it is a frozenset. Two equal members would be one.
        if unsafe { ffi::PySet_Size(set) } as usize == len { Ok(()) } else { Err(Stop::NotOurs) }
    }

    pub fn append_from(&mut self, start: usize) -> Result<(), Stop> {
        let list = self.under(start, &raw mut ffi::PyList_Type)?;
        for item in self.vectors.stack.items_from(start) {
            // SAFETY: it is a list, which the stack owns below `start`.
            self.check(unsafe { ffi::PyList_Append(list, item.object()) })?;
        }
        self.vectors.stack.truncate(start);
        Ok(())
    }

    /// Puts the keys and values above the mark into the dict under it, which is made first if it is a new one.
    #[inline(always)]
    pub fn set_items(&mut self) -> Result<(), Stop> {
        let (start, above) = self.pop_any_mark()?;
        if above != Above::OfNewDict {
            return self.set_items_from(start);
        }
        let items = self.vectors.stack.items_from(start);
        let copied = match self.template.has_keys(items) {
            // SAFETY: the template lives until the end of the run, see `Machine`.
            true => unsafe { self.template.copy() },
            false => None,
        };
        // SAFETY: the interpreter is attached.
        let dict = copied.unwrap_or_else(|| unsafe { ffi::PyDict_New() });
        if dict.is_null() {
            return Err(self.failed());
        }
        // SAFETY: the reference is new, and the place is below the mark.
        unsafe { self.vectors.stack.fill_place(start - 1, dict) };
        self.store_items(dict, start, 0)?;
        if copied.is_none() {
            self.template.set(dict, self.vectors.stack.items_from(start));
        }
        self.vectors.stack.truncate(start);
        Ok(())
    }

    /// Puts the keys and values from `start` on into the dict under them.
    pub fn set_items_from(&mut self, start: usize) -> Result<(), Stop> {
        let dict = self.under(start, &raw mut ffi::PyDict_Type)?;
        // SAFETY: it is a dict, which the stack owns below `start`.
        let before = unsafe { ffi::PyDict_Size(dict) };
        self.store_items(dict, start, before as usize)?;
        self.vectors.stack.truncate(start);
        Ok(())
    }

    /// Stores the keys and values from `start` on in a dict that has `before` others.
    ///
    /// A key that the dict has already would end its old value, which memo and stack may have borrowed. Among the items
    /// alone that cannot be: the stack owns them until the end. With others before them, each is looked at.
    #[inline(always)]
    pub fn store_items(&self, dict: *mut ffi::PyObject, start: usize, before: usize) -> Result<(), Stop> {
        let items = self.vectors.stack.items_from(start);
        for (at, pair) in items.chunks_exact(2).enumerate() {
            // SAFETY: it is a dict, which the stack owns below `start`.
            self.check(unsafe { ffi::PyDict_SetItem(dict, pair[0].object(), pair[1].object()) })?;
            // SAFETY: the same.
            if before > 0 && unsafe { ffi::PyDict_Size(dict) } as usize != before + at + 1 {
                return Err(Stop::NotOurs);
            }
        }
        // SAFETY: the same. Two equal keys would be one.
        let after = unsafe { ffi::PyDict_Size(dict) } as usize;
        if items.len().is_multiple_of(2) && after == before + items.len() / 2 { Ok(()) } else { Err(Stop::NotOurs) }
    }

    /// Puts the items above the mark into the set under it.
    pub fn add_items(&mut self) -> Result<(), Stop> {
        let start = self.pop_mark()?;
        let set = self.under(start, &raw mut ffi::PySet_Type)?;
        // SAFETY: it is a set, which the stack owns below `start`.
        let before = unsafe { ffi::PySet_Size(set) } as usize;
        for item in self.vectors.stack.items_from(start) {
            // SAFETY: the same.
            self.check(unsafe { ffi::PySet_Add(set, item.object()) })?;
        }
        // SAFETY: the same. Two equal members would be one.
        if unsafe { ffi::PySet_Size(set) } as usize != before + self.vectors.stack.len() - start {
            return Err(Stop::NotOurs);
        }
        self.vectors.stack.truncate(start);
        Ok(())
    }
}

/// `PyList_SetItem` or `PyTuple_SetItem`.
type SetItem = unsafe extern "C" fn(*mut ffi::PyObject, ffi::Py_ssize_t, *mut ffi::PyObject) -> std::ffi::c_int;
