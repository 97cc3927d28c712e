//! Pickles exact `dict`, `list`, `tuple`, `set` and `frozenset` of scalars and of each other, without the pickler.
//!
//! The pickle is what `codec::writer` writes. As in the pickler's, a value that is met again is written once and taken
//! from the memo from then on, so what is shared comes back shared. A value can be met again only if it has more than
//! one reference: the others are not memoized.
//!
//! What is left to the pickler: whatever contains an object of any other class (of a derived one, too), a list or tuple
//! that contains itself, and containers too deep inside each other. An interpreter without a lock is not served:
//! another thread could change a container while it is walked through.

use super::address_memo::AddressMemo;
use super::refused_shapes::{self, Shape};
use crate::atomic::calls_are_serialized;
use crate::codec::writer::{NoMemory, PickleWriter};
use crate::py::collector::CollectorPaused;
use crate::py::create;
use pyo3::ffi;
use pyo3::prelude::*;

/// Number of containers inside each other that are walked through. Each takes some 200 bytes of this thread's stack.
const DEEPEST: usize = 100;

/// Why a walk ends early. It has the size of a word, so that the compiler copies a result of it in words.
#[repr(usize)]
enum Stop {
    /// The value is left to the pickler.
    NotOurs,
    /// There is no memory for pickle or memo.
    NoMemory,
    /// The interpreter has raised an exception.
    Raised,
}

impl From<NoMemory> for Stop {
    fn from(_: NoMemory) -> Self {
        Stop::NoMemory
    }
}

/// The pickle of a container. `None` if the value is left to the pickler.
pub(super) fn containers(value: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    // SAFETY: the object is borrowed.
    let class = unsafe { ffi::Py_TYPE(value.as_ptr()) };
    let ours = [&raw mut ffi::PyDict_Type, &raw mut ffi::PyList_Type, &raw mut ffi::PyTuple_Type]
        .into_iter()
        .chain([&raw mut ffi::PySet_Type, &raw mut ffi::PyFrozenSet_Type])
        .any(|one| one == class);
    if !ours || !calls_are_serialized() {
        return Ok(None);
    }
    // SAFETY: its class is one of the five.
    let shape = refused_shapes::any().then(|| unsafe { Shape::of(value.as_ptr(), class) });
    if shape.is_some_and(Shape::is_left) {
        return Ok(None);
    }
    let _paused = CollectorPaused::new(value.py());
    let walked = PickleWriter::new().map_err(Stop::from).and_then(|out| {
        let mut walk = Walk { out, memo: AddressMemo::new() };
        // SAFETY: the object is borrowed, and the interpreter's lock is held.
        unsafe { walk.other(value.as_ptr(), class, &Open::NONE)? };
        Ok(walk.out.finish()?)
    });
    match walked {
        Ok(pickle) => {
            if let Some(shape) = shape {
                shape.was_written();
            }
            Ok(Some(pickle))
        }
        Err(Stop::NotOurs) => {
            // SAFETY: as above.
            unsafe { Shape::of(value.as_ptr(), class) }.was_refused();
            Ok(None)
        }
        Err(Stop::NoMemory) => Err(create::no_memory()),
        Err(Stop::Raised) => Err(PyErr::fetch(value.py())),
    }
}

/// A walk through a value.
///
/// No Python code runs during the walk, and the interpreter's lock is not released. So no container changes, and each
/// object lives for as long as the walk. Two of the calls below create an object that the garbage collector knows (the
/// iterator of a set, an exception); in Python 3.11 that may start the collector, and with it any code, so the
/// collector is off during the walk.
struct Walk {
    out: PickleWriter,
    memo: AddressMemo,
}

/// A container that the walk is in, and those around it.
struct Open<'a> {
    address: usize,
    depth: usize,
    around: Option<&'a Open<'a>>,
}

impl Open<'_> {
    const NONE: Open<'static> = Open { address: 0, depth: 0, around: None };

    /// Whether the walk is in the container at this address.
    fn contains(&self, address: usize) -> bool {
        let mut open = Some(self);
        while let Some(one) = open {
            if one.address == address {
                return true;
            }
            open = one.around;
        }
        false
    }
}

impl Walk {
    /// Writes any value. Scalars are written in place, because they are most of what containers hold.
    ///
    /// # Safety
    /// `object` is a valid object, and the interpreter's lock is held. The same holds for all functions below.
    #[inline(always)]
    unsafe fn item(&mut self, object: *mut ffi::PyObject, open: &Open<'_>) -> Result<(), Stop> {
        // SAFETY: the caller says that it is an object; each function below is called for its own class.
        unsafe {
            let class = ffi::Py_TYPE(object);
            if class == &raw mut ffi::PyUnicode_Type {
                self.text(object)
            } else if class == &raw mut ffi::PyFloat_Type {
                Ok(self.out.float(ffi::PyFloat_AsDouble(object))?)
            } else if class == &raw mut ffi::PyLong_Type {
                self.int(object)
            } else {
                self.other(object, class, open)
            }
        }
    }

    /// Writes a value that is no text and no number.
    #[inline(never)]
    unsafe fn other(
        &mut self,
        object: *mut ffi::PyObject,
        class: *mut ffi::PyTypeObject,
        open: &Open<'_>,
    ) -> Result<(), Stop> {
        // SAFETY: as in `item`.
        unsafe {
            if object == ffi::Py_None() {
                return Ok(self.out.constant(None)?);
            } else if class == &raw mut ffi::PyBool_Type {
                return Ok(self.out.constant(Some(object == ffi::Py_True()))?);
            } else if class == &raw mut ffi::PyTuple_Type && ffi::PyTuple_Size(object) == 0 {
                return Ok(self.out.tuple(0)?);
            }
            // An object with one reference is in this place of this container and nowhere else.
            let shared = ffi::Py_REFCNT(object) != 1;
            if shared {
                if let Some(number) = self.memo.find(object.addr()) {
                    return Ok(self.out.get(number)?);
                }
            }
            if class == &raw mut ffi::PyBytes_Type {
                self.out.bytes(bytes_of(object)?)?;
                return self.memoize(object, shared);
            }
            // A dict may contain itself, because it is memoized before its items are written.
            if open.depth == DEEPEST || (shared && open.contains(object.addr())) {
                return Err(Stop::NotOurs);
            }
            let open = Open { address: object.addr(), depth: open.depth + 1, around: Some(open) };
            self.container(object, class, shared, &open)
        }
    }

    /// Writes a container, and memoizes it if it is shared.
    #[inline(always)]
    unsafe fn container(
        &mut self,
        object: *mut ffi::PyObject,
        class: *mut ffi::PyTypeObject,
        shared: bool,
        open: &Open<'_>,
    ) -> Result<(), Stop> {
        // SAFETY: as in `item`.
        unsafe {
            if class == &raw mut ffi::PyDict_Type {
                return self.dict(object, shared, open);
            } else if class == &raw mut ffi::PyList_Type {
                self.list(object, open)?;
            } else if class == &raw mut ffi::PyTuple_Type {
                self.tuple(object, open)?;
            } else if class == &raw mut ffi::PySet_Type {
                self.out.empty_set()?;
                self.memoize(object, shared)?;
                return match ffi::PySet_Size(object) {
                    0 => Ok(()),
                    _ => self.members(object, open).and_then(|()| Ok(self.out.add_items()?)),
                };
            } else if class == &raw mut ffi::PyFrozenSet_Type {
                self.members(object, open)?;
                self.out.frozenset()?;
            } else {
                return Err(Stop::NotOurs);
            }
            self.memoize(object, shared)
        }
    }

    unsafe fn dict(&mut self, object: *mut ffi::PyObject, shared: bool, open: &Open<'_>) -> Result<(), Stop> {
        self.out.empty_dict()?;
        let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: as in `item`.
        unsafe {
            self.memoize(object, shared)?;
            if ffi::PyDict_Size(object) == 0 {
                return Ok(());
            }
            self.out.mark()?;
            while ffi::PyDict_Next(object, &mut at, &mut key, &mut value) != 0 {
                self.item(key, open)?;
                self.item(value, open)?;
            }
        }
        Ok(self.out.set_items()?)
    }

    unsafe fn list(&mut self, object: *mut ffi::PyObject, open: &Open<'_>) -> Result<(), Stop> {
        // SAFETY: as in `item`.
        unsafe {
            let len = ffi::PyList_Size(object);
            if len == 0 {
                return Ok(self.out.empty_list()?);
            }
            self.out.mark()?;
            for at in 0..len {
                self.item(ffi::PyList_GetItem(object, at), open)?;
            }
        }
        Ok(self.out.list()?)
    }

    unsafe fn tuple(&mut self, object: *mut ffi::PyObject, open: &Open<'_>) -> Result<(), Stop> {
        // SAFETY: as in `item`.
        unsafe {
            let len = ffi::PyTuple_Size(object);
            if len > 3 {
                self.out.mark()?;
            }
            for at in 0..len {
                self.item(ffi::PyTuple_GetItem(object, at), open)?;
            }
            Ok(self.out.tuple(len as usize)?)
        }
    }

    /// Writes a mark and the members of a set.
    unsafe fn members(&mut self, object: *mut ffi::PyObject, open: &Open<'_>) -> Result<(), Stop> {
        self.out.mark()?;
        // SAFETY: as in `item`.
        unsafe {
            let iterator = OwnedReference(ffi::PyObject_GetIter(object));
            if iterator.0.is_null() {
                return Err(Stop::Raised);
            }
            loop {
                let member = ffi::PyIter_Next(iterator.0);
                if member.is_null() {
                    break;
                }
                // The set keeps the member, so this reference need not. Without it the count tells whether the member
                // is shared.
                ffi::Py_DECREF(member);
                self.item(member, open)?;
            }
            if ffi::PyErr_Occurred().is_null() { Ok(()) } else { Err(Stop::Raised) }
        }
    }

    #[inline(always)]
    unsafe fn int(&mut self, object: *mut ffi::PyObject) -> Result<(), Stop> {
        let mut overflow = 0;
        // SAFETY: it is an int.
        let number = unsafe { ffi::PyLong_AsLongAndOverflow(object, &mut overflow) };
        if overflow == 0 {
            return Ok(self.out.int(number)?);
        }
        // SAFETY: it is an int.
        unsafe { self.large_int(object, overflow) }
    }

    /// Writes an int of more than 63 bits. One of more than 64 is left to the pickler: the stable interface gives its
    /// digits only as text, which takes longer.
    #[cold]
    unsafe fn large_int(&mut self, object: *mut ffi::PyObject, overflow: std::ffi::c_int) -> Result<(), Stop> {
        if overflow < 0 {
            return Err(Stop::NotOurs);
        }
        // SAFETY: it is an int. If it is too large, an exception is set, and that is all that one can be set for.
        unsafe {
            let number = ffi::PyLong_AsUnsignedLongLong(object);
            if number == u64::MAX && !ffi::PyErr_Occurred().is_null() {
                ffi::PyErr_Clear();
                return Err(Stop::NotOurs);
            }
            Ok(self.out.unsigned(number)?)
        }
    }

    #[inline(always)]
    unsafe fn text(&mut self, object: *mut ffi::PyObject) -> Result<(), Stop> {
        let mut len = 0;
        // SAFETY: it is a str, whose bytes belong to it and live as long as it does.
        unsafe {
            let shared = ffi::Py_REFCNT(object) != 1;
            if shared {
                if let Some(number) = self.memo.find(object.addr()) {
                    return Ok(self.out.get(number)?);
                }
            }
            let text = ffi::PyUnicode_AsUTF8AndSize(object, &mut len);
            if text.is_null() {
                return self.text_with_surrogates(object, shared);
            }
            self.out.str(std::slice::from_raw_parts(text.cast::<u8>(), len as usize))?;
            // The interpreter has one object for each text of one ASCII character.
            self.memoize(object, shared && len > 1)
        }
    }

    #[cold]
    unsafe fn text_with_surrogates(&mut self, object: *mut ffi::PyObject, shared: bool) -> Result<(), Stop> {
        // SAFETY: it is a str; both names end with 0.
        unsafe {
            ffi::PyErr_Clear();
            let (codec, errors) = (c"utf-8".as_ptr(), c"surrogatepass".as_ptr());
            let bytes = OwnedReference(ffi::PyUnicode_AsEncodedString(object, codec, errors));
            if bytes.0.is_null() {
                return Err(Stop::Raised);
            }
            self.out.str(bytes_of(bytes.0)?)?;
            self.memoize(object, shared)
        }
    }

    #[inline(always)]
    unsafe fn memoize(&mut self, object: *mut ffi::PyObject, shared: bool) -> Result<(), Stop> {
        if shared {
            self.out.memoize()?;
            self.memo.insert(object.addr())?;
        }
        Ok(())
    }
}

/// The bytes of a bytes object.
unsafe fn bytes_of<'a>(object: *mut ffi::PyObject) -> Result<&'a [u8], Stop> {
    let (mut at, mut len) = (std::ptr::null_mut(), 0);
    // SAFETY: the caller says that it is a bytes object, which never changes, and keeps it.
    unsafe {
        match ffi::PyBytes_AsStringAndSize(object, &mut at, &mut len) {
            0 => Ok(std::slice::from_raw_parts(at.cast::<u8>(), len as usize)),
            _ => Err(Stop::Raised),
        }
    }
}

/// A new reference, or null. It is given back when this is dropped.
struct OwnedReference(*mut ffi::PyObject);

impl Drop for OwnedReference {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: this owns the reference, and the interpreter's lock is held during the walk.
        unsafe { ffi::Py_XDECREF(self.0) };
    }
}
